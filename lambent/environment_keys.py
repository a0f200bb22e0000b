"""The keys that functions' environment variables are sealed with: how they are made, and taken into use.

The private half is for workers, the public one for frontends and whoever deploys. To seal anew what is there
goes over etcd itself, as with access keys: who operates etcd operates the fleet.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import msgpack
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from lambent.files import replace_file
from lambent_chassis.etcd import Etcd, KeyValue
from lambent_chassis.sealing import BadKeys, Opener, private_keys, public_keys, seal
from lambent_proto import keys, sealed
from lambent_proto.ids import FUNCTION_NAME, VARIABLE_NAME

PRIVATE = "environment.key"
PUBLIC = "environment.pub"


class CannotMake(Exception):
    """Nothing was written. The message says why and what to do."""


class CannotSeal(Exception):
    """The message says what is wrong with what was given."""


class Made(NamedTuple):
    private: Path
    public: Path
    ids: list[str]
    """Of the keys in both files; the first one seals."""


@dataclass(slots=True)
class Resealed:
    """What became of the variables of all functions and versions."""

    sealed: int = 0
    """Were sealed, or sealed anew."""
    untouched: int = 0
    """Have the seal of the first key."""
    left: list[str] = field(default_factory=list)
    """Why others cannot be opened."""


def make(folder: Path) -> Made:
    """A key in two files; where only the private one is there, as after an interruption, the other one of it.
    Raises CannotMake."""
    if (folder / PRIVATE).exists() and not (folder / PUBLIC).exists():
        return _written(folder, _there(folder))
    made = folder / PRIVATE, folder / PUBLIC
    for path in made:
        if path.exists():
            raise CannotMake(
                f"{path} is there already: `lambent env-key rotate` puts a new key in front of it, and with "
                "another file no worker could open what it has sealed"
            )
    return _written(folder, [X25519PrivateKey.generate()])


def rotate(folder: Path) -> Made:
    """Puts a new key in front of those that are there. Raises CannotMake."""
    return _written(folder, [X25519PrivateKey.generate(), *_there(folder)])


def _there(folder: Path) -> list[X25519PrivateKey]:
    try:
        return list(private_keys(folder / PRIVATE))
    except BadKeys as bad:
        raise CannotMake(str(bad)) from bad


def of_fleet(folder: Path) -> tuple[Path, Path]:
    """The private and the public file of one machine's fleet; made, if need be. Raises CannotMake."""
    if not ((folder / PRIVATE).exists() and (folder / PUBLIC).exists()):
        make(folder)
    return folder / PRIVATE, folder / PUBLIC


def sealed_for(public: Path, function: str, variable: str, value: str) -> str:
    """Raises BadKeys, and CannotSeal for what no function could be given."""
    for what, name, pattern in (("function", function, FUNCTION_NAME), ("variable", variable, VARIABLE_NAME)):
        if not re.fullmatch(pattern, name):
            raise CannotSeal(f"{name[:80]!r} is no name of a {what}: it has to match {pattern}")
    if "\0" in value:
        raise CannotSeal("the value has a zero byte, which no environment can have")
    if sealed.is_sealed(value):
        raise CannotSeal("the value is sealed already: give the one that the function is to see")
    return seal(public_keys(public)[0], function, variable, value)


async def reseal(etcd: Etcd, private: Path) -> Resealed:
    """Seals with the first of the keys whatever is not sealed, or with another. Raises EtcdError, BadKeys.

    It is no change of the function: instances stay, and no revision is another one.
    """
    first, opener, done = private_keys(private)[0], Opener(private), Resealed()
    for item in (await etcd.get_prefix(keys.FUNCTIONS)).items:
        if keys.of_function_key(item.key).kind in ("latest", "version"):
            await _resealed(etcd, item, first, opener, done)
    return done


async def _resealed(
    etcd: Etcd, item: KeyValue, first: X25519PrivateKey, opener: Opener, done: Resealed
) -> None:
    """Until nobody has changed it meanwhile."""
    known: KeyValue | None = item
    while known is not None:
        fields: dict[str, Any] = msgpack.unpackb(known.value)  # a newer release's fields stay in it
        now = Resealed()
        fields["environment"] = _environment(fields, first, opener, now)
        value = bytes(msgpack.packb(fields))
        if value == known.value or await etcd.replace(known.key, value, known.mod_revision):
            done.sealed += now.sealed
            done.untouched += now.untouched
            done.left += now.left
            return
        known = await etcd.get(item.key)


def _environment(
    fields: dict[str, Any], first: X25519PrivateKey, opener: Opener, now: Resealed
) -> dict[str, str]:
    public, after = first.public_key(), {}
    newest = sealed.key_id(public.public_bytes_raw())
    for variable, value in fields.get("environment", {}).items():
        after[variable] = value
        try:
            if sealed.is_sealed(value) and sealed.parse(value).key == newest:
                now.untouched += 1
                continue
            opened = opener.open(fields["name"], {variable: value})[variable]
        except (sealed.BadSeal, sealed.CannotOpen) as failed:
            now.left.append(f"{fields['name']}:{fields['version']}: {failed}")
            continue
        after[variable] = seal(public, fields["name"], variable, opened)
        now.sealed += 1
    return after


def _written(folder: Path, given: list[X25519PrivateKey]) -> Made:
    """The private ones first: what is sealed from now on can be opened."""
    form = Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    private = b"".join(key.private_bytes(*form) for key in given)
    halves = [key.public_key() for key in given]
    public = b"".join(half.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo) for half in halves)
    made = Made(
        folder / PRIVATE, folder / PUBLIC, [sealed.key_id(half.public_bytes_raw()) for half in halves]
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        replace_file(made.private, private, 0o600)
        replace_file(made.public, public, 0o644)
    except OSError as error:
        raise CannotMake(f"{folder} cannot be written to: {error.strerror}") from error
    return made
