"""The filters that `list`, `retry` and `cancel` share, from the command line to a `Selection`."""

import argparse
from collections.abc import Callable, Mapping
from typing import Any

from tasks_app.selection import Selection, SelectionError, read_age, read_state


def add_filters(parser: argparse.ArgumentParser) -> None:
    """Add the options that name outcomes by what they are."""
    group = parser.add_argument_group("filters", "All given ones hold.")
    group.add_argument(
        "--state",
        dest="states",
        action="append",
        default=[],
        type=argument(read_state),
        metavar="STATE",
        help="pending, running, succeeded, failed, cancelled or expired; may be given again",
    )
    for name in ("task", "queue"):
        group.add_argument(
            f"--{name}",
            dest=f"{name}s",
            action="append",
            default=[],
            metavar="NAME",
            help=f"of this {name}; may be given again",
        )
    group.add_argument(
        "--older-than", type=argument(read_age), metavar="AGE", help="enqueued before: 90s, 10m, 2d"
    )
    group.add_argument(
        "--newer-than", type=argument(read_age), metavar="AGE", help="enqueued since: 90s, 10m, 2d"
    )
    group.add_argument("--request-id", metavar="ID", help="caused by this request")


def selection_of(options: Mapping[str, Any]) -> Selection:
    """Return what the parsed options select."""
    return Selection(
        states=tuple(options["states"]),
        tasks=tuple(options["tasks"]),
        queues=tuple(options["queues"]),
        older_than=options["older_than"],
        newer_than=options["newer_than"],
        request_id=options["request_id"],
    )


def argument(read: Callable[[str], Any]) -> Callable[[str], Any]:
    """Return a reader whose complaints argparse shows as they are."""

    def read_argument(text: str) -> Any:
        try:
            return read(text)
        except SelectionError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return read_argument


def positive(text: str) -> int:
    """Return a whole number of at least one."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of at least 1.")
    return int(text)
