"""
What one PostgreSQL primary has to do for so many outcomes a day: arithmetic on measured figures.

`benchmarks.carrying` measured what one outcome costs; here it is multiplied. The table in
`docs/scaling.md` is printed by `python -m benchmarks.capacity`, and written there by `--write`.
"""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.figures import Sheet

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "scaling.md"
#: What `python -m benchmarks.carrying` measured last.
FIGURES = ROOT / "docs" / "_static" / "scaling" / "carrying.json"

#: The days that the page reckons with: outcomes.
DAYS = (1_000_000, 10_000_000, 100_000_000)

SECONDS = 86_400

#: The busiest second has so many times the mean of its day.
PEAK = 4

#: Days that outcomes are kept: the default for those that succeed.
KEPT = 7

#: Share of dead rows at which autovacuum comes, and its memory: PostgreSQL's defaults.
SCALE_FACTOR, VACUUM_MEMORY = 0.2, 64 * 2**20

#: Bytes that a vacuum remembers a dead row in, before PostgreSQL 17.
REMEMBERED = 6

#: Transaction ids until PostgreSQL stops to save old rows from a wrap-around.
IDS = 2**31

#: The legs of an outcome's way, for a call that is enqueued by itself.
LEGS = ("enqueue", "announce", "run")

PRUNING = ("prune", "vacuum after prune")


@dataclass(frozen=True)
class Outcome:
    """
    What one outcome costs the server, from `enqueue` to prune.

    Attributes:
        log: Bytes of the write-ahead log without page images.
        images: Bytes of page images of the first ones after a checkpoint, when most pages that
            they touch are logged whole.
        table: Bytes of its rows at rest.
        indexes: Bytes of their entries.
        cpu: Seconds of the server's CPU.
        dead: Rows that it leaves dead behind, without prune.
        hot: Share of updates that touch no index.
        prune: Seconds of the server's and of the pruning process' CPU.
        prune_log: Bytes of the log that prune and its vacuum write, with page images.
        partitioned: Seconds of the server's CPU until success, where there are thirty partitions.
        whole: The same where there are none.
        drop: Seconds of the server's CPU, as a share of a partition that goes.
    """

    log: float
    images: float
    table: float
    indexes: float
    cpu: float
    dead: float
    hot: float
    prune: float
    prune_log: float
    partitioned: float
    whole: float
    drop: float

    #: Transactions that write: enqueue, claim, success.
    transactions = 3
    #: Of those, the ones that wait for the disk.
    flushes = 2

    @classmethod
    def of(cls, sheet: Sheet) -> Outcome:
        """Return the costs in a sheet of `benchmarks.carrying`."""
        value = {figure.measure: figure.median for figure in sheet}

        def total(kind: str, legs: tuple[str, ...]) -> float:
            return sum(value[f"{kind} of {leg}"] for leg in legs)

        whole = (*LEGS, "vacuum", *PRUNING)
        sizes = {name: size for name, size in value.items() if name.startswith("size of ")}
        tables = {"size of tasks_app_outcome", "size of tasks_app_attempt"}
        return cls(
            log=total("WAL", whole),
            images=total("page images", tuple(f"{leg} after a checkpoint" for leg in LEGS)),
            table=sum(size for name, size in sizes.items() if name in tables),
            indexes=sum(size for name, size in sizes.items() if name not in tables),
            cpu=total("server CPU", whole) / 1e6,
            dead=value["updates"],
            hot=value["HOT updates"] / value["updates"],
            prune_log=total("WAL", PRUNING) + total("page images", PRUNING),
            partitioned=total("server CPU", tuple(f"{leg} in partitions" for leg in LEGS)) / 1e6,
            whole=total("server CPU", LEGS) / 1e6,
            drop=total("server CPU", ("drop of a partition",)) / 1e6,
            prune=(total("server CPU", PRUNING) + total("own CPU", PRUNING)) / 1e6,
        )


@dataclass(frozen=True)
class Load:
    """What a primary has to do where each of so many outcomes a day costs so much."""

    outcome: Outcome
    a_day: int

    @property
    def mean(self) -> float:
        """Outcomes per second, over the day."""
        return self.a_day / SECONDS

    @property
    def peak(self) -> float:
        """Outcomes in the busiest second."""
        return self.mean * PEAK

    @property
    def written(self) -> float:
        """Row versions per second at the peak: two inserts, and the updates."""
        return self.peak * (2 + self.outcome.dead)

    @property
    def cores(self) -> float:
        """Cores that the server is busy with at the peak."""
        return self.peak * self.outcome.cpu

    @property
    def flushes(self) -> float:
        """Commits per second that wait for the disk at the peak; some share a wait."""
        return self.peak * self.outcome.flushes

    @property
    def log(self) -> float:
        """Bytes of write-ahead log a day where checkpoints are rare."""
        return self.a_day * self.outcome.log

    @property
    def most_log(self) -> float:
        """Bytes of it if every outcome had as many page images as the first after a checkpoint."""
        return self.a_day * (self.outcome.log + self.outcome.images)

    @property
    def rows(self) -> int:
        """Outcomes that are there at a time."""
        return self.a_day * KEPT

    @property
    def stored(self) -> float:
        """Bytes of tables and indexes, with the dead rows that autovacuum has not come for."""
        dead = SCALE_FACTOR * self.outcome.table
        return self.rows * (self.outcome.table + self.outcome.indexes + dead)

    @property
    def indexes(self) -> float:
        """Bytes of the indexes alone."""
        return self.rows * self.outcome.indexes

    @property
    def dead(self) -> float:
        """Dead rows a day: those of updates, and of prune one of each table."""
        return self.a_day * (self.outcome.dead + 2)

    @property
    def vacuums(self) -> float:
        """Vacuums of the outcomes a day: each reads all that there is, and all indexes."""
        return self.a_day * (self.outcome.dead + 1) / (SCALE_FACTOR * self.rows)

    @property
    def passes(self) -> int:
        """How often each of them reads the indexes, with the memory that it has by default."""
        return math.ceil(SCALE_FACTOR * self.rows * REMEMBERED / VACUUM_MEMORY)

    @property
    def scanned(self) -> float:
        """Bytes per second that vacuums read, over the day, if they skip no page of the table."""
        a_pass = self.indexes * self.passes + self.rows * self.outcome.table
        return self.vacuums * a_pass / SECONDS

    @property
    def days_to_wrap(self) -> float:
        """Days in which all transaction ids are used up."""
        return IDS / (self.a_day * self.outcome.transactions)

    @property
    def pruning(self) -> float:
        """Hours a day in which one process is busy pruning, its server included."""
        return self.a_day * self.outcome.prune / 3600


