"""
A transport of its own for every forked process.

A worker's main process tells of its lost children, and forks their successors. Such a child would
inherit open connections, on which two processes then talk at once, and events that wait to be sent,
which both would send. So a child begins with a transport as new as its process.
"""

import os
from functools import cache
from typing import Any

import sentry_sdk
from sentry_sdk.transport import HttpTransport, make_transport


@cache
def connect() -> None:
    """Renew the transport in every child that is forked from now on."""
    os.register_at_fork(after_in_child=_renew)


def _renew() -> None:
    client: Any = sentry_sdk.get_client()
    if type(client.transport) is HttpTransport:
        client.transport = make_transport(client.options)
