"""The frontend's view of the access keys, whatever it is that etcd has of them."""

from collections.abc import AsyncGenerator
from typing import Any

import pytest

from lambent_chassis.etcd import Change, KeyValue, Snapshot
from lambent_frontend.access import AccessKeys
from lambent_proto import keys
from lambent_proto.access import AccessKey, Rule, new_access_key
from lambent_proto.errors import UnknownKey


class Told:
    """Tells once what it was made with, in the place of etcd."""

    def __init__(self, *news: Snapshot | list[Change]) -> None:
        self._news = news

    async def follow_prefix(self, prefix: str) -> AsyncGenerator[Snapshot | list[Change], None]:
        assert prefix == keys.ACCESS_KEYS
        for it in self._news:
            yield it


async def known(*news: Snapshot | list[Change]) -> AccessKeys:
    etcd: Any = Told(*news)
    view = AccessKeys(etcd)
    await view.follow()
    return view


def key() -> AccessKey:
    return new_access_key([Rule.parse("*")], "tests", 0.0)


def there(key_id: str, value: bytes) -> KeyValue:
    return KeyValue(keys.access_key(key_id), value, 1, 1)


def put(key_id: str, value: bytes) -> Change:
    return Change("put", keys.access_key(key_id), value, 2, 2)


async def test_a_key_that_cannot_be_read_opens_nothing_and_harms_no_other() -> None:
    one, other, third = key(), key(), key()
    view = await known(
        Snapshot(1, [there("broken", b"\xc1"), there(one.id, one.encode()), there(other.id, other.encode())]),
        [put(other.id, b"not a key"), put(third.id, third.encode())],
    )
    for readable in (one, third):
        assert view.bearer(f"Bearer {readable.token}") == readable
    with pytest.raises(UnknownKey):
        view.bearer(f"Bearer {other.token}")


async def test_after_a_compaction_only_what_is_there_is_known() -> None:
    one, other = key(), key()
    view = await known(
        Snapshot(1, [there(one.id, one.encode())]),
        [put(other.id, other.encode())],
        Snapshot(9, [there(other.id, other.encode())]),
    )
    assert view.secret(other.id) == other.secret
    assert view.secret(one.id) is None
