"""Sealing values of environment variables with a public key, and opening them with its private half.

Frontends have the public half and can only seal; workers have the private one. Each value is sealed by
itself: X25519 with a key that is made for it and thrown away, HKDF-SHA256, AES-256-GCM. The function's and
the variable's names are authenticated with it, so that nobody moves it to a function of his own.

A file of keys has one or several, in PEM, one behind the other. The first one seals; all of them open.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, Never

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from lambent_chassis.renewed import Renewed
from lambent_proto import sealed
from lambent_proto.sealed import BadSeal, CannotOpen, Sealed

_BLOCK: Final = re.compile(rb"-----BEGIN [A-Z ]+-----.*?-----END [A-Z ]+-----", re.DOTALL)
_NONCE: Final = bytes(12)
"""A key of AES is used once."""


class BadKeys(Exception):
    """The message names the file that cannot be used, and why."""


class Sealer:
    """By a file of public keys, which is read again when it has changed."""

    def __init__(self, file: Path) -> None:
        """Raises BadKeys."""
        self._keys = Renewed("environment_keys", [file], lambda: public_keys(file), BadKeys)

    def seal(self, function: str, variable: str, value: str) -> str:
        return seal(self._keys.newest()[0], function, variable, value)

    def knows(self, it: Sealed) -> bool:
        """Whether it was sealed with one of these keys."""
        return any(sealed.key_id(key.public_bytes_raw()) == it.key for key in self._keys.newest())


class Opener:
    """By a file of private keys, which is read again when it has changed."""

    def __init__(self, file: Path) -> None:
        """Raises BadKeys."""
        self._file = file
        self._keys = Renewed("environment_keys", [file], lambda: private_keys(file), BadKeys)

    def open(self, function: str, variables: Mapping[str, str]) -> dict[str, str]:
        """What is not sealed is as it was. Raises CannotOpen."""
        keys = {sealed.key_id(key.public_key().public_bytes_raw()): key for key in self._keys.newest()}
        return {
            name: self._opened(keys, function, name, value) if sealed.is_sealed(value) else value
            for name, value in variables.items()
        }

    def _opened(self, keys: Mapping[str, X25519PrivateKey], function: str, variable: str, value: str) -> str:
        which = f"the variable {variable} of function {function!r}"
        try:
            it = sealed.parse(value)
        except BadSeal as bad:
            raise CannotOpen(f"{which} cannot be opened: {bad}. Whoever deployed it gives it anew") from None
        if (key := keys.get(it.key)) is None:
            raise CannotOpen(
                f"{which} was sealed with key {it.key}, and {self._file} has {', '.join(keys)}: "
                "the fleet's operator adds the key to it, or whoever deployed it gives the value anew"
            )
        try:
            opened = unseal(key, function, variable, it)
        except InvalidTag:
            raise CannotOpen(
                f"{which} was sealed for another one, or was changed since: whoever deployed it gives it anew"
            ) from None
        except UnicodeDecodeError:
            raise CannotOpen(f"{which} is not in UTF-8: whoever deployed it gives it anew") from None
        if "\0" in opened:  # a frontend refuses it in what is not sealed; programs are not started with it
            raise CannotOpen(f"{which} has a zero byte in its value: whoever deployed it gives it anew")
        return opened


def seal(key: X25519PublicKey, function: str, variable: str, value: str) -> str:
    once = X25519PrivateKey.generate()
    ours, theirs = once.public_key().public_bytes_raw(), key.public_bytes_raw()
    cipher = AESGCM(_derived(once.exchange(key), ours, theirs))
    data = ours + cipher.encrypt(_NONCE, value.encode(), sealed.place(function, variable))
    return str(Sealed(sealed.key_id(theirs), sealed.place_id(function, variable), data))


def unseal(key: X25519PrivateKey, function: str, variable: str, it: Sealed) -> str:
    """Raises InvalidTag, and UnicodeDecodeError for what another program than this one has sealed."""
    once, own = it.data[:32], key.public_key().public_bytes_raw()
    try:
        shared = key.exchange(X25519PublicKey.from_public_bytes(once))
    except ValueError:  # a point for which whatever key there is gives zeroes
        raise InvalidTag from None
    cipher = AESGCM(_derived(shared, once, own))
    return cipher.decrypt(_NONCE, it.data[32:], sealed.place(function, variable)).decode()


def public_keys(file: Path) -> list[X25519PublicKey]:
    """Raises BadKeys."""
    keys = _keys(file, load_pem_public_key, "public")
    return [key for key in keys if isinstance(key, X25519PublicKey)] or _other_kind(file)


def private_keys(file: Path) -> list[X25519PrivateKey]:
    """Raises BadKeys."""
    keys = _keys(file, lambda block: load_pem_private_key(block, None), "private")
    return [key for key in keys if isinstance(key, X25519PrivateKey)] or _other_kind(file)


def _derived(shared: bytes, once: bytes, key: bytes) -> bytes:
    hkdf = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"lambent environment 1" + once + key)
    return hkdf.derive(shared)


def _keys(file: Path, load: Callable[[bytes], object], what: str) -> list[object]:
    try:
        blocks: Sequence[bytes] = _BLOCK.findall(file.read_bytes())
    except OSError as error:
        raise BadKeys(f"{file} cannot be read: {error.strerror}") from error
    if not blocks:
        raise BadKeys(f"{file} has no key in PEM: `lambent env-key make` makes one")
    try:
        return [load(block) for block in blocks]
    except (ValueError, TypeError) as error:
        raise BadKeys(f"{file} has no {what} key in PEM without a password: {error}") from error


def _other_kind(file: Path) -> Never:
    raise BadKeys(f"{file} has keys of another kind than X25519: `lambent env-key make` makes one")
