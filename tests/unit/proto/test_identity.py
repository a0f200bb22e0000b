"""Whose certificate it is, and what its owner may say it is."""

import pytest

from lambent_proto import identity
from lambent_proto.identity import Identity, NotAllowed

W1 = ["w1.worker.lambent.internal", "worker.lambent.internal"]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (W1, Identity("worker", "w1")),
        (["W1.Worker.LAMBENT.internal"], Identity("worker", "w1")),
        (["host.example.com.worker.lambent.internal"], Identity("worker", "host.example.com")),
        (["example.com", *W1], Identity("worker", "w1")),
        ([], None),
        (["worker.lambent.internal"], None),
        (["w1.worker.lambent.internal.example.com"], None),
        (["w1.worker"], None),
        (["w1.baker.lambent.internal"], None),
    ],
)
def test_whose_it_is(names: list[str], expected: Identity | None) -> None:
    assert identity.read(names) == expected


def test_names_are_read_as_they_are_written() -> None:
    names = [identity.dns_name("worker", "Host-1.example"), identity.dns_name("worker")]
    assert identity.read(names) == Identity("worker", "host-1.example")


@pytest.mark.parametrize(
    ("names", "part", "name", "why"),
    [
        (None, "worker", "w1", ""),
        (W1, "worker", None, ""),
        (W1, "worker", "W1", ""),
        (["f.frontend.lambent.internal"], "frontend", "f-1", ""),
        (["f.frontend.lambent.internal"], "frontend", "f-x", "a certificate of frontend f-x is needed"),
        (["f.frontend.lambent.internal"], "frontend", "", r"a certificate of frontend \(no name\) is needed"),
        (["f.frontend.lambent.internal"], "frontend", "f-1000", "a certificate of frontend f-1000 is needed"),
        ([f"{'f' * 63}.frontend.lambent.internal"], "frontend", f"{'f' * 60}-255", ""),
        (W1, "worker", "w1-1", "a certificate of worker w1-1 is needed"),
        (W1, "worker", "w2", "a certificate of worker w2 is needed, and this one is of worker w1"),
        (W1, "frontend", None, "a certificate of a frontend is needed, and this one is of worker w1"),
        (["example.com"], "worker", None, "and this one is no part's of a fleet"),
    ],
)
def test_what_it_may_speak_as(names: list[str] | None, part: str, name: str | None, why: str) -> None:
    if not why:
        identity.check(names, part, name)
        return
    with pytest.raises(NotAllowed, match=why):
        identity.check(names, part, name)
