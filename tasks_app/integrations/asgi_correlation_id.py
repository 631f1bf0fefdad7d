"""
The id that asgi-correlation-id gives a request, in its contextvar.

No setting tells that a project uses it: `asgi.py` imports it, often after Django is set up, or
`LOGGING` names its filter. So this module does not import it, but looks whether somebody has.
"""

import sys
from typing import Any

from tasks_app.context import ForeignID


def _variable() -> Any:
    return getattr(sys.modules.get("asgi_correlation_id.context"), "correlation_id", None)


def _read() -> Any:
    variable = _variable()
    return variable and variable.get()


def _write(request_id: str | None) -> None:
    variable = _variable()
    if variable is not None:
        variable.set(request_id)


FOREIGN_ID = ForeignID(_read, _write, adds_header=True)
