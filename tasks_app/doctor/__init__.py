"""
The doctor: looks at everything that needs a connection, one small probe after the other.

A probe returns what it found and never changes an outcome. Each runs in a thread of its own with
a deadline, and an exception is a finding, so neither stops the others. What stands on something
that failed is not asked: a dead database is said once.
"""

from collections.abc import Iterator

from tasks_app.doctor import broker, database, outcomes, project
from tasks_app.doctor.findings import Finding, Probe, Status, bounded, warn

PROBES = (
    Probe("system checks", project.system_checks),
    Probe("task modules", project.task_modules),
    Probe("database", database.reachable),
    Probe("database version", database.version, needs="database"),
    Probe("transaction isolation", database.isolation, needs="database"),
    Probe("migrations", database.migrations, needs="database"),
    Probe("clock skew", database.clock_skew, needs="migrations"),
    Probe("clock order", database.clock_order, needs="migrations"),
    Probe("broker", broker.round_trip),
    Probe("broker policy", broker.policy, needs="broker"),
    Probe("workers", broker.workers, needs="broker"),
    Probe("relay lag", outcomes.relay_lag, needs="migrations"),
    Probe("paused queues", outcomes.resting_queues, needs="migrations"),
    Probe("unclaimed announcements", outcomes.unclaimed, needs="migrations"),
    Probe("dead leases", outcomes.dead_leases, needs="migrations"),
    Probe("unknown tasks", outcomes.unknown_tasks, needs="migrations"),
)


def examine() -> Iterator[Finding]:
    """Run every probe in turn and yield what it found."""
    unusable: set[str] = set()
    for probe in PROBES:
        if probe.needs in unusable:
            finding = warn(f"not asked, since this failed: {probe.needs}").of(probe.name)
        else:
            finding = bounded(probe)
        if finding.status is Status.FAIL or probe.needs in unusable:
            unusable.add(probe.name)
        yield finding
