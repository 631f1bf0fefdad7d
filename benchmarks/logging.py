"""Logging: what each part of it costs the code that writes a line, beside a plain handler."""

from collections.abc import Sequence
from importlib import import_module

from benchmarks.report import Rounds

PARTS = (
    "plain",
    "context",
    "masking",
    "text",
    "json",
    "queued",
    "sampled",
    "kept",
    "everything",
)


def run(parts: Sequence[str], lines: int, rounds: int) -> None:
    """Let the parts write lines in turns and print each one's speed and the ratios."""
    # It sets Django up for itself.
    measure = import_module("benchmarks.with_lines").measure
    seen = Rounds("lines/s")
    for number in range(rounds):
        for part in parts:
            seen.add(part, lines / measure(part, lines))
        seen.tell_round(number)
    seen.tell()
