"""A bar for each of a schedule's newest slots, drawn by the server, with a text that says it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

#: Size of a bar with its gap, of the bar alone, and of the whole, in pixels.
STEP, BAR, HEIGHT = 7, 5, 24

#: Height of a bar whose outcome has not run, and least height of one whose outcome has.
STUB, LEAST = 3, 8


@dataclass(frozen=True, slots=True)
class Bar:
    """A slot's bar: the longer its outcome took, the higher; the kind of its end is its colour."""

    kind: str
    x: int
    height: int

    @property
    def y(self) -> int:
        return HEIGHT - self.height


@dataclass(frozen=True, slots=True)
class SlotBars:
    """Bars of slots, the oldest first."""

    decided: Sequence[Any]

    @property
    def width(self) -> int:
        return STEP * len(self.decided)

    @property
    def height(self) -> int:
        return HEIGHT

    @property
    def bar(self) -> int:
        return BAR

    @property
    def bars(self) -> list[Bar]:
        longest = max((each.lasted for each in self.decided), default=0)
        return [
            Bar(each.kind, STEP * place, _height(each, longest))
            for place, each in enumerate(self.decided)
        ]

    @property
    def alternative(self) -> str:
        """What a reader who does not see the bars is told."""
        kinds = Counter(each.kind or "without outcome" for each in self.decided)
        told = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
        last = self.decided[-1].kind or "without outcome" if self.decided else "none"
        return f"Newest slots: {told}; the last one: {last}"


def _height(decided: Any, longest: float) -> int:
    if decided.is_left_out or decided.state in {"pending", "", "pruned"}:
        return STUB
    share = decided.lasted / longest if longest else 0
    return LEAST + round((HEIGHT - LEAST) * share)
