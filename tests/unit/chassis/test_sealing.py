"""What is sealed is opened where it belongs, by who has the key, and nowhere else."""

import re
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given, settings
from hypothesis import strategies as st

from lambent import environment_keys
from lambent_chassis.sealing import BadKeys, Opener, Sealer, private_keys, seal, unseal
from lambent_proto import sealed
from lambent_proto.sealed import CannotOpen

SECRET = "correct horse"


@pytest.fixture
def made(tmp_path: Path) -> environment_keys.Made:
    return environment_keys.make(tmp_path / "keys")


def test_who_has_the_key_opens_it(made: environment_keys.Made) -> None:
    """The value is not in what was sealed, which is never twice the same; what is plain stays so."""
    sealer, opener = Sealer(made.public), Opener(made.private)
    one, two = (sealer.seal("f", "TOKEN", SECRET) for _ in range(2))
    assert one != two
    assert SECRET not in one
    variables = {"TOKEN": one, "OLD": "plain"}
    assert opener.open("f", variables) == {"TOKEN": SECRET, "OLD": "plain"}


@settings(max_examples=50)
@given(st.text(max_size=200))
def test_any_text_comes_back(value: str) -> None:
    key = X25519PrivateKey.generate()
    it = sealed.parse(seal(key.public_key(), "f", "V", value))
    assert unseal(key, "f", "V", it) == value
    assert it.size == len(value.encode())


@pytest.mark.parametrize(("function", "variable"), [("g", "TOKEN"), ("f", "TOKEN2")])
def test_it_opens_nowhere_else(made: environment_keys.Made, function: str, variable: str) -> None:
    """Who may write another function, or into etcd, has not thereby what this one is told."""
    value = Sealer(made.public).seal("f", "TOKEN", SECRET)
    with pytest.raises(CannotOpen, match=f"{variable} of function '{function}' was sealed for another one"):
        Opener(made.private).open(function, {variable: value})


def test_one_bit_of_it_is_noticed(made: environment_keys.Made) -> None:
    it = sealed.parse(Sealer(made.public).seal("f", "TOKEN", SECRET))
    for place in (0, 40, len(it.data) - 1):
        data = bytearray(it.data)
        data[place] ^= 1
        with pytest.raises(CannotOpen, match="changed since"):
            Opener(made.private).open("f", {"TOKEN": str(it._replace(data=bytes(data)))})
    zeroes = it._replace(data=bytes(len(it.data)))
    with pytest.raises(CannotOpen, match="changed since"):
        Opener(made.private).open("f", {"TOKEN": str(zeroes)})


@pytest.mark.parametrize(
    ("value", "why"), [(b"\xff\xfe", "is not in UTF-8"), (b"a\0--bind\0/\0/mnt", "has a zero byte")]
)
def test_what_no_frontend_has_looked_at_is_looked_at(
    made: environment_keys.Made, value: bytes, why: str
) -> None:
    """Who deploys seals himself, with whatever program: no worker may end by it, and no sandbox be told
    more than a value, as bubblewrap would be, whose arguments end with zero bytes."""
    own = private_keys(made.private)[0]
    it = str(_sealed_bytes(own.public_key(), value))
    with pytest.raises(CannotOpen, match=f"the variable V of function 'f' {why}"):
        Opener(made.private).open("f", {"V": it})


def _sealed_bytes(key: X25519PublicKey, value: bytes) -> sealed.Sealed:
    once = X25519PrivateKey.generate()
    ours, theirs = once.public_key().public_bytes_raw(), key.public_bytes_raw()
    hkdf = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"lambent environment 1" + ours + theirs)
    cipher = AESGCM(hkdf.derive(once.exchange(key)))
    data = ours + cipher.encrypt(bytes(12), value, sealed.place("f", "V"))
    return sealed.Sealed(sealed.key_id(theirs), sealed.place_id("f", "V"), data)


def test_another_key_is_named_and_who_can_help(made: environment_keys.Made, tmp_path: Path) -> None:
    other = environment_keys.make(tmp_path / "other")
    value = Sealer(other.public).seal("f", "TOKEN", SECRET)
    with pytest.raises(CannotOpen) as failed:
        Opener(made.private).open("f", {"TOKEN": value})
    for told in (other.ids[0], made.ids[0], str(made.private), "operator"):
        assert told in str(failed.value)


def test_a_new_key_is_taken_as_it_comes(made: environment_keys.Made) -> None:
    """It seals from then on, and what the one before has sealed is opened still."""
    sealer, opener = Sealer(made.public), Opener(made.private)
    before = sealer.seal("f", "TOKEN", SECRET)
    rotated = environment_keys.rotate(made.private.parent)
    assert rotated.ids[1:] == made.ids
    after = sealer.seal("f", "TOKEN", SECRET)
    assert [sealed.parse(it).key for it in (before, after)] == [made.ids[0], rotated.ids[0]]
    for value in (before, after):
        assert opener.open("f", {"TOKEN": value}) == {"TOKEN": SECRET}
        assert sealer.knows(sealed.parse(value))


def test_the_private_half_is_its_owners_alone(made: environment_keys.Made) -> None:
    assert made.private.stat().st_mode & 0o077 == 0
    with pytest.raises(environment_keys.CannotMake, match="rotate"):
        environment_keys.make(made.private.parent)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "has no key in PEM"),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "has no private key in PEM"),
        ("public", "has no private key in PEM"),
    ],
)
def test_files_that_cannot_be_used_are_named(
    made: environment_keys.Made, tmp_path: Path, content: bytes | str, why: str
) -> None:
    """One with the public half, for a start: they are easily mixed up."""
    file = tmp_path / "given"
    file.write_bytes(made.public.read_bytes() if isinstance(content, str) else content)
    with pytest.raises(BadKeys, match=f"{re.escape(str(file))} {why}"):
        private_keys(file)
