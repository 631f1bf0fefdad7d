"""Contestant: plain Celery on Redis as it comes: a message is acknowledged before its task runs."""

import os
import time
from functools import cache

import psycopg
from celery import Celery

from benchmarks.losses import MOMENT, VISIBLE

app = Celery("effects", broker=os.environ["BENCHMARK_BROKER"])
app.conf.update(
    broker_connection_retry_on_startup=True,
    broker_transport_options={
        # As soon as is allowed: by default what a killed worker held comes back after an hour.
        "visibility_timeout": VISIBLE,
        "unacked_restore_interval": 1,
        "unacked_restore_throttle": 1,
        "socket_timeout": 5,
        "socket_connect_timeout": 5,
    },
    task_ignore_result=True,
    worker_prefetch_multiplier=1,
)


@app.task(name="effect")
def effect(key: str) -> None:
    """Write one row, committed at once, somewhere in the middle."""
    time.sleep(MOMENT)
    _connection().execute("INSERT INTO effect (key) VALUES (%s)", [key])
    time.sleep(MOMENT)


def enqueue(key: str) -> None:
    """Publish one call."""
    effect.apply_async((key,), task_id=key)


@cache
def _connection() -> psycopg.Connection:
    return psycopg.connect(os.environ["BENCHMARK_DATABASE"], autocommit=True)
