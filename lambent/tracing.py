"""The trace that a call of this task belongs to, by OpenTelemetry if its caller uses that."""

import sys


def current_trace() -> str:
    """As a `traceparent`; empty if there is none. Nothing is imported for it: whoever is within a span has
    OpenTelemetry's API loaded."""
    api = sys.modules.get("opentelemetry.trace")
    if api is None:
        return ""
    context = api.get_current_span().get_span_context()
    if not context.is_valid:
        return ""
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags & 1:02x}"
