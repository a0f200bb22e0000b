"""What OpenTelemetry is told of a call by the worker: its run, from the frame to the answer."""

from typing import TYPE_CHECKING

from lambent_chassis import otlp
from lambent_proto import frames
from lambent_proto.ids import InstanceId, RequestId
from lambent_proto.tracing import read, xray

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import Span
    from opentelemetry.trace import Tracer


class Spans:
    """Of calls whose trace is sampled."""

    def __init__(self, tracer: "Tracer", node: str) -> None:
        self._tracer = tracer
        self._node = node
        self._open: dict[tuple[RequestId, InstanceId], Span] = {}

    def began(self, event: frames.Event) -> str:
        """The trace that the function gets: its parent is this run, if that is traced."""
        trace = read(event.trace)
        if trace is None or not (trace.sampled and trace.span_id):
            return event.trace
        from opentelemetry.trace import SpanKind

        name = event.arn.partition(":function:")[2].partition(":")[0]
        span: Span = self._tracer.start_span(  # type: ignore[assignment]
            f"run {name}",
            otlp.under(trace),
            SpanKind.SERVER,
            {
                "faas.invocation_id": event.request_id,
                "faas.name": name,
                "faas.instance": event.instance,
                "lambent.node": self._node,
            },
            start_time=otlp.now_ns(),
        )
        self._open[event.request_id, event.instance] = span
        return xray(otlp.of(span))

    def ended(self, instance: InstanceId, frame: frames.Answer | frames.Refused | frames.Lost) -> None:
        span = self._open.pop((frame.request_id, instance), None)
        if span is None:
            return
        if not isinstance(frame, frames.Answer) or frame.failed:
            from opentelemetry.trace import Status, StatusCode

            why = "the function failed" if isinstance(frame, frames.Answer) else frame.reason
            span.set_status(Status(StatusCode.ERROR, why))
        span.end(otlp.now_ns())
