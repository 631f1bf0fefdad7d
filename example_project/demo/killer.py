"""``--kill``: SIGKILL, every few seconds, to a worker's child or to the whole worker.

Nothing is asked first and nothing is spared: the point is that the totals come out the same. The
seed decides when and whom, as far as a machine's timing lets it.
"""

import os
import random
import signal
import threading
from contextlib import suppress

from example_project.demo.programs import Program, children_of, say

#: Seconds between two strikes, at least and at most.
PAUSE = (2.0, 5.0)
#: Share of the strikes that take the whole worker.
WHOLE = 0.35


class Killer:
    """Strikes one program until told to stop, and counts."""

    def __init__(self, victim: Program, seed: int) -> None:
        self.kills = 0
        self._victim = victim
        self._choice = random.Random(seed)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begin, in a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """Strike no more; returns when the last strike is over."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._choice.uniform(*PAUSE)):
            self._strike()

    def _strike(self) -> None:
        if self._victim.exit_code() is not None:
            return
        children = children_of(self._victim.pid)
        if not children:
            return  # struck while it still starts, it would never start on a slow machine
        # Also for a child's sake: a worker that loses one before it is ready ends by itself.
        self._victim.is_condemned = True
        if self._choice.random() < WHOLE:
            self._victim.kill_group()
            say("killer", 31, "killed the whole worker")
        else:
            child = self._choice.choice(children)
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
            say("killer", 31, f"killed worker child {child}")
        self.kills += 1
