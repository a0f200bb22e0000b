"""What is known of sticky keys: the last one counts, and the oldest are forgotten."""

import pytest

from lambent_proto import sticky
from lambent_proto.ids import FunctionName, InstanceId, NodeId
from lambent_proto.sticky import NO_KEY, Last, Served, sticky_of

F = FunctionName("f")
N = NodeId("n@1")


def test_keys_become_numbers() -> None:
    """64 bits, the same ones everywhere; the empty key is none."""
    assert sticky_of("") == NO_KEY
    assert sticky_of("user-1") == sticky_of("user-1") != sticky_of("user-2")
    assert 0 < sticky_of("ü" * 256) < 2**64


def test_the_least_recently_used_key_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that was served again lately stays."""
    monkeypatch.setattr(sticky, "REMEMBERED", 2)
    served = Served()
    for key, instance in ((1, "a"), (2, "b"), (1, "c"), (3, "d")):
        served.note(F, key, InstanceId(instance), N)
    assert served.by(F, 1) == Last(InstanceId("c"), N)
    assert served.by(F, 2) is None
    assert served.by(F, 3) == Last(InstanceId("d"), N)
    assert served.by(FunctionName("g"), 1) is None
