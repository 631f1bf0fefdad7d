"""
The fault matrix: what each case injects, and what its last runs have shown.

The cases name their row (`test_f08_…`) and leave, where time matters, how long recovery took.
Runs with `TASKS_TEST_REPORTS=FOLDER` leave JUnit reports there; this writes what all reports
below a folder say into `docs/reliability.md`:

    TASKS_TEST_REPORTS=/tmp/reports python3 run.py test tests/faults/test_every_pair.py
    python -m tests.faults.matrix /tmp/reports
"""

from __future__ import annotations

import re
import statistics
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree as ET

from tests.pairs import ROOT

PAGE = ROOT / "docs" / "reliability.md"

#: Between these lines of the page stands the table.
BEGIN, END = "<!-- matrix -->\n", "<!-- end of matrix -->\n"

#: Promises and fault by its number. A number that is missing was never given.
FAULTS = {
    1: ("1", "A process dies inside its transaction, after `enqueue`"),
    2: ("1", "A process dies right after the commit of an `enqueue`"),
    3: ("1", "The answer to an enqueuer's COMMIT is lost; the caller tries again, same key"),
    4: ("1", "The transaction or savepoint around an `enqueue` is rolled back"),
    5: ("1", "Eight callers enqueue under the same key at once"),
    6: ("1", "A caller uses a key again with other arguments"),
    7: ("1", "A second caller waits for the open transaction that holds its key"),
    8: ("1", "A relay dies between taking a batch and publishing it"),
    9: ("1, 3", "A relay dies after publishing, before it does anything else"),
    10: ("1, 3", "Three relays take from one outbox"),
    11: ("1", "A row that was inserted first commits last"),
    12: ("1, 2", "No broker listens"),
    13: ("1, 2", "The broker takes connections and never answers"),
    14: ("1, 2", "The broker is paused, then goes on"),
    15: ("1", "Redis is killed and comes back empty"),
    16: ("1", "Redis is flushed while messages wait"),
    17: ("1", "RabbitMQ is killed and comes back empty"),
    18: ("1, 3", "The broker's answer to a publish is lost"),
    19: ("1", "A publish is lost without a word"),
    20: ("1, 5", "The link between worker and broker is half open, then heals"),
    21: ("1, 5", "A worker dies with a message in its hand, before it has claimed the row"),
    22: ("3", "A message is delivered five times at once"),
    24: ("1", "A message arrives before its row is visible"),
    25: ("3", "A message names a row that does not exist"),
    26: ("3, 5", "A worker dies right after its claim"),
    27: ("3, 5", "A worker dies inside the helper"),
    28: ("3, 5", "A worker dies after the helper's effect, before the success is written"),
    29: ("3, 5", "A worker dies after the success is written, before its commit"),
    30: ("3", "A worker dies after the commit, before Celery is told"),
    31: ("3, 5", "The answer to a worker's COMMIT is lost"),
    32: ("5", "A helper kills its process each time"),
    33: ("5", "A helper runs out of memory"),
    34: ("5", "A helper raises `MemoryError`"),
    35: ("5", "A helper raises `SystemExit` or `KeyboardInterrupt`, or calls `os._exit`"),
    36: ("5", "A helper raises what cannot be printed or pickled"),
    37: ("3, 6", "A worker is stopped for longer than its lease, then goes on"),
    38: ("4", "The same, around a call to a provider"),
    39: ("5", "A stopped worker holds row locks that others want"),
    41: ("3, 5", "C code holds the interpreter's lock for longer than the lease"),
    42: ("3, 5", "The database is killed while helpers run"),
    43: ("5", "The database is away when a helper ends"),
    44: ("5", "The database restarts under an idle worker"),
    45: ("3, 5", "The database is paused for longer than a lease"),
    47: ("3", "The database refuses for a deadlock or a serialization failure"),
    48: ("3", "A lock wait times out"),
    49: ("1", "Another process holds SQLite's write lock for seconds"),
    50: ("1, 5", "The disk is full: database, embedded broker"),
    51: ("3, 5", "A worker's clock is two hours ahead or behind"),
    53: ("10", "Two beats; a beat that is killed; a beat that was paused"),
    54: ("10", "The broker is down when a schedule is due"),
    55: ("10", "A schedule meets the change to and from summer time"),
    56: ("5", "A deploy renames a task, changes its signature, or lacks its module"),
    57: ("5", "Old workers meet the new schema"),
    58: ("3, 5", "A worker gets SIGTERM, SIGTERM and SIGKILL, SIGQUIT, or its group gets SIGTERM"),
    59: ("5", "Malformed and forged messages"),
    60: ("1", "Arguments of every kind"),
    61: ("3", "Results of every kind"),
    62: ("6, 7", "A cancellation races with a claim, a success, a retry, a rescue"),
}

