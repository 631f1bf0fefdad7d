"""The tracer provider of a test's worker, set up as in a project: in each process of its pool."""

from __future__ import annotations

import json
from typing import Any

from celery.signals import worker_process_init
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.celery import CeleryInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor


def set_up(options: str) -> None:
    """Send the spans of this process' children to a receiver and instrument Celery."""
    given = json.loads(options)

    def begin(**kwargs: Any) -> None:
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(given["endpoint"])))
        trace.set_tracer_provider(provider)
        CeleryInstrumentor().instrument()

    worker_process_init.connect(begin, weak=False)
