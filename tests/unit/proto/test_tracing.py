"""Trace ids: either form is read, each is made of the other, and what is neither counts as none."""

import pytest

from lambent_frontend.wire import new_request_id
from lambent_proto.tracing import MOST_TRACE, Trace, carried, chosen, made, read, w3c, xray

ID, SPAN = "5759e988bd862e3fe1be46a994272793", "53995c3f42cd8ad8"
ROOT = "1-5759e988-bd862e3fe1be46a994272793"
REQUEST = "12345678-1234-4234-a234-123456789012"
OWN_SPAN = "a234123456789012"


@pytest.mark.parametrize(
    ("text", "trace"),
    [
        (f"00-{ID}-{SPAN}-01", Trace(ID, SPAN, True)),
        (f"00-{ID}-{SPAN}-00", Trace(ID, SPAN, False)),
        (f"00-{ID}-{SPAN}-03", Trace(ID, SPAN, True)),
        (f" 00-{ID}-{SPAN}-02 ", Trace(ID, SPAN, False)),
        (f"cc-{ID}-{SPAN}-01-more", Trace(ID, SPAN, True)),
        (f"Root={ROOT};Parent={SPAN};Sampled=1", Trace(ID, SPAN, True)),
        (f"Sampled=0; Parent={SPAN.upper()} ;root={ROOT.upper()};", Trace(ID, SPAN, False)),
        (f"Self=1-67891234-12456789abcdef012345678;Root={ROOT}", Trace(ID, "", False)),
        (f"Root={ROOT};Parent={SPAN};Sampled=?;Lineage=25:3", Trace(ID, SPAN, False)),
        (f"Root={ROOT};Parent=no;Sampled=1", Trace(ID, "", True)),
        (f"Root={ROOT};Parent={'0' * 16}", Trace(ID, "", False)),
        ("", None),
        ("no trace", None),
        (f"00-{ID}-{SPAN}", None),
        (f"00-{ID}-{SPAN}-01-more", None),
        (f"ff-{ID}-{SPAN}-01", None),
        (f"00-{'0' * 32}-{SPAN}-01", None),
        (f"00-{ID}-{'0' * 16}-01", None),
        (f"00-{ID.upper()}-{SPAN}-01", None),
        (f"00-{ID}-{SPAN}-01\r\nx: y", None),
        (f"Parent={SPAN};Sampled=1", None),
        (f"Root={ROOT}0;Parent={SPAN}", None),
        (f"Root=1-00000000-{'0' * 24}", None),
        (f"Root={ROOT};{'x' * MOST_TRACE}", None),
    ],
)
def test_what_is_read(text: str, trace: Trace | None) -> None:
    assert read(text) == trace


@pytest.mark.parametrize("sampled", [True, False])
def test_each_form_is_the_other(sampled: bool) -> None:
    trace = Trace(ID, SPAN, sampled)
    assert w3c(trace) == f"00-{ID}-{SPAN}-0{int(sampled)}"
    assert xray(trace) == f"Root={ROOT};Parent={SPAN};Sampled={int(sampled)}"
    assert read(w3c(trace)) == read(xray(trace)) == trace


def test_without_a_span_there_is_no_traceparent() -> None:
    trace = Trace(ID, "", True)
    assert (w3c(trace), xray(trace)) == ("", f"Root={ROOT};Sampled=1")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (f"00-{ID}-{SPAN}-01", f"Root={ROOT};Parent={SPAN};Sampled=1"),
        (f"Root={ROOT}", f"Root={ROOT};Parent={OWN_SPAN};Sampled=0"),
        ("neither", ""),
    ],
)
def test_what_a_call_carries(given: str, told: str) -> None:
    assert carried(given, REQUEST) == told


def test_a_call_without_a_trace_has_its_request_id_for_one() -> None:
    """So everybody makes the same one; an id that is no UUID makes one too."""
    assert made(REQUEST) == f"Root=1-12345678-12344234a234123456789012;Parent={OWN_SPAN};Sampled=0"
    odd = read(made("r1"))
    assert odd is not None
    assert odd.span_id
    assert read(made("r2")) != odd


def test_a_share_of_the_calls_is_chosen() -> None:
    """Ids as frontends make them, of which some bits are always the same."""
    ids = [new_request_id() for _ in range(4000)]
    assert [sum(chosen(it, ratio) for it in ids) for ratio in (0.0, 1.0)] == [0, 4000]
    assert 800 < sum(chosen(it, 0.25) for it in ids) < 1200
