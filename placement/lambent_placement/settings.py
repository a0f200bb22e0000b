"""What a placement is told at its start."""

from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, Field, ValidationError, model_validator

from lambent_chassis.settings import CommaSeparated, Port, Settings
from lambent_proto.shards import MOST_SHARDS, Shard


class Policy(BaseModel):
    """The settings that say what becomes of instances."""

    starts: int = Field(default=1000, ge=1)
    """How many instances one function may start in ten seconds: Lambda's scaling rate."""
    keep_alive: Literal["fixed", "greedy-dual", "histogram"] = "fixed"
    """What becomes of an instance that nobody calls: docs/decisions/0012."""
    keep_alive_s: float = Field(default=3600.0, ge=0)
    """How long it is kept, unless its memory is needed: docs/decisions/0011. With `histogram`, if nothing can
    be told of its function."""
    new_instances: Literal["spread", "pack"] = "spread"
    """To the emptiest nodes; or to the fullest that have room, which leaves whole nodes empty. All else being
    equal: docs/placement.md."""

    def __str__(self) -> str:
        return ", ".join(f"{key}={_plain(value)}" for key, value in self.model_dump().items())


def _plain(value: object) -> object:
    return f"{value:g}" if isinstance(value, float) else value


POLICY_KEYS: Final = tuple(Policy.model_fields)


def _changes(given: list[str]) -> dict[str, Any]:
    return {key.strip(): value.strip() for key, _, value in (item.partition("=") for item in given)}


def _shadow(given: list[str]) -> list[str]:
    for item in given:
        key = item.partition("=")[0].strip()
        if "=" not in item or key not in POLICY_KEYS:
            raise ValueError(f"{item!r} is not KEY=VALUE with one of the keys {', '.join(POLICY_KEYS)}")
    try:
        Policy(**_changes(given))
    except ValidationError as error:
        found = error.errors()[0]
        raise ValueError(f"{found['loc'][0]}: {found['msg'][:1].lower()}{found['msg'][1:]}") from None
    return given


class PlacementSettings(Settings, Policy):
    host: str = "127.0.0.1"
    """Where it listens, and what it tells the other parts to call."""
    port: Port = 0
    metrics_port: Port = 0
    shards: int = Field(default=1, ge=1, le=MOST_SHARDS)
    """How many the fleet has: docs/shards.md."""
    shard: int = Field(default=0, ge=0)
    """Which one it leads, or stands by for; the first is 0."""
    shadow: Annotated[CommaSeparated, AfterValidator(_shadow)] = Field(default=[])
    """What is different in a second policy that runs beside the live one, each a `KEY=VALUE` of `Policy`'s;
    empty: there is none. docs/shadow.md."""
    lease_ttl_s: float = Field(default=2.0, ge=1)
    """How long after the end of a leading placement the next one may lead; renewed after a third."""

    @property
    def place(self) -> Shard:
        """Raises ValueError if the fleet has no such shard."""
        return Shard(self.shard, self.shards)

    @model_validator(mode="after")
    def _shard_is_there(self) -> Self:
        Shard(self.shard, self.shards)
        return self

    @property
    def policy(self) -> Policy:
        """The live one."""
        return Policy(**{key: getattr(self, key) for key in POLICY_KEYS})

    @property
    def shadow_policy(self) -> Policy | None:
        """The live one but for what is said of the shadow."""
        return Policy(**self.policy.model_dump() | _changes(self.shadow)) if self.shadow else None
