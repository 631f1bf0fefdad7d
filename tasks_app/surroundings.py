"""
Surroundings: context managers that integrations put around an act, of which none can change it.

`enqueue.surroundings`, `broker.surroundings` and `runs.surroundings` are lists of functions that
get the act's subject and return what is to stand around it, or None. An error of theirs is logged
and changes nothing; an error of the act is not told to them: they are left as if it had ended well,
and learn the rest from the subject.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import TypeVar

logger = logging.getLogger(__name__)

Subject = TypeVar("Subject")
Surrounding = AbstractContextManager[None]

_NOTHING = nullcontext()


def surrounded(
    by: Iterable[Callable[[Subject], Surrounding | None]], subject: Subject
) -> Surrounding:
    """Return a block inside what stands around an act, outermost first."""
    made = [(each, found) for each in by if (found := _make(each, subject)) is not None]
    return _entered(made, subject) if made else _NOTHING


def is_surrounded(by: Iterable[Callable[[Subject], Surrounding | None]], subject: Subject) -> bool:
    """Tell whether anything would stand around an act."""
    return any(_make(each, subject) is not None for each in by)


def _make(
    surround: Callable[[Subject], Surrounding | None], subject: Subject
) -> Surrounding | None:
    try:
        return surround(subject)
    except Exception:
        logger.exception("%s goes on without what %r adds", subject, surround)
        return None


@contextmanager
def _entered(made: Sequence[tuple[object, Surrounding]], subject: object) -> Iterator[None]:
    with ExitStack() as stack:
        for surround, surrounding in made:
            stack.enter_context(_harmless(surround, surrounding, subject))
        yield


@contextmanager
def _harmless(surround: object, surrounding: Surrounding, subject: object) -> Iterator[None]:
    """Enter and leave one surrounding; its errors are logged."""
    with ExitStack() as inner:
        try:
            inner.enter_context(surrounding)
        except Exception:
            logger.exception("%s goes on without what %r adds", subject, surround)
        left = inner.pop_all()
    try:
        yield
    finally:
        try:
            left.close()
        except Exception:
            logger.exception("%r failed after %s", surround, subject)
