"""What a benchmark says: medians of the rounds, their spread, and the ratios that carry over."""

import statistics

from benchmarks.figures import Sheet


class Rounds:
    """
    Speeds of the contestants, round by round.

    A ratio is the median of the ratios within each round: neighbours of a round share the
    machine's mood, so its noise cancels out.
    """

    def __init__(self, unit: str) -> None:
        self.unit = unit
        self.speeds: dict[str, list[float]] = {}

    def add(self, contestant: str, speed: float) -> None:
        """Note one contestant's speed in the current round."""
        self.speeds.setdefault(contestant, []).append(speed)

    def tell_round(self, number: int) -> None:
        """Print the round that has just ended."""
        last = ", ".join(f"{name} {speeds[-1]:,.0f}" for name, speeds in self.speeds.items())
        print(f"round {number + 1}: {last} {self.unit}", flush=True)

    def tell(self) -> None:
        """Print medians with half ranges, and the first contestant's ratio to each other one."""
        first, *others = self.speeds
        for name, speeds in self.speeds.items():
            print(
                f"{name:24} {statistics.median(speeds):10,.0f} {self.unit} ±{_spread(speeds):.0%}"
            )
        for name in others:
            pairs = zip(self.speeds[first], self.speeds[name], strict=True)
            ratios = [own / other for own, other in pairs]
            print(
                f"{first} / {name}: {statistics.median(ratios):.2f} "
                f"({min(ratios):.2f} to {max(ratios):.2f})"
            )


def tell_sheet(sheet: Sheet) -> None:
    """Print each figure: its median, lowest and highest value, and the machine's highest load."""
    for figure in sheet:
        lowest, highest = min(figure.values), max(figure.values)
        print(
            f"{figure.measure:44} {figure.contestant:28} {figure.median:10,.3f} {figure.unit} "
            f"({lowest:,.3f} to {highest:,.3f}; load {max(figure.loads):.1f})"
        )


def _spread(speeds: list[float]) -> float:
    return (max(speeds) - min(speeds)) / 2 / statistics.median(speeds)
