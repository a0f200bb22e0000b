"""Trace ids of calls: W3C's `traceparent` and X-Ray's `X-Amzn-Trace-Id`, and one from the other.

A call carries X-Ray's form, as functions get it: `Root=1-8_DIGITS-24_DIGITS;Parent=16_DIGITS;Sampled=0`,
all in lower-case hex. Both forms have the same 128 bits of a trace, 64 of a span and one flag. Their further
parts (`tracestate`, `Self`, `Lineage`) are not passed on.
"""

import hashlib
import re
from typing import Final, NamedTuple

W3C_HEADER: Final = "traceparent"
XRAY_HEADER: Final = "x-amzn-trace-id"

MOST_TRACE: Final = 512
"""Characters of either header that are looked at: those that there are have about a hundred."""

_W3C: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_ROOT: Final = re.compile(r"1-([0-9a-fA-F]{8})-([0-9a-fA-F]{24})")
_PARENT: Final = re.compile(r"[0-9a-fA-F]{16}")
_NO_TRACE: Final = "0" * 32
_NO_SPAN: Final = "0" * 16
_SAMPLED: Final = 0x01


class Trace(NamedTuple):
    trace_id: str
    """32 hex digits."""
    span_id: str
    """Of the caller's span: 16 hex digits; empty where it named none."""
    sampled: bool


def read(text: str) -> Trace | None:
    """Of either form; None for what is neither, as for no trace at all."""
    if not text or len(text) > MOST_TRACE:
        return None
    return _of_xray(text) if "=" in text else _of_w3c(text.strip())


def xray(trace: Trace) -> str:
    parent = f"Parent={trace.span_id};" if trace.span_id else ""
    digits = trace.trace_id
    return f"Root=1-{digits[:8]}-{digits[8:]};{parent}Sampled={int(trace.sampled)}"


def w3c(trace: Trace) -> str:
    """Empty if it has no span: there is no traceparent without."""
    return f"00-{trace.trace_id}-{trace.span_id}-{int(trace.sampled):02x}" if trace.span_id else ""


def carried(given: str, request_id: str) -> str:
    """What a call carries whose caller gave that, in either form; empty if that is no trace.

    A trace without a parent, as load balancers make them, gets the span that `made` has.
    """
    trace = read(given)
    if trace is None:
        return ""
    return xray(trace if trace.span_id else trace._replace(span_id=_digits(request_id)[16:]))


def made(request_id: str) -> str:
    """The trace of a call that was given none. Lambda makes one for each; here it is the request id again, so
    that it has to be neither drawn nor carried: whoever needs it makes the same one.

    Its first digits are not the time, as X-Ray's once were: AWS takes any W3C trace id in this form too.
    """
    digits = _digits(request_id)
    return f"Root=1-{digits[:8]}-{digits[8:]};Parent={digits[16:]};Sampled=0"


def chosen(request_id: str, ratio: float) -> bool:
    """Whether a call that was given no trace is one of those that are sampled: that share of all, by the 56
    bits that W3C wants to be random."""
    return int(_digits(request_id)[-14:], 16) < ratio * 2**56


def _digits(request_id: str) -> str:
    digits = request_id.replace("-", "")
    # Ours are UUIDs; another one's is as good as random once it is digested.
    return digits if len(digits) == 32 else hashlib.sha256(request_id.encode()).hexdigest()[:32]


def _of_w3c(text: str) -> Trace | None:
    """A later version may have more behind what this one has: https://www.w3.org/TR/trace-context/, 4.1."""
    found = _W3C.fullmatch(text)
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    if version == "ff" or (version == "00" and more) or trace_id == _NO_TRACE or span_id == _NO_SPAN:
        return None
    return Trace(trace_id, span_id, bool(int(flags, 16) & _SAMPLED))


def _of_xray(text: str) -> Trace | None:
    """A parent that is none is left out, and whatever is not known is not sampled."""
    fields = {}
    for part in text.split(";"):
        name, _, value = part.strip().partition("=")
        fields[name.lower()] = value.strip()
    root = _ROOT.fullmatch(fields.get("root", ""))
    if root is None:
        return None
    trace_id = f"{root[1]}{root[2]}".lower()
    if trace_id == _NO_TRACE:
        return None
    parent = fields.get("parent", "").lower()
    known = _PARENT.fullmatch(parent) is not None and parent != _NO_SPAN
    return Trace(trace_id, parent if known else "", fields.get("sampled") == "1")
