"""A sparkline: small bars over time, drawn by the server, with a text that says the same."""

from collections.abc import Sequence
from dataclasses import dataclass

#: Size of a bar with its gap, of the bar alone, and of the tallest one, in pixels.
STEP, BAR, HEIGHT = 4, 3, 24


@dataclass(frozen=True, slots=True)
class Sparkline:
    """
    Numbers of equal spans of time, the oldest first.

    Attributes:
        numbers: How many in each span.
        text: What they are numbers of, and since when.
    """

    numbers: Sequence[int]
    text: str

    @property
    def width(self) -> int:
        return STEP * len(self.numbers)

    @property
    def height(self) -> int:
        return HEIGHT

    @property
    def alternative(self) -> str:
        """What a reader who does not see the bars is told."""
        most = max(self.numbers, default=0)
        last = self.numbers[-1] if self.numbers else 0
        return (
            f"{self.text}, in {len(self.numbers)} equal steps: "
            f"{most:,} in the highest, {last:,} in the last"
        )

    @property
    def path(self) -> str:
        """The bars as an SVG path; where there was something, at least two pixels high."""
        most = max(self.numbers, default=0)
        heights = [max(round(HEIGHT * each / most), 2) if each else 1 for each in self.numbers]
        return "".join(
            f"M{STEP * place} {HEIGHT}v-{height}h{BAR}v{height}z"
            for place, height in enumerate(heights)
        )