def size(number: float) -> str:
    """Return bytes in the largest unit that leaves a whole number."""
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:  # noqa: PLR2004 - kilo
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:,.3g} TB"


#: Line of the table → its value for a load.
LINES: dict[str, Callable[[Load], str]] = {
    "Outcomes per second, mean": lambda load: f"{load.mean:,.0f}",
    f"Outcomes per second, peak ({PEAK} times the mean)": lambda load: f"{load.peak:,.0f}",
    "Row versions written per second, peak": lambda load: f"{load.written:,.0f}",
    "Commits per second that wait for the disk, peak": lambda load: f"{load.flushes:,.0f}",
    "Cores that the server is busy with, peak": lambda load: f"{load.cores:.2g}",
    "WAL a day, checkpoints rare": lambda load: size(load.log),
    "WAL a day, as right after a checkpoint": lambda load: size(load.most_log),
    f"Outcomes kept ({KEPT} days)": lambda load: f"{load.rows / 1e6:,.0f} million",
    "Tables and indexes": lambda load: size(load.stored),
    "Of that, indexes": lambda load: size(load.indexes),
    "Dead rows a day, those of prune included": lambda load: f"{load.dead / 1e6:,.0f} million",
    "Vacuums of the outcomes a day": lambda load: f"{load.vacuums:.1f}",
    "Passes over the indexes in each": lambda load: f"{load.passes:,}",
    "Read by vacuums per second, mean, at most": lambda load: size(load.scanned),
    "Hours a day that one process prunes": lambda load: f"{load.pruning:.2g}",
    "Days until the transaction ids come round": lambda load: f"{load.days_to_wrap:,.0f}",
}


def costs(outcome: Outcome) -> str:
    """Return what one outcome costs, as a table in Markdown."""
    lines = {
        "WAL, without page images": size(outcome.log),
        "Page images, right after a checkpoint": size(outcome.images),
        "Rows at rest": size(outcome.table),
        "Index entries at rest": size(outcome.indexes),
        "CPU of the server": f"{outcome.cpu * 1e3:.2g} ms",
        "Dead rows by updates, share of HOT updates": f"{outcome.dead:.0f}, {outcome.hot:.0%}",
        "CPU of prune, server and process": f"{outcome.prune * 1e6:.2g} µs",
        "WAL of prune, page images included": size(outcome.prune_log),
        "CPU of the server until success": f"{outcome.whole * 1e3:.2g} ms",
        "The same in 30 partitions": f"{outcome.partitioned * 1e3:.2g} ms",
        "CPU of the server to drop it with its partition": f"{outcome.drop * 1e6:.2g} µs",
    }
    return "\n".join(["| One outcome | |", "|---|---|", *map(row, lines, lines.values())])


def loads(outcome: Outcome) -> str:
    """Return what the days ask of a primary, as a table in Markdown."""
    days = [Load(outcome, a_day) for a_day in DAYS]
    head = row("Outcomes a day", *(f"{load.a_day / 1e6:,.0f} million" for load in days))
    lines = [row(name, *map(value, days)) for name, value in LINES.items()]
    return "\n".join([head, "|---" * (len(days) + 1) + "|", *lines])


def row(*cells: str) -> str:
    """Return a row of a table."""
    return "| " + " | ".join(cells) + " |"


def written(page: str, name: str, table: str) -> str:
    """Return a page with a table between the two comments of its name."""
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    pattern = re.escape(begin) + ".*?" + re.escape(end)
    return re.sub(pattern, lambda _: f"{begin}\n\n{table}\n\n{end}", page, flags=re.DOTALL)


def rendered(page: str, outcome: Outcome) -> str:
    """Return the page with both tables."""
    return written(written(page, "costs", costs(outcome)), "loads", loads(outcome))


def main() -> None:
    """Print the tables, or write them into the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.capacity", description=__doc__)
    parser.add_argument("--figures", type=Path, default=FIGURES, help="a sheet of carrying")
    parser.add_argument("--write", action="store_true", help="write them into docs/scaling.md")
    given = parser.parse_args()
    outcome = Outcome.of(Sheet.read(given.figures))
    if given.write:
        PAGE.write_text(rendered(PAGE.read_text(), outcome))
    else:
        print(costs(outcome), loads(outcome), sep="\n\n")


if __name__ == "__main__":
    main()
