"""How a sealed value of an environment variable is written: in etcd, in answers, and by who seals it himself.

    lambent-sealed:1:KEY:FOR:DATA

KEY says which key opens it, FOR what it was sealed for, a function's variable; both are the begin of a
SHA-256 in hex. DATA, in base64, is for `lambent_chassis.sealing`.
"""

import base64
import binascii
import hashlib
import re
from typing import Final, NamedTuple

_PREFIX: Final = "lambent-sealed:"
_FORM: Final = re.compile(r"lambent-sealed:1:([0-9a-f]{8}):([0-9a-f]{8}):([A-Za-z0-9+/]+={0,2})")

OVERHEAD: Final = 32 + 16
"""Bytes of DATA beside the value: a public key, and the tag of AES-GCM."""


class BadSeal(ValueError):
    """The message says what is wrong with it, and shows no value."""


class CannotOpen(Exception):
    """The message says what cannot be opened, why, and who can help. It shows no value."""


class Sealed(NamedTuple):
    key: str
    of: str
    data: bytes

    def __str__(self) -> str:
        return f"{_PREFIX}1:{self.key}:{self.of}:{base64.b64encode(self.data).decode()}"

    @property
    def size(self) -> int:
        """Bytes of the value."""
        return len(self.data) - OVERHEAD


def is_sealed(value: str) -> bool:
    """Whether it means to be."""
    return value.startswith(_PREFIX)


def parse(value: str) -> Sealed:
    """Raises BadSeal."""
    match = _FORM.fullmatch(value)
    if match is None:
        raise BadSeal(f"it is not of the form {_PREFIX}1:KEY:FOR:DATA: is a part of it missing?")
    try:
        data = base64.b64decode(match[3], validate=True)
    except binascii.Error:
        raise BadSeal("its last part is not base64: is something missing?") from None
    if len(data) < OVERHEAD:
        raise BadSeal("its last part is too short")
    return Sealed(match[1], match[2], data)


def key_id(public: bytes) -> str:
    """Of a key, by the 32 bytes of its public half."""
    return hashlib.sha256(public).hexdigest()[:8]


def place(function: str, variable: str) -> bytes:
    """What a value is bound to: in no other place it can be opened. Neither name has a zero byte in it."""
    return f"{function}\0{variable}".encode()


def place_id(function: str, variable: str) -> str:
    return hashlib.sha256(place(function, variable)).hexdigest()[:8]
