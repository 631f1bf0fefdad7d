"""Lines of one run, through one part of the logging or through all of it."""

import logging
import os
import time
from collections import deque

import django
from django.conf import settings

settings.configure(
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "tasks_app"]
)
django.setup()

from tasks_app.integrations.json_logs import JsonFormatter
from tasks_app.logs import ContextFilter, QueuedHandler, SamplingFilter, TextFormatter, fields, kept
from tasks_app.redaction import scrub_leaves

#: What a run's lines know.
FIELDS = {
    "request_id": "7f3a91c2d4e57f3a91c2d4e57f3a91c2",
    "outcome_id": "0199c3c2-9a41-7d05-8f2b-5e0c6f1d2a37",
    "task": "shop.send_mail",
    "attempt": 1,
    "queue": "celery",
}
SECRETS = ["canary-4242"]

PLAIN = logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s")
FORMATTERS = {"text": TextFormatter(), "json": JsonFormatter(), "everything": JsonFormatter()}

#: Room for all lines: what is dropped would cost less.
ROOM = 10**9


def measure(part: str, lines: int) -> float:
    """Return the seconds that lines take of whoever writes them."""
    whole = part == "everything"
    handler = _handler(part)
    logger = logging.getLogger(f"benchmark.{part}")
    logger.propagate = False
    logger.setLevel(logging.INFO)
    logger.handlers[:] = [handler]
    make = kept.keeping(logging.LogRecord) if whole or part == "kept" else logging.LogRecord
    logging.setLogRecordFactory(make)
    token = fields.begin(_work(has_secrets=whole or part == "masking"))
    began = time.perf_counter()
    for number in range(lines):
        logger.info("order %d is paid by %s", number, "somebody")
    taken = time.perf_counter() - began
    fields.end(token)
    handler.flush()
    return taken


def _handler(part: str) -> logging.Handler:
    whole = part == "everything"
    handler: logging.Handler = logging.FileHandler(os.devnull)
    if whole or part == "queued":
        options = {"filename": os.devnull}
        handler = QueuedHandler("logging.FileHandler", options, capacity=ROOM, patience=60)
    handler.setFormatter(FORMATTERS.get(part, PLAIN))
    if part not in {"plain", "queued", "kept"}:
        handler.addFilter(ContextFilter())
    if whole or part == "sampled":
        # A share that this outcome is part of.
        rate = 0.5 if SamplingFilter(0.5).filter(_line()) else 0.999
        handler.addFilter(SamplingFilter(rate))
    return handler


def _line() -> logging.LogRecord:
    record = logging.LogRecord("benchmark", logging.INFO, "", 0, "", (), None)
    record.__dict__.update(FIELDS)
    return record


def _work(*, has_secrets: bool) -> fields.Work:
    return fields.Work(
        FIELDS,
        mask=lambda value: scrub_leaves(value, SECRETS) if has_secrets else value,
        has_secrets=lambda: has_secrets,
        lines=deque(maxlen=200),
    )
