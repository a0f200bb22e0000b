"""What OpenTelemetry is told of a call by the frontend: the call, and within it what it waited for.

invoke f ─┬─ wait
          ├─ start      of a new instance: they may have begun before the call came
          ├─ init
          └─ run f      the worker's, and under it what the function itself tells
"""

from typing import TYPE_CHECKING, Final

from lambent_chassis import otlp
from lambent_frontend.call_log import SUCCEEDED, Told
from lambent_frontend.calls import Answer, Call
from lambent_proto.ids import RequestId
from lambent_proto.tracing import chosen, read, xray

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import Span
    from opentelemetry.trace import Tracer

_NS: Final = 1_000_000
"""Nanoseconds of a millisecond."""


class Spans:
    """A call is traced if its caller's trace is sampled; of those that come without one, `ratio` are."""

    def __init__(self, tracer: "Tracer", ratio: float) -> None:
        self._tracer = tracer
        self._ratio = ratio
        self._open: dict[RequestId, tuple[Span, int]] = {}
        """With the nanosecond at which each began."""

    def began(self, call: Call) -> None:
        """What is behind the frontend has the call's own span for its parent from here on."""
        if not (call.given_trace or chosen(call.request_id, self._ratio)):
            return
        trace = read(call.trace)
        if trace is None or (call.given_trace and not trace.sampled):
            return
        at = otlp.now_ns()
        within = otlp.under(trace) if call.given_trace else otlp.root(self._tracer, trace.trace_id)
        span = self._span(f"invoke {call.definition.name}", within, at)
        call.given_trace = xray(otlp.of(span))
        self._open[call.request_id] = span, at

    def ended(self, told: Told) -> None:
        found = self._open.pop(told.call.request_id, None)
        if found is None:
            return
        span, began = found
        self._stages(span, began, told.how)
        call, how = told.call, told.how
        span.set_attributes(
            {
                "faas.invocation_id": call.request_id,
                "faas.invoked_name": call.definition.name,
                "faas.version": call.definition.version,
                "faas.instance": how.instance,
                "faas.coldstart": how.start not in ("warm", ""),
                "lambent.start": how.start,
                "lambent.reason": how.reason,
                "lambent.waited_for": how.waited_for,
                "lambent.node": how.node,
                "lambent.outcome": told.outcome,
            }
        )
        if told.outcome != SUCCEEDED:
            _failed(span, told.message or told.outcome)
        span.end()

    def _stages(self, span: "Span", began: int, how: Answer) -> None:
        if not how.start:
            return  # it waited to its end, and never ran
        from opentelemetry.trace import set_span_in_context

        sent = began + int(how.waiting_ms * _NS)
        init = sent - int(how.init_ms * _NS)
        within = set_span_in_context(span)
        self._span("wait", within, began).end(sent)
        if how.start != "warm":
            self._span("start", within, init - int(how.starting_ms * _NS)).end(init)
            self._span("init", within, init).end(sent)

    def _span(self, name: str, within: "Context", at: int) -> "Span":
        from opentelemetry.trace import SpanKind

        kind = SpanKind.SERVER if name.startswith("invoke ") else SpanKind.INTERNAL
        return self._tracer.start_span(name, within, kind, start_time=at)  # type: ignore[return-value]


def _failed(span: "Span", why: str) -> None:
    from opentelemetry.trace import Status, StatusCode

    span.set_status(Status(StatusCode.ERROR, why))
