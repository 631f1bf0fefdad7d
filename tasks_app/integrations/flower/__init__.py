"""
Flower beside this app: shut by default, read-only by default, and linked with the admin.

Importing this package changes no running thing: when Flower is about to listen, it gets our
defaults below the options that it was given, is refused where it would be open to the network
(`doors`), and learns where outcomes are (`pages`). It also learns the embedded broker (`broker`).
`celery.py` loads this package in processes that have loaded Flower already, and in no others.
"""

from typing import Any

from flower.app import Flower

from tasks_app.conf import conf
from tasks_app.integrations.flower import broker, doors, pages

#: What a table of tasks shows: nothing of arguments and results, whatever Flower's default is.
COLUMNS = "name,uuid,state,received,runtime,retries,worker"

#: Where Flower begins to listen; before 2.2 it did so in `start`.
LISTEN = "start_http_server" if hasattr(Flower, "start_http_server") else "start"

_listen = getattr(Flower, LISTEN)


def prepare(flower: Any) -> None:
    """Make a Flower ready to be seen."""
    set_defaults(flower.options)
    doors.check(flower.options)
    pages.connect(flower)


def set_defaults(options: Any) -> None:
    """Change what holds where environment, configuration file and command line say nothing."""
    given = {
        "address": "127.0.0.1",
        "read_only": conf.FLOWER_READ_ONLY,
        "tasks_columns": COLUMNS,
    }
    for name, value in given.items():
        if name not in options:  # a Flower before 2.2 that cannot be read-only by itself
            options.define(name, default=value)
        # Not the option itself: a project's own Celery app brings us in after they have been read.
        options._options[name.replace("_", "-")].default = value  # noqa: SLF001 - as Flower does


def _prepare_and_listen(flower: Any) -> Any:
    prepare(flower)
    return _listen(flower)


setattr(Flower, LISTEN, _prepare_and_listen)
broker.connect()
