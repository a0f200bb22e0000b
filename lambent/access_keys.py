"""Access keys, as the operator makes and takes them: in etcd itself, since who holds etcd holds the fleet."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from lambent_chassis.clock import unix_s
from lambent_chassis.etcd import Etcd
from lambent_proto import keys
from lambent_proto.access import AccessKey, Rule, new_access_key

EVERYTHING = Rule(("*",), ("*",))


async def create(etcd: Etcd, rules: Iterable[Rule], description: str) -> AccessKey:
    """Raises EtcdError."""
    key = new_access_key(rules, description, unix_s())
    await etcd.put_if_not_exists(keys.access_key(key.id), key.encode())
    return key


async def every(etcd: Etcd) -> list[AccessKey]:
    """By their age, the oldest first. Raises EtcdError."""
    items = (await etcd.get_prefix(keys.ACCESS_KEYS)).items
    return sorted((AccessKey.decode(item.value) for item in items), key=lambda it: (it.created_at, it.id))


async def delete(etcd: Etcd, key_id: str) -> bool:
    """False if there is none. Raises EtcdError."""
    return await etcd.delete(keys.access_key(key_id))


async def keep(etcd: Etcd, key: AccessKey) -> None:
    """Whatever there is under its id by now. Raises EtcdError."""
    await etcd.put(keys.access_key(key.id), key.encode())


def of_operator(file: Path) -> AccessKey:
    """The key that may do everything, whose token is in `file`: read there, or made and written.

    Raises OSError.
    """
    key = new_access_key([EVERYTHING], "the operator of `lambent up`", unix_s())
    key_id, dot, secret = file.read_text().strip().partition(".") if file.exists() else ("", "", "")
    if dot:
        return replace(key, id=key_id, secret=secret)
    fresh = file.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    fresh.touch(mode=0o600)
    fresh.write_text(key.token + "\n")
    fresh.replace(file)
    return key
