"""Who asks, and whether they may: the access keys as etcd has them, followed by watch."""

import asyncio
import hmac
from typing import Final

import structlog

from lambent_chassis.etcd import Etcd, Snapshot
from lambent_proto import keys
from lambent_proto.access import AccessKey, BadKey
from lambent_proto.errors import AccessDenied, NoCredentials, UnknownKey

_log = structlog.get_logger()

_BEARER: Final = "bearer "
_UNKNOWN: Final = (
    "there is no such access key, or no longer, or its secret is another: "
    "`lambent key ls` lists those there are"
)


class AccessKeys:
    """`known` is set once those that there were at the start have been read."""

    def __init__(self, etcd: Etcd) -> None:
        self._etcd = etcd
        self._keys: dict[str, AccessKey] = {}
        self.known = asyncio.Event()

    async def follow(self) -> None:
        """Never returns. A deleted key is refused from the moment that etcd's watch tells of it."""
        async for news in self._etcd.follow_prefix(keys.ACCESS_KEYS):
            if isinstance(news, Snapshot):
                self._keys = {}
                for item in news.items:
                    self._set(item.key, item.value)
                self.known.set()
                continue
            for change in news:
                self._set(change.key, change.value if change.kind == "put" else None)

    def _set(self, etcd_key: str, value: bytes | None) -> None:
        """One that cannot be read is as if it were not there: it opens nothing, and harms no other."""
        key_id = keys.id_of_access_key(etcd_key)
        self._keys.pop(key_id, None)
        if value is None:
            return
        try:
            self._keys[key_id] = AccessKey.decode(value)
        except BadKey as error:
            _log.error("access_key_unreadable", access_key=key_id, error=str(error))

    def secret(self, key_id: str) -> str | None:
        key = self._keys.get(key_id)
        return key.secret if key else None

    def get(self, key_id: str) -> AccessKey:
        """As it is now. Raises UnknownKey."""
        key = self._keys.get(key_id)
        if key is None:
            raise UnknownKey(_UNKNOWN)
        return key

    def bearer(self, authorization: str) -> AccessKey:
        """The key whose token an `authorization: Bearer TOKEN` carries. Raises NoCredentials, UnknownKey."""
        if authorization[: len(_BEARER)].lower() != _BEARER:
            raise NoCredentials(
                "this fleet asks who calls: give the token of an access key, to Lambent's own clients as "
                "LAMBENT_KEY, from others as `authorization: Bearer TOKEN`; `lambent key create` makes one"
            )
        key_id, _, secret = authorization[len(_BEARER) :].strip().partition(".")
        key = self.get(key_id)
        if not hmac.compare_digest(key.secret.encode(), secret.encode()):
            raise UnknownKey(_UNKNOWN)
        return key


def permit(key: AccessKey, action: str, resource: str) -> None:
    """Raises AccessDenied unless the key allows it. `resource` is as AccessKey.allows has it."""
    if not key.allows(action, resource):
        of = f" on {resource!r}" if resource else ""
        needed = f"{action}@{resource}" if resource else action
        raise AccessDenied(
            f"access key {key.id} may not {action}{of}: it takes one made with `lambent key create --allow "
            f"'{needed}'`"
        )
