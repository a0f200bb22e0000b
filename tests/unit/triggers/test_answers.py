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
        (b"[]", None),
        (b'"fine"', None),
        (b"{", None),
        (b"[" * 100_000, None),
    ],
)  # fmt: skip
def test_partial_failures(answer: bytes, failed: frozenset[str] | None) -> None:
    assert failed_ids(answer, BOTH) == failed
