"""
Crash points: places on a call's path where a process may be made to die, stop or fail.

They exist to prove what a crash between two statements leaves behind, and are off unless the
environment variable `TASKS_APP_CRASH` arms some: then `crash_point` is a call of an empty
function. Several are separated by semicolons, options by commas:

    TASKS_APP_CRASH="claim.after:kill:nth=2;relay.after_take:stop:chance=0.02,seed=7"

An armed point says on standard error that it was reached, before it acts. Nothing is written,
caught or cleaned up for it: what happens next is what a real crash there would leave.
"""

import os
import random
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tasks_app.exceptions import ConfigurationError
from tasks_app.suggestions import did_you_mean

#: Name of the environment variable that arms crash points.
VARIABLE = "TASKS_APP_CRASH"

#: Every point, with the moment it stands for.
POINTS: Mapping[str, str] = {
    "enqueue.after_reserve": "the idempotency key is taken, its outcome not inserted",
    "enqueue.after_insert": "the rows are inserted; in the caller's transaction, if there is one",
    "relay.after_take": "the batch's next announcement is committed, no bell has rung",
    "relay.after_message": "one bell of the batch has rung",
    "relay.after_publish": "the broker has every bell of the batch",
    "relay.before_put_back": "the broker refused the batch, whose rows are not due again yet",
    "adopt.after_insert": "a foreign message has its row, which nobody has claimed",
    "claim.before": "the message is gone from the broker, its outcome not claimed",
    "claim.after": "the claim is committed, the helper not called",
    "run.before_helper": "the helper's transaction is open, if it has one, the helper not called",
    "run.after_helper": "the helper has returned, nothing is settled",
    "success.before_commit": "`succeeded` is written and not committed",
    "success.after_commit": "`succeeded` is committed, Celery not told",
    "failure.before_commit": "the failed attempt's end is written and not committed",
    "failure.after_commit": "the failed attempt's end is committed, Celery not told",
    "renew.after": "the lease is renewed",
    "rescue.before_commit": "an orphan's rescue is written and not committed",
    "rescue.after_commit": "an orphan's rescue is committed, nobody told",
    "release.after": "a stopping worker has given back some of its runs",
    "cancel.before_commit": "a cancellation is written and not committed",
    "slot.before_commit": "a schedule's slot and its outcome are written and not committed",
    "slot.after_commit": "a schedule's slot and its outcome are committed",
    "prune.after_batch": "a batch of pruned outcomes is committed",
}


class Crash(Exception):
    """What the action `raise` of an armed crash point raises."""


@dataclass(slots=True)
class Trap:
    """
    What an armed point does, and when.

    Attributes:
        point: Name of the point.
        action: `kill` (SIGKILL to this process), `stop` (SIGSTOP) or `raise` (`Crash`).
        nth: The visit of this process at which it acts; 0 leaves that to `chance`.
        chance: Probability of acting at each visit.
        seed: Makes a process' dice repeatable; other processes throw others.
        once: A file, if any, that is made when the point acts and whose presence disarms it:
            it holds for all processes together.
    """

    point: str
    action: str
    nth: int = 0
    chance: float = 0.0
    seed: int = 0
    once: str = ""
    visits: int = 0
    dice: random.Random | None = None
    thrower: int = 0

    def spring(self) -> None:
        """Count a visit of this process and act if it is time."""
        if self._is_time() and self._is_first():
            os.write(2, f"crash point {self.point}: {self.action}\n".encode())
            ACTIONS[self.action](self.point)

    def _is_time(self) -> bool:
        if self.thrower != os.getpid():
            # Forked children would otherwise throw their parent's dice, all the same.
            self.thrower, self.visits = os.getpid(), 0
            self.dice = random.Random(f"{self.seed}/{self.thrower}")  # noqa: S311 - guards nothing
        self.visits += 1
        if self.nth:
            return self.visits == self.nth
        return self.dice is not None and self.dice.random() < self.chance

    def _is_first(self) -> bool:
        if not self.once:
            return True
        try:
            Path(self.once).touch(exist_ok=False)
        except FileExistsError:
            return False
        return True


def _raise(point: str) -> None:
    raise Crash(point)


ACTIONS: Mapping[str, Callable[[str], None]] = {
    # To this thread: sent to the process, a signal may let the thread run on for a moment.
    "kill": lambda point: signal.raise_signal(signal.SIGKILL),
    "stop": lambda point: signal.raise_signal(signal.SIGSTOP),
    "raise": _raise,
}

_READERS: Mapping[str, Callable[[str], int | float | str]] = {
    "nth": int,
    "chance": float,
    "seed": int,
    "once": str,
}


def read(text: str) -> dict[str, Trap]:
    """
    Return the traps that a value of `TASKS_APP_CRASH` sets, by point.

    Raises:
        ConfigurationError: an unknown point, action or option, or a number that is none.
    """
    traps = [_read_one(part.strip()) for part in text.split(";") if part.strip()]
    return {trap.point: trap for trap in traps}


def _read_one(text: str) -> Trap:
    point, _, rest = text.partition(":")
    action, _, tail = rest.partition(":")
    _expect("crash point", point, POINTS)
    _expect("action", action, ACTIONS)
    trap = Trap(point, action)
    for option in filter(None, tail.split(",")):
        name, _, value = option.partition("=")
        _expect("option", name, _READERS)
        try:
            setattr(trap, name, _READERS[name](value))
        except ValueError as error:
            raise ConfigurationError(f"{VARIABLE}: {name}={value!r} is no number.") from error
    if not trap.nth and not trap.chance:
        trap.nth = 1
    return trap


def _expect(kind: str, word: str, known: Mapping[str, object]) -> None:
    if word not in known:
        raise ConfigurationError(f"{VARIABLE}: unknown {kind} {word!r}.{did_you_mean(word, known)}")


def is_armed(point: str) -> bool:
    """Tell whether a point is to do anything in this process."""
    return point in _TRAPS


def _pass(point: str) -> None:
    """Do nothing: no point is armed."""


def _visit(point: str) -> None:
    trap = _TRAPS.get(point)
    if trap is not None:
        trap.spring()


_TRAPS = read(os.environ.get(VARIABLE, ""))

#: Called where a crash point stands, with its name; an empty function unless some are armed.
crash_point = _visit if _TRAPS else _pass
