"""
Latency of one enqueue, by what has become of the broker: it must make no difference.

The callers live side by side and take turns of a few calls, so that the machine's moods meet all
of them alike.
"""

import json
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from importlib import import_module
from pathlib import Path

from benchmarks.contestants import ROOT, Ground
from tests.servers import Mode, PostgreSQL, Proxy, Redis
from tests.servers.server import free_port

#: What the callers' settings name as their broker; the first one is what the others compare with.
BROKERS = ("healthy", "refused", "hung", "blackholed")

#: Calls that a caller makes in one turn.
TURN = 10

#: Turns before the clock is read: they open the connection and warm the caches.
WARM_UP = 10

Latencies = list[float]
Quantile = Callable[[Sequence[float]], float]


def run(brokers: Sequence[str], tasks: int, rounds: int) -> None:
    """Let callers with each kind of broker enqueue in turns; print quantiles and their ratios."""
    with PostgreSQL() as database, Redis() as redis, tempfile.TemporaryDirectory() as folder:
        ground = Ground(database, redis, Path(folder))
        ground.migrate()
        with addresses(redis) as known, ExitStack() as stack:
            callers = {name: stack.enter_context(caller(ground, known[name])) for name in brokers}
            take_turns(callers, WARM_UP)
            seen = [take_turns(callers, tasks // TURN) for _ in range(rounds)]
    tell(seen)


@contextmanager
def addresses(redis: Redis) -> Iterator[Mapping[str, str]]:
    """Keep a broker of each kind for the block, and return their addresses."""
    with ExitStack() as stack:
        hung = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        proxy = stack.enter_context(Proxy(redis.port))
        proxy.set(Mode.BLACKHOLE)
        ports = (redis.port, free_port(), hung.getsockname()[1], proxy.port)
        urls = [f"redis://127.0.0.1:{port}/0" for port in ports]
        yield dict(zip(BROKERS, urls, strict=True))


@contextmanager
def caller(ground: Ground, broker: str) -> Iterator[Callable[[], Latencies]]:
    """Keep a process that enqueues; each call of what the block gets is one turn."""
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.latency"],
        env={**ground.environment(), "BENCHMARK_BROKER": broker},
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    ) as process:
        asked, answers = process.stdin, process.stdout
        assert asked is not None
        assert answers is not None

        def turn() -> Latencies:
            asked.write("turn\n")
            answer: Latencies = json.loads(answers.readline())
            return answer

        yield turn


def take_turns(
    callers: Mapping[str, Callable[[], Latencies]], turns: int
) -> Mapping[str, Latencies]:
    """Let each caller take so many turns, in an order drawn anew each time."""
    seen: dict[str, Latencies] = {name: [] for name in callers}
    order = list(callers)
    for _ in range(turns):
        random.shuffle(order)
        for name in order:
            seen[name] += callers[name]()
    return seen


def tell(rounds: Sequence[Mapping[str, Latencies]]) -> None:
    """Print each broker's quantiles over all rounds, and their ratios within the rounds."""
    first, *others = rounds[0]
    for broker in rounds[0]:
        every = [latency for seen in rounds for latency in seen[broker]]
        print(f"{broker:12} median {median(every):6.2f} ms, p99 {p99(every):6.2f} ms")
    for broker in others:
        told = [f"{name} {ratio(rounds, quantile, broker, first)}" for name, quantile in QUANTILES]
        print(f"{broker} / {first}: {', '.join(told)}")


def ratio(
    rounds: Sequence[Mapping[str, Latencies]], quantile: Quantile, own: str, other: str
) -> str:
    """Return the median of the ratios within the rounds, with the lowest and the highest."""
    ratios = [quantile(seen[own]) / quantile(seen[other]) for seen in rounds]
    return f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def median(latencies: Sequence[float]) -> float:
    """Return what half of the calls needed at most."""
    return statistics.median(latencies)


def p99(latencies: Sequence[float]) -> float:
    """Return what 99 of 100 calls needed at most."""
    return statistics.quantiles(latencies, n=100)[-1]


QUANTILES: Sequence[tuple[str, Quantile]] = (("median", median), ("p99", p99))


def call() -> None:
    """Enqueue a turn's calls for each line read, and answer with the milliseconds of each."""
    enqueue = import_module("benchmarks.with_outcomes").one_by_one
    for _line in sys.stdin:
        print(json.dumps([milliseconds(enqueue, order) for order in range(TURN)]), flush=True)


def milliseconds(enqueue: Callable[[Sequence[int]], None], order: int) -> float:
    """Return how long one call takes, with its commit."""
    began = time.perf_counter()
    enqueue([order])
    return (time.perf_counter() - began) * 1000


if __name__ == "__main__":
    call()
