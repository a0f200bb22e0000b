"""Resource policies of functions, versions and aliases, as etcd has them."""

from dataclasses import asdict, dataclass
from typing import Any

import msgpack


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """One permission, as AddPermission gives it. What is empty or None is no condition."""

    sid: str
    action: str
    """`lambda:NAME`, `lambda:*` or `*`."""
    principal: str
    """As it was given: `*`, an account, an ARN, or a service such as `s3.amazonaws.com`."""
    source_arn: str = ""
    source_account: str = ""
    principal_org_id: str = ""
    event_source_token: str = ""
    url_auth_type: str = ""
    """`NONE` or `AWS_IAM`."""
    via_url: bool | None = None
    """Whether the call has to come through the function's URL."""


@dataclass(frozen=True, slots=True)
class Policy:
    statements: tuple[Statement, ...]
    revision: str
    """Another one with every change."""

    def encode(self) -> bytes:
        return bytes(msgpack.packb(asdict(self)))

    @classmethod
    def decode(cls, value: bytes) -> "Policy":
        """Fields of a newer release are ignored."""
        fields: dict[str, Any] = msgpack.unpackb(value)
        known = Statement.__dataclass_fields__
        statements = (
            Statement(**{name: it[name] for name in known if name in it}) for it in fields["statements"]
        )
        return cls(tuple(statements), fields["revision"])
