"""What may be a destination, and what of it is shown."""

import pytest

from lambent_frontend.queue.adapters import adapters
from lambent_frontend.queue.destinations import Destinations, Refused, place_of, shown
from lambent_proto.errors import InvalidRequest

SOURCES = {"events": "nats://here"}
NATS = "arn:aws:lambent-nats:::events/"


def allowing(*patterns: str) -> Destinations:
    return Destinations(adapters(SOURCES), patterns, SOURCES)


@pytest.mark.parametrize(
    ("pattern", "destination"),
    [
        ("https://hooks.example.com/*", "https://hooks.example.com/a/b?c=1"),
        ("https://hooks.example.com/*", "https://hooks.example.com/https://else.test/"),
        ("https://*.example.com/*", "https://a.b.example.com/"),
        ("https://*.example.com/in/*", "https://a.example.com/in/x"),
        ("http*://hook?.example.com:80*/*", "http://hook1.example.com:8080/x"),
        ("https://*", "https://any.test/path"),
        ("https://one.example.com", "https://one.example.com"),
        ("*", "http://[::1]:80/"),
        ("*", "https://any.test?token=1"),
    ],
)
def test_a_pattern_allows(pattern: str, destination: str) -> None:
    allowing(pattern).check(destination)


@pytest.mark.parametrize(
    ("pattern", "destination"),
    [
        ("https://*.example.com/*", "https://else.test/x.example.com/"),
        ("https://*.example.com/*", "https://169.254.169.254/.example.com/latest"),
        ("https://*.example.com/*", "https://else.test?x.example.com/"),
        ("https://*.example.com/*", "https://else.test#.example.com/"),
        ("https://*.example.com/*", "https://else.test\\.example.com/"),
        ("https://*.example.com/*", "https://a.example.com:x@else.test/"),
        ("https://hooks.example.com*", "https://hooks.example.com:x@else.test/"),
        ("https://hooks.example.com/in/*", "https://hooks.example.com/out"),
        ("https://one.example.com", "https://one.example.com/path"),
        ("https://one.example.com/*", "http://one.example.com/"),
    ],
)
def test_a_pattern_for_one_host_allows_no_other(pattern: str, destination: str) -> None:
    with pytest.raises(InvalidRequest):
        allowing(pattern).check(destination)


@pytest.mark.parametrize(
    "destination",
    [
        "http://",
        "https:///path",
        "https://a b/",
        "http://me:secret@here/",
        "https://here:port/",
        "ftp://here/",
    ],
)
def test_what_is_no_url_of_a_webhook(destination: str) -> None:
    with pytest.raises(InvalidRequest, match="is no destination"):
        allowing("*").check(destination)


@pytest.mark.parametrize("subject", ["$JS.API.STREAM.PURGE.ORDERS", "$SYS.REQ", "orders.*", "orders.>"])
def test_no_record_is_an_order_to_nats_itself(subject: str) -> None:
    """Such as to empty a stream: who may configure a function is not who may do that."""
    with pytest.raises(InvalidRequest, match="is no destination"):
        allowing("*").check(NATS + subject)
    with pytest.raises(Refused):
        place_of(NATS + subject, SOURCES)


def test_a_subject_of_nats() -> None:
    allowing().check(NATS + "orders.done.$1")
    assert place_of(NATS + "orders.done", SOURCES).what == "orders.done"


def test_of_a_webhook_only_its_host_is_shown() -> None:
    assert shown("https://hooks.test:8443/services/T0/secret?token=1") == "https://hooks.test:8443"
    assert shown(NATS + "orders") == NATS + "orders"