#: Rows that other suites inject.
ELSEWHERE = {
    53: "tests/periodic/test_killed_beats.py",
    55: "tests/unit/test_timetables.py",
    59: "tests/conformance/scenarios/test_hostile_messages.py",
}

#: `test_f08_…`, `test_f26_f29_…`, or `test_f26_to_f30_…`, with what stands in brackets.
NAME = re.compile(r"test_f(\d\d)(?:(_to)?_f(\d\d))?_\w+(?:\[(.*)\])?$", re.DOTALL)


@dataclass
class Row:
    """What the reports say about one fault."""

    names: set[str] = field(default_factory=set)
    pairs: set[str] = field(default_factory=set)
    passed: int = 0
    failed: int = 0
    recovered: list[float] = field(default_factory=list)

    def add(self, pair: str, case: ET.Element) -> None:
        """Add one run of one case; a skipped one says nothing."""
        if case.find("skipped") is not None:
            return
        properties = {each.get("name"): str(each.get("value")) for each in case.iter("property")}
        self.names.add(str(case.get("name")).split("[")[0])
        self.pairs.add(pair)
        if case.find("failure") is None and case.find("error") is None:
            self.passed += 1
        else:
            self.failed += 1
        if "recovered_seconds" in properties:
            self.recovered.append(float(properties["recovered_seconds"]))

    @property
    def result(self) -> str:
        """Return how often the cases passed, and where."""
        verdict = f"{self.passed} passed" + (f", {self.failed} FAILED" if self.failed else "")
        return f"{verdict} on {len(self.pairs)}"

    @property
    def times(self) -> str:
        """Return median and worst time to recover, in seconds."""
        if not self.recovered:
            return "–"
        return f"{statistics.median(self.recovered):.1f} / {max(self.recovered):.1f}"


def numbers(name: str) -> list[int]:
    """Return the faults that a case names; a parameter such as `f27 in the body` names its own."""
    match = NAME.match(name)
    if match is None:
        return []
    first, to, last, parameter = match.groups()
    if own := re.match(r"f(\d\d) ", parameter or ""):
        return [int(own[1])]
    if to:
        return list(range(int(first), int(last) + 1))
    return [int(number) for number in (first, last) if number]


def read(reports: Iterable[Path]) -> dict[int, Row]:
    """Return the rows that the cases of all reports add up to."""
    rows: dict[int, Row] = {}
    for report in reports:
        pair = report.stem.split("-", 2)[2]
        for case in ET.parse(report).iter("testcase"):
            for number in numbers(str(case.get("name"))):
                rows.setdefault(number, Row()).add(pair, case)
    return rows


def table(rows: dict[int, Row]) -> Iterator[str]:
    """Return the lines of the matrix."""
    yield "| | Fault | Promise | Cases | Last result: runs, pairs | Recovery, s: median / worst |"
    yield "|---|---|---|---|---|---|"
    for number, (promises, fault) in FAULTS.items():
        found = " | ".join(cells(number, rows.get(number)))
        yield f"| F{number:02} | {fault} | {promises} | {found} |"


def cells(number: int, row: Row | None) -> list[str]:
    """Return cases, result and times of one fault."""
    if number in ELSEWHERE:
        return [f"`{ELSEWHERE[number]}`", "in every run of the suite", "–"]
    if row is None or not row.names:
        return ["–", "NOT RUN", "–"]
    names = "<br>".join(f"`{name}`" for name in sorted(row.names))
    return [names, row.result, row.times]


def main(folder: Path) -> None:
    """Write the matrix of all reports below a folder into the page."""
    rows = read(sorted(folder.rglob("faults-*.xml")))
    before, rest = PAGE.read_text().split(BEGIN)
    after = rest.split(END)[1]
    lines = "\n".join(table(rows))
    PAGE.write_text(f"{before}{BEGIN}\n{lines}\n\n{END}{after}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
