"""The form of a sealed value: what is taken for one, and what is wrong with others."""

import pytest

from lambent_proto import sealed
from lambent_proto.sealed import BadSeal, Sealed

DATA = bytes(sealed.OVERHEAD) + b"abc"


def test_it_is_read_as_it_was_written() -> None:
    it = Sealed(sealed.key_id(bytes(32)), sealed.place_id("f", "TOKEN"), DATA)
    assert sealed.is_sealed(str(it))
    assert sealed.parse(str(it)) == it
    assert it.size == 3


def test_places_are_told_apart() -> None:
    """Wherever one name ends and the other begins."""
    assert sealed.place("a", "bc") != sealed.place("ab", "c")


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("lambent-sealed:", "not of the form"),
        ("lambent-sealed:2:00000000:00000000:AAAA", "not of the form"),
        ("lambent-sealed:1:00000000:00000000:AAAAA", "not base64"),
        ("lambent-sealed:1:00000000:00000000:AAAA", "too short"),
    ],
)
def test_what_is_cut_short_is_named(value: str, why: str) -> None:
    assert sealed.is_sealed(value)
    with pytest.raises(BadSeal, match=why):
        sealed.parse(value)
