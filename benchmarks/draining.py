"""
Draining: how fast two processes get through a backlog, what each call costs them, and their memory.

The clock runs from the first run to the last one. A drain counts only if every call ran once and,
where results are kept, every one of them says so.
"""

from collections.abc import Sequence

from benchmarks import rows, stamps, usage
from benchmarks.arena import TURN, Arena, TurnFailed
from benchmarks.course import Course, Reading
from benchmarks.figures import Sheet
from benchmarks.lineup import DRAIN, Contestant
from tests.children import Child
from tests.waiting import wait_until

NOOP = "drain, no-op"
WRITING = "drain, one row written"
WORKER_CPU = "CPU of workers per no-op"
SERVER_CPU = "CPU of servers per no-op"
CHILD_MEMORY = "memory of a process that runs tasks"
WHOLE_MEMORY = "memory of all worker processes"

#: Seconds after which a drain that does not end is a failure, on a machine that has other work.
PATIENCE = 300


def run(course: Course, sheet: Sheet, rounds: int) -> None:
    """Drain no-op calls, and then calls that write a row."""
    course.run(sheet, rounds, DRAIN, drain_noops)
    course.run(sheet, rounds, DRAIN, drain_writing)


def drain_noops(course: Course, contestant: Contestant) -> Sequence[Reading]:
    """Drain no-op calls; tell the speed, and what CPU and memory it takes."""
    arena = course.arena
    tasks = course.sizes.drained_by(contestant, course.sizes.tasks)
    _begin(arena, contestant, f"fill:{tasks}")
    servers = arena.servers(contestant)
    with arena.workers(contestant) as workers:
        _wait_for_stamps(arena, workers, 1)
        run_before, cpu_before = stamps.count(arena.stamps), _cpu(servers, workers)
        _wait_for_stamps(arena, workers, tasks)
        costs = [now - then for now, then in zip(_cpu(servers, workers), cpu_before, strict=True)]
        _wait_for_results(arena, contestant, tasks)
        memory = _memory(workers)
    each = [1_000 * cost / max(1, tasks - run_before) for cost in costs]
    return [
        Reading(NOOP, _speed(arena, tasks), "tasks/s", "higher"),
        Reading(WORKER_CPU, each[0], "ms", "lower"),
        Reading(SERVER_CPU, each[1], "ms", "lower"),
        *memory,
    ]


def drain_writing(course: Course, contestant: Contestant) -> Sequence[Reading]:
    """Drain calls that write a row each; tell the speed."""
    arena = course.arena
    tasks = course.sizes.drained_by(contestant, course.sizes.writing)
    _begin(arena, contestant, f"fill_writing:{tasks}")
    with arena.workers(contestant) as workers:
        _wait_for_stamps(arena, workers, tasks)
        _wait_for_results(arena, contestant, tasks)
    if (written := arena.ask(rows.COUNT)) != tasks:
        raise TurnFailed(f"{written} rows of {tasks}")
    return [Reading(WRITING, _speed(arena, tasks), "tasks/s", "higher")]


def _begin(arena: Arena, contestant: Contestant, fill: str) -> None:
    arena.begin(contestant)
    arena.turn(contestant, fill)
    arena.execute("ANALYZE", TURN)


def _wait_for_stamps(arena: Arena, workers: Sequence[Child], wanted: int) -> None:
    wait_until(
        lambda: stamps.count(arena.stamps) >= wanted or not all(each.running for each in workers),
        PATIENCE,
        lambda: f"{wanted} runs\n" + "\n".join(each.tail() for each in workers),
    )
    if stamps.count(arena.stamps) < wanted:
        raise TurnFailed("a worker ended\n" + "\n".join(each.tail() for each in workers))


def _wait_for_results(arena: Arena, contestant: Contestant, tasks: int) -> None:
    if contestant.ended:
        wait_until(lambda: arena.ask(contestant.ended) == tasks, 60, f"{tasks} visible results")


def _speed(arena: Arena, tasks: int) -> float:
    times = stamps.read(arena.stamps)
    if len(times) != tasks:
        raise TurnFailed(f"{len(times)} runs of {tasks} calls")
    return (tasks - 1) / (times[-1] - times[0])


def _cpu(servers: Sequence[Child], workers: Sequence[Child]) -> tuple[float, float]:
    return usage.cpu_seconds(workers), usage.cpu_seconds(servers)


def _memory(workers: Sequence[Child]) -> Sequence[Reading]:
    families = [worker.family() for worker in workers]
    runners = [pid for family in families for pid in family[1:] or family]
    every = usage.memory([pid for family in families for pid in family])
    each = usage.memory(runners)
    return [
        Reading(CHILD_MEMORY, sum(each) / len(each), "MiB", "lower"),
        Reading(WHOLE_MEMORY, sum(every), "MiB", "lower"),
    ]
