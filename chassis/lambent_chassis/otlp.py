"""Spans for OpenTelemetry, sent to a collector by its own SDK and exporter: the extra `otel`.

Nothing of it is imported, and nothing costs anything, where no endpoint is set.
"""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from lambent_chassis.clock import unix_s
from lambent_chassis.settings import BadSettings
from lambent_proto.protocol import RELEASE
from lambent_proto.tracing import Trace

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import Span
    from opentelemetry.trace import Tracer

SEND_EVERY_MS: Final = 1000
"""How late a span may be at the collector."""

SEND_WITHIN_S: Final = 3
"""What a collector is given for one batch, and for all that is left when the part ends."""


@asynccontextmanager
async def tracing(endpoint: str, part: str, name: str) -> "AsyncIterator[Tracer | None]":
    """`endpoint` is `http://HOST:PORT`, or `https://` for TLS, of a collector that takes OTLP over gRPC; None
    if it is empty. What is left is sent at the end. Raises BadSettings where the SDK is not installed."""
    if not endpoint:
        yield None
        return
    try:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
        from opentelemetry.sdk.trace.sampling import ALWAYS_ON
    except ImportError as error:
        raise BadSettings(
            f"otlp_endpoint: {error.name} is not installed here: install lambent[otel], or leave it empty"
        ) from error

    class Ids(RandomIdGenerator):
        next_trace_id = 0

        def generate_trace_id(self) -> int:
            return self.next_trace_id

    resource = Resource.create(
        {"service.name": f"lambent-{part}", "service.instance.id": name, "service.version": RELEASE}
    )
    # What is begun at all is sampled: whether it is, was decided before.
    provider = TracerProvider(ALWAYS_ON, resource, shutdown_on_exit=False, id_generator=Ids())
    exporter = OTLPSpanExporter(endpoint, timeout=SEND_WITHIN_S)
    provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=SEND_EVERY_MS))
    try:
        yield provider.get_tracer("lambent", RELEASE)
    finally:
        # The SDK goes on trying for as long as there are batches; the process ends without them.
        ending = threading.Thread(target=provider.shutdown, name="otlp-end", daemon=True)
        ending.start()
        await asyncio.to_thread(ending.join, SEND_WITHIN_S)


def under(trace: Trace) -> "Context":
    """For a span whose parent is this one, of another process."""
    from opentelemetry import trace as api

    context = api.SpanContext(
        int(trace.trace_id, 16),
        int(trace.span_id, 16),
        is_remote=True,
        trace_flags=api.TraceFlags(api.TraceFlags.SAMPLED),
    )
    return api.set_span_in_context(api.NonRecordingSpan(context))


def root(tracer: "Tracer", trace_id: str) -> "Context":
    """For a span that begins a trace, and this one."""
    from opentelemetry.context import Context

    ids: Any = getattr(tracer, "id_generator")  # noqa: B009 - the SDK's has it, the API's interface not
    ids.next_trace_id = int(trace_id, 16)
    return Context()


def of(span: "Span") -> Trace:
    """What a call that comes from this span carries."""
    context = span.get_span_context()
    assert context is not None
    return Trace(f"{context.trace_id:032x}", f"{context.span_id:016x}", sampled=True)


def now_ns() -> int:
    """As spans have their times."""
    return int(unix_s() * 1e9)
