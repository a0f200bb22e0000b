"""Access keys, as the operator makes and takes them: in etcd itself, since who holds etcd holds the fleet."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from lambent_chassis.clock import unix_s
from lambent_chassis.etcd import Etcd, KeyValue
from lambent_proto import keys
from lambent_proto.access import AccessKey, BadKey, Rule, new_access_key

EVERYTHING = Rule(("*",), ("*",))


async def create(etcd: Etcd, rules: Iterable[Rule], description: str) -> AccessKey:
    """Raises EtcdError."""
    key = new_access_key(rules, description, unix_s())
    await etcd.put_if_not_exists(keys.access_key(key.id), key.encode())
    return key


async def every(etcd: Etcd) -> list[AccessKey]:
    """By their age, the oldest first; one that cannot be read, and so opens nothing, allows nothing.

    Raises EtcdError.
    """
    items = (await etcd.get_prefix(keys.ACCESS_KEYS)).items
    return sorted((_read(item) for item in items), key=lambda it: (it.created_at, it.id))


def _read(item: KeyValue) -> AccessKey:
    try:
        return AccessKey.decode(item.value)
    except BadKey:
        key_id = keys.id_of_access_key(item.key)
        return AccessKey(id=key_id, secret="", rules=(), description="cannot be read: delete it")


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
