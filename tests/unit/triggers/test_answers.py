"""What a function may answer of a batch of two, `m1` and `m2`, and what it means."""

import pytest

from lambent_frontend.triggers.core.answers import failed_ids

BOTH = "m1", "m2"
NONE = frozenset[str]()


@pytest.mark.parametrize(
    ("answer", "failed"),
    [
        (b"", NONE),
        (b"null", NONE),
        (b"{}", NONE),
        (b'{"other": 1}', NONE),
        (b'{"batchItemFailures": null}', NONE),
        (b'{"batchItemFailures": []}', NONE),
        (b'{"batchItemFailures": [{"itemIdentifier": "m2"}]}', frozenset({"m2"})),
        (b'{"batchItemFailures": [{"itemIdentifier": "m2"}, {"itemIdentifier": "m1"}]}', frozenset(BOTH)),
        (b'{"batchItemFailures": [{"itemIdentifier": "m2"}, {"itemIdentifier": "m2"}]}', frozenset({"m2"})),
        (b'{"batchItemFailures": [{"itemIdentifier": "m3"}]}', None),
        (b'{"batchItemFailures": [{"itemIdentifier": "m2"}, {"itemIdentifier": ""}]}', None),
        (b'{"batchItemFailures": [{"itemIdentifier": null}]}', None),
        (b'{"batchItemFailures": [{"itemIdentifier": 2}]}', None),
        (b'{"batchItemFailures": [{"messageId": "m2"}]}', None),
        (b'{"batchItemFailures": ["m2"]}', None),
        (b'{"batchItemFailures": "m2"}', None),
        (b'{"batchItemFailures": [{"itemIdentifier": {"partition": "t-0", "offset": 7}}]}', None),
        (b"[]", None),
        (b'"fine"', None),
        (b"{", None),
        (b"[" * 100_000, None),
    ],
)  # fmt: skip
def test_partial_failures(answer: bytes, failed: frozenset[str] | None) -> None:
    assert failed_ids(answer, BOTH) == failed


@pytest.mark.parametrize(
    ("identifier", "failed"),
    [
        (b'{"partition": "t-0", "offset": 8}', frozenset({"t-0:8"})),
        (b'{"partition": "t-1", "offset": 8}', None),
        (b'{"partition": "t-0", "offset": 9}', None),
        (b'{"partition": "t-0", "offset": "8"}', None),
        (b'{"partition": "t-0", "offset": true}', None),
        (b'{"partition": "t-0"}', None),
        (b"{}", None),
    ],
)
def test_of_kafka(identifier: bytes, failed: frozenset[str] | None) -> None:
    """Lambda names a record there by its partition and its offset."""
    answer = b'{"batchItemFailures": [{"itemIdentifier": %b}]}' % identifier
    assert failed_ids(answer, ("t-0:1", "t-0:7", "t-0:8")) == failed
