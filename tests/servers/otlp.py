"""A receiver of OTLP over HTTP: what a collector would be told of spans, as protobuf says it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from tests.servers.collector import Answer, Collector


class OtlpReceiver(Collector):
    """Decodes each request and keeps its spans."""

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[Any] = []

    def take(self, path: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Keep a request's spans."""
        self.requests.append(ExportTraceServiceRequest.FromString(body))
        answer = ExportTraceServiceResponse().SerializeToString()
        return Answer(answer, "application/x-protobuf")

    @property
    def url(self) -> str:
        """Where an exporter sends its spans."""
        return f"http://127.0.0.1:{self.port}/v1/traces"

    @property
    def spans(self) -> list[Any]:
        """Every span received, in the order of arrival."""
        return [
            span
            for request in list(self.requests)
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]


def values(attributes: Iterable[Any]) -> dict[str, Any]:
    """Return attributes of a received span by name."""
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}
