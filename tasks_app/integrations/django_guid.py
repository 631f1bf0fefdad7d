"""
The id that django-guid gives a request.

It stands in a contextvar, which its log filter, its `get_guid()` and its response header read. The
package's own `set_guid` would log a line about every attempt, hence the contextvar itself.
"""

from django_guid.context import guid

from tasks_app.context import ForeignID

FOREIGN_ID = ForeignID(guid.get, guid.set)
