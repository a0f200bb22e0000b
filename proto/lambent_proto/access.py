"""Access keys: who may do what. A key is an id, a secret, and the rules that say what it allows: no more.

The secret is kept as it is, since a SigV4 signature can only be verified by who knows it.
"""

import secrets
from base64 import b32encode
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from typing import Any, Final

import msgpack

INVOKE: Final = "InvokeFunction"
INVOKE_URL: Final = "InvokeFunctionUrl"
READ_LOGS: Final = "ReadLogs"

ACTIONS: Final = frozenset(
    {
        INVOKE,
        "CreateFunction",
        "UpdateFunctionCode",
        "UpdateFunctionConfiguration",
        "GetFunction",
        "GetFunctionConfiguration",
        "ListFunctions",
        "DeleteFunction",
        "PutFunctionConcurrency",
        "GetFunctionConcurrency",
        "DeleteFunctionConcurrency",
        "TagResource",
        "UntagResource",
        "ListTags",
        "PublishVersion",
        "ListVersionsByFunction",
        "CreateAlias",
        "UpdateAlias",
        "GetAlias",
        "ListAliases",
        "DeleteAlias",
        "PutProvisionedConcurrencyConfig",
        "GetProvisionedConcurrencyConfig",
        "ListProvisionedConcurrencyConfigs",
        "DeleteProvisionedConcurrencyConfig",
        "AddPermission",
        "GetPolicy",
        "RemovePermission",
        "CreateFunctionUrlConfig",
        "GetFunctionUrlConfig",
        "UpdateFunctionUrlConfig",
        "ListFunctionUrlConfigs",
        "DeleteFunctionUrlConfig",
        INVOKE_URL,
        "PublishLayerVersion",
        "GetLayerVersion",
        "ListLayers",
        "ListLayerVersions",
        "DeleteLayerVersion",
        "PutFunctionEventInvokeConfig",
        "UpdateFunctionEventInvokeConfig",
        "GetFunctionEventInvokeConfig",
        "DeleteFunctionEventInvokeConfig",
        "ListFunctionEventInvokeConfigs",
        "GetAsyncInvocation",
        "ListAsyncInvocations",
        "CancelAsyncInvocation",
        "RedriveAsyncInvocation",
        "GetQueue",
        "CreateEventSourceMapping",
        "UpdateEventSourceMapping",
        "GetEventSourceMapping",
        "ListEventSourceMappings",
        "DeleteEventSourceMapping",
        "CreateSchedule",
        "UpdateSchedule",
        "GetSchedule",
        "ListSchedules",
        "DeleteSchedule",
        "GetAccountSettings",
        "SetConcurrency",
        "ListInstances",
        "ListNodes",
        "DrainNode",
        "Explain",
        "CountReasons",
        "GetShadow",
        READ_LOGS,
    }
)
"""What can be allowed: Lambda's names, and those of what Lambda does not have."""

LAYER: Final = "layer:"
"""Before a layer's name where a rule says what it is about."""

SCHEDULE: Final = "schedule:"
"""Before a schedule's."""

_KINDS: Final = (LAYER, SCHEDULE)

_NAME_CHARACTERS: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_*?")


class BadRule(ValueError):
    """The message says which part of the rule is wrong, and why."""


class BadKey(ValueError):
    """What is stored as an access key is none."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Allows each of the actions on each of the resources; `*` and `?` match as they do in file names."""

    actions: tuple[str, ...]
    resources: tuple[str, ...]
    """Names of functions, of layers as `layer:NAME`, of schedules as `schedule:NAME`. What is of no single
    one is allowed by `*` alone."""

    def allows(self, action: str, resource: str) -> bool:
        return _matches(self.actions, action) and any(_covers(it, resource) for it in self.resources)

    def __str__(self) -> str:
        return f"{','.join(self.actions)}@{','.join(self.resources)}"

    @classmethod
    def parse(cls, text: str) -> "Rule":
        """Of `ACTION[,ACTION...][@RESOURCE[,RESOURCE...]]`; without resources: all. Raises BadRule."""
        said, at, about = text.partition("@")
        actions = tuple(said.split(","))
        resources = tuple(about.split(",")) if at else ("*",)
        for action in actions:
            if not any(fnmatchcase(known, action) for known in ACTIONS):
                raise BadRule(f"{action!r} is no action, nor the pattern of one")
        for resource in resources:
            name = resource.removeprefix(_kind(resource))
            if not name or not _NAME_CHARACTERS.issuperset(name):
                raise BadRule(
                    f"{resource!r} is no name of a function, nor {LAYER}NAME or {SCHEDULE}NAME, nor a "
                    "pattern of those"
                )
        return cls(actions, resources)


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessKey:
    id: str
    secret: str
    rules: tuple[Rule, ...]
    description: str = ""
    created_at: float = 0.0
    """Unix time, seconds."""

    def allows(self, action: str, resource: str) -> bool:
        """`resource` is as in a Rule, and no pattern; empty for what is about no single one."""
        return any(rule.allows(action, resource) for rule in self.rules)

    @property
    def token(self) -> str:
        """Id and secret in one word, as gRPC and plain HTTP carry it: `authorization: Bearer TOKEN`."""
        return f"{self.id}.{self.secret}"

    def encode(self) -> bytes:
        return bytes(msgpack.packb(asdict(self)))

    @classmethod
    def decode(cls, value: bytes) -> "AccessKey":
        """Fields of a newer release are ignored. Raises BadKey."""
        try:
            fields: dict[str, Any] = msgpack.unpackb(value)
            fields["rules"] = tuple(_rule(it) for it in fields["rules"])
            key = cls(**{name: fields[name] for name in cls.__dataclass_fields__ if name in fields})
        except (ValueError, TypeError, KeyError, msgpack.UnpackException) as error:
            raise BadKey(f"{type(error).__name__}: {error}") from error
        if not (key.id and key.secret and isinstance(key.id, str) and isinstance(key.secret, str)):
            raise BadKey("without an id or a secret")
        return key


def new_access_key(rules: Iterable[Rule], description: str, created_at: float) -> AccessKey:
    """With an id and a secret of the lengths that AWS's have, from the system's source of randomness."""
    return AccessKey(
        id="LA" + b32encode(secrets.token_bytes(15)).decode()[:18],
        secret=secrets.token_urlsafe(30),
        rules=tuple(rules),
        description=description,
        created_at=created_at,
    )


def _rule(fields: dict[str, Sequence[str]]) -> Rule:
    return Rule(tuple(fields["actions"]), tuple(fields["resources"]))


def _matches(patterns: tuple[str, ...], text: str) -> bool:
    return any(fnmatchcase(text, pattern) for pattern in patterns)


def _covers(pattern: str, resource: str) -> bool:
    """One of functions' names, such as `l*`, is about no layer, although `layer:` begins with it."""
    if pattern == "*":
        return True
    return _kind(pattern) == _kind(resource) and fnmatchcase(resource, pattern)


def _kind(name: str) -> str:
    """What stands before it; empty for a function's."""
    return next((kind for kind in _KINDS if name.startswith(kind)), "")
