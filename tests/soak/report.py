"""What a soak found out: as a document and as text."""

from __future__ import annotations

import dataclasses
import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tests.history.client import OK, Call
from tests.servers.session import chosen_broker, chosen_database
from tests.soak import records, samples, verdict
from tests.soak.run import Soak
from tests.soak.verdict import Facts

#: Megabytes per hour that memory may grow, and the seconds from which a slope says anything.
LARGEST_SLOPE, SHORTEST_SLOPE = 20.0, 1200.0

#: Open files that the last third of a run may have on top of the first.
MORE_FILES = 20

#: Database connections of one process at rest: the main one's relay, two children with keepers.
CONNECTIONS = 6

#: Probes whose course the document tells.
SLOWEST = 5

#: Violations that the text shows; the document has all.
SHOWN = 40


def document(soak: Soak, facts: Facts, more: Sequence[str]) -> dict[str, Any]:
    """Return all results as JSON would hold them; `more` are violations found elsewhere."""
    calls = list(facts.calls)
    memory = {role: of_role(soak, role) for role in ("worker", "relay")}
    slopes = {role: samples.slope(found) for role, found in memory.items()}
    files = samples.most_files([each for each in memory["worker"] if each.member == "worker0"])
    return {
        "pair": f"{chosen_database()}-{chosen_broker()}",
        "seed": soak.plan.seed,
        "seconds": {"faults": soak.faulty_seconds, "finish": soak.finishing_seconds},
        "tasks": len(facts.rows),
        "states": dict(Counter(row.state for row in facts.rows.values())),
        "by_task": dict(Counter(row.task for row in facts.rows.values())),
        "calls": dict(Counter(f"{call.op} {call.end}" for call in calls)),
        "kills": soak.nemesis.kills,
        "faults": dict(soak.nemesis.counts.most_common()),
        "crash_points": dict(soak.crash_points().most_common()),
        "crashes": sum(row.crashes for row in facts.rows.values()),
        "lost": len(verdict.lost(facts)),
        "doubled": len(verdict.doubled(facts)),
        "unlucky": len(verdict.unlucky(facts)),
        "recovery": recovery(soak),
        "slowest": slowest(soak),
        "taken_for_poison": {
            f"{row.task} {row.id}": records.course(row.id) for row in verdict.unlucky(facts)
        },
        "enqueue": latency(calls),
        "memory": {role: slope and dataclasses.asdict(slope) for role, slope in slopes.items()},
        "first_worker": [
            (round(each.at - soak.samples[0].at), round(each.rss / samples.MEGABYTE, 1))
            for each in soak.samples
            if each.member == "worker0"
        ],
        "files": files,
        "connections": {
            "most": max(soak.connections, default=None),
            "at_rest": soak.connections_at_rest,
        },
        "violations": [
            *soak.stage.findings,
            *verdict.judge(facts),
            *more,
            *leaks(slopes, files, soak),
        ],
    }


def of_role(soak: Soak, role: str) -> list[samples.Sample]:
    """Return the samples of the places of one role."""
    return [each for each in soak.samples if each.member.startswith(role)]


def leaks(
    slopes: Mapping[str, samples.Slope | None], files: tuple[int, int] | None, soak: Soak
) -> Iterator[str]:
    """Yield a line for each resource that is not given back."""
    for role, slope in slopes.items():
        if slope and slope.seconds >= SHORTEST_SLOPE and slope.megabytes_per_hour > LARGEST_SLOPE:
            yield f"the memory of each {role} grows by {slope.megabytes_per_hour:.0f} MB per hour"
    if files and files[1] > files[0] + MORE_FILES:
        yield f"the first worker's open files grew from {files[0]} to {files[1]}"
    allowed = CONNECTIONS * len(soak.watched()) + 2
    if soak.connections_at_rest and soak.connections_at_rest > allowed:
        yield f"{soak.connections_at_rest} database connections at rest, over {allowed}"


def slowest(soak: Soak) -> dict[str, list[str]]:
    """Return the courses of the probes that took longest."""
    probes = sorted(soak.recoveries(), key=lambda probe: probe.seconds)[-SLOWEST:]
    return {
        f"{probe.seconds:.2f} s after {probe.fault}": records.course(probe.outcome_id)
        for probe in probes
    }


def recovery(soak: Soak) -> dict[str, dict[str, float]]:
    """Return by fault how long it took from its end to the end of its probe."""
    found: dict[str, list[float]] = {}
    for probe in soak.recoveries():
        found.setdefault(probe.fault, []).append(probe.seconds)
    return {fault: spread(seconds) for fault, seconds in found.items()}


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return count, median and worst."""
    return {"count": len(values), "median": statistics.median(values), "worst": max(values)}


def latency(calls: Sequence[Call]) -> dict[str, float] | None:
    """Return how long successful calls of `enqueue` outside a transaction took, in seconds."""
    took = [
        call.ended - call.began
        for call in calls
        if call.op == "enqueue" and call.end == OK and call.arguments
    ]
    if len(took) < 2:
        return None
    parts = statistics.quantiles(took, n=100, method="inclusive")
    return {"count": len(took), "p50": parts[49], "p99": parts[98], "worst": max(took)}


def text(found: Mapping[str, Any]) -> str:
    """Return the document as a reader wants it."""
    return "\n".join(_lines(found))


def _lines(found: Mapping[str, Any]) -> Iterator[str]:
    seconds = found["seconds"]
    yield (
        f"{found['pair']}, seed {found['seed']}: {found['tasks']:,} tasks,"
        f" {found['kills']} kills in {seconds['faults']:.0f} s;"
        f" all final {seconds['finish']:.0f} s after the last fault"
    )
    for name in ("states", "by_task", "calls", "faults", "crash_points"):
        yield f"{name.replace('_', ' ')}: {_counts(found[name])}"
    yield (
        f"lost {found['lost']}, doubled {found['doubled']}, runs that crashed {found['crashes']},"
        f" taken for poison {found['unlucky']}"
    )
    yield "recovery in seconds (median, worst, count):"
    for fault, each in sorted(found["recovery"].items()):
        yield f"  {fault:24}{each['median']:8.2f}{each['worst']:8.2f}{each['count']:6}"
    if took := found["enqueue"]:
        yield "enqueue: " + ", ".join(
            f"{name} {took[name] * 1000:.1f} ms" for name in ("p50", "p99", "worst")
        )
    for role, slope in found["memory"].items():
        if slope:
            yield (
                f"memory of a {role}: {slope['megabytes_per_hour']:+.1f} MB per hour"
                f" over {slope['seconds']:.0f} s"
            )
    yield f"open files of the first worker, first and last third: {found['files']}"
    yield f"database connections: {_counts(found['connections'])}"
    violations = found["violations"]
    yield f"violations: {len(violations)}"
    yield from (f"  {line}" for line in violations[:SHOWN])


def _counts(counts: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items()) or "none"
