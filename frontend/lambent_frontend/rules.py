"""Lambda's rules for functions and layers. InvalidRequest says what is allowed."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from lambent_chassis.zipcheck import MAX_UNZIPPED_BYTES
from lambent_proto import labels, sealed
from lambent_proto.definition import LATEST, Definition
from lambent_proto.errors import InvalidRequest
from lambent_proto.ids import FUNCTION_NAME, MAX_MEMORY_MB, MIN_MEMORY_MB, VARIABLE_NAME
from lambent_proto.runtimes import FORMS, is_runtime
from lambent_proto.v1 import functions_pb2, layers_pb2

MAX_TIMEOUT_S: Final = 900
MAX_ENVIRONMENT_BYTES: Final = 4096
"""All keys and values together."""
MAX_DESCRIPTION: Final = 256
MAX_HANDLER: Final = 128
MAX_ROLE: Final = 2048
MAX_TAGS: Final = 50
MAX_TAG_KEY: Final = 128
MAX_TAG_VALUE: Final = 256
MAX_ZIP_BYTES: Final = 52_428_800
"""Lambda's limit for a ZIP sent with the request."""
MAX_LAYERS: Final = 5
MAX_COMPATIBLE_RUNTIMES: Final = 15
MAX_LICENSE: Final = 512
ARCHITECTURES: Final = frozenset({"arm64", "x86_64"})
MIN_TMP_MB: Final = 512
MAX_TMP_MB: Final = 10_240
MAX_PAGE: Final = 10_000
DEFAULT_PAGE: Final = 50

RESERVED: Final = frozenset(
    {
        "_HANDLER",
        "_X_AMZN_TRACE_ID",
        "AWS_DEFAULT_REGION",
        "AWS_REGION",
        "AWS_EXECUTION_ENV",
        "AWS_LAMBDA_FUNCTION_NAME",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
        "AWS_LAMBDA_FUNCTION_VERSION",
        "AWS_LAMBDA_INITIALIZATION_TYPE",
        "AWS_LAMBDA_LOG_GROUP_NAME",
        "AWS_LAMBDA_LOG_STREAM_NAME",
        "AWS_ACCESS_KEY",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_LAMBDA_RUNTIME_API",
        "LAMBDA_TASK_ROOT",
        "LAMBDA_RUNTIME_DIR",
    }
)
"""Environment variables that the runtime sets itself."""

_NAME: Final = re.compile(FUNCTION_NAME)
_ALIAS: Final = re.compile(r"(?!\d+$)[a-zA-Z0-9-_]{1,128}")
LAYER_NAME: Final = r"[a-zA-Z0-9-_]{1,140}"
ARN: Final = r"arn:aws[a-zA-Z0-9-]*:lambda:[a-z0-9-]+:\d{12}:"
"""How each ARN begins; region and account may be any, as a fleet has neither."""
LAYER_VERSION: Final = rf"({LAYER_NAME}):(\d{{1,9}})"
_LAYER: Final = re.compile(rf"(?:{ARN}layer:)?{LAYER_VERSION}")
_RUNTIME: Final = re.compile(r"[a-z][a-z0-9._-]{0,63}")
_HANDLER: Final = re.compile(r"[^\s\0]+")
_VARIABLE: Final = re.compile(VARIABLE_NAME)


def check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise InvalidRequest(
            f"the name {name[:80]!r} is not 1 to 64 of the characters a-z, A-Z, 0-9, - and _"
        )


def check_alias_name(name: str) -> None:
    if not _ALIAS.fullmatch(name):
        raise InvalidRequest(
            f"the alias {name[:140]!r} is not 1 to 128 of the characters a-z, A-Z, 0-9, - and _, "
            "or has digits alone, as versions do"
        )


def checked_weights(version: str, weights: Mapping[str, float]) -> dict[str, float]:
    """What an alias gives to another version than its own."""
    if len(weights) > 1:
        raise InvalidRequest(f"the weights name {len(weights)} versions; an alias takes one beside its own")
    for other, share in weights.items():
        if LATEST in (version, other):
            raise InvalidRequest("$LATEST is not supported for an alias pointing to more than 1 version")
        if other == version:
            raise InvalidRequest(f"version {version} is the alias's own: its weight is what the other leaves")
        if not 0 <= share <= 1:
            raise InvalidRequest(f"the weight of version {other} is {share}; allowed: 0 to 1")
    return dict(weights)


def check_layer_name(name: str) -> None:
    if not re.fullmatch(LAYER_NAME, name):
        raise InvalidRequest(
            f"the layer's name {name[:160]!r} is not 1 to 140 of the characters a-z, A-Z, 0-9, - and _"
        )


def check_layer(request: layers_pb2.PublishLayerVersionRequest) -> None:
    """What is said of a layer's version when it is published."""
    check_layer_name(request.name)
    check_description(request.description)
    if len(request.license) > MAX_LICENSE:
        raise InvalidRequest(f"the license has {len(request.license)} characters, the limit is {MAX_LICENSE}")
    if unknown := set(request.compatible_architectures) - ARCHITECTURES:
        raise InvalidRequest(f"{min(unknown)[:80]!r} is none of the architectures arm64 and x86_64")
    runtimes = request.compatible_runtimes
    if len(runtimes) > MAX_COMPATIBLE_RUNTIMES:
        raise InvalidRequest(
            f"there are {len(runtimes)} compatible runtimes, the limit is {MAX_COMPATIBLE_RUNTIMES}"
        )
    for runtime in runtimes:
        if not _RUNTIME.fullmatch(runtime):
            raise InvalidRequest(f"{runtime[:80]!r} is not the name of a runtime, such as python3.11")


def page_size(max_items: int) -> int:
    """How many items a page of a list has."""
    if not 0 <= max_items <= MAX_PAGE:
        raise InvalidRequest(f"max_items is {max_items}; allowed: 1 to {MAX_PAGE}, or 0 for {DEFAULT_PAGE}")
    return max_items or DEFAULT_PAGE


def named_layers(versions: Sequence[str]) -> list[tuple[str, int]]:
    """Name and version of each layer that a configuration names."""
    if len(versions) > MAX_LAYERS:
        raise InvalidRequest(f"Cannot reference more than {MAX_LAYERS} layers.")
    named: dict[str, int] = {}
    for version in versions:
        match = _LAYER.fullmatch(version)
        if match is None:
            raise InvalidRequest(
                f"the layer {version[:200]!r} is neither NAME:VERSION nor the ARN of a layer's version"
            )
        if match[1] in named:
            raise InvalidRequest(f"the layer {match[1]!r} is there twice: a function takes one version of it")
        named[match[1]] = int(match[2])
    return list(named.items())


def layer_name(version: str) -> str:
    """Of one that a configuration names; what names none is its own name, and is refused elsewhere."""
    match = _LAYER.fullmatch(version)
    return match[1] if match else version[:200]


def check_whole(definition: Definition) -> None:
    """What no field shows alone: that code and layers are not too large together, and what fits together."""
    layers = sum(layer.unzipped_size for layer in definition.layers)
    if (total := definition.unzipped_size + layers) > MAX_UNZIPPED_BYTES:
        raise InvalidRequest(
            f"code and layers have {total:,} bytes unzipped ({definition.unzipped_size:,} and {layers:,}), "
            f"{MAX_UNZIPPED_BYTES:,} are allowed: leave out what the function does not need"
        )
    if definition.snapstart and not definition.runtime.startswith("python"):
        raise InvalidRequest(
            f"snapstart is for Python alone, the runtime is {definition.runtime}: switch it off"
        )


def checked_changes(configuration: functions_pb2.Configuration) -> dict[str, Any]:
    """The fields of a Definition that the configuration sets, checked; not `layers`: see `named_layers`."""
    changes: dict[str, Any] = {}
    for field, check in _SCALARS.items():
        if configuration.HasField(field):
            changes[field] = check(getattr(configuration, field))
    if configuration.HasField("environment"):
        changes["environment"] = _environment(dict(configuration.environment.variables))
    if configuration.HasField("require"):
        changes["require"] = _labels("require", configuration.require.labels)
    if configuration.HasField("prefer"):
        changes["prefer"] = _labels("prefer", configuration.prefer.labels)
    if configuration.HasField("tags"):
        changes["tags"] = checked_tags(dict(configuration.tags.tags))
    if configuration.HasField("concurrency"):
        changes["concurrency"] = _concurrency(configuration.concurrency)
    return changes


def check_zip_size(package: bytes) -> None:
    if len(package) > MAX_ZIP_BYTES:
        raise InvalidRequest(f"the ZIP has {len(package)} bytes, the limit is {MAX_ZIP_BYTES}")


def _runtime(runtime: str) -> str:
    if not is_runtime(runtime):
        raise InvalidRequest(f"the runtime {runtime[:80]!r} is none of: {FORMS}")
    return runtime


def _handler(handler: str) -> str:
    if len(handler) > MAX_HANDLER or not _HANDLER.fullmatch(handler):
        raise InvalidRequest(
            f"the handler {handler[:80]!r} is not 1 to {MAX_HANDLER} characters without spaces: FILE.FUNCTION"
        )
    return handler


def _memory(memory_mb: int) -> int:
    if not MIN_MEMORY_MB <= memory_mb <= MAX_MEMORY_MB:
        raise InvalidRequest(f"memory_mb is {memory_mb}; allowed: {MIN_MEMORY_MB} to {MAX_MEMORY_MB}")
    return memory_mb


def _timeout(timeout_s: float) -> float:
    if not 0 < timeout_s <= MAX_TIMEOUT_S:
        raise InvalidRequest(f"timeout_s is {timeout_s}; allowed: above 0, at most {MAX_TIMEOUT_S}")
    return timeout_s


def _tmp(tmp_mb: int) -> int:
    if not MIN_TMP_MB <= tmp_mb <= MAX_TMP_MB:
        raise InvalidRequest(f"tmp_mb is {tmp_mb}; allowed: {MIN_TMP_MB} to {MAX_TMP_MB}")
    return tmp_mb


def check_description(description: str) -> str:
    if len(description) > MAX_DESCRIPTION:
        raise InvalidRequest(
            f"the description has {len(description)} characters, the limit is {MAX_DESCRIPTION}"
        )
    return description


def _environment(variables: dict[str, str]) -> dict[str, str]:
    for key, value in variables.items():
        if not _VARIABLE.fullmatch(key):
            raise InvalidRequest(
                f"the environment variable {key[:80]!r} must begin with a letter, "
                "have two characters or more, and only letters, digits and _"
            )
        if key in RESERVED:
            raise InvalidRequest(f"the environment variable {key} is set by the runtime: choose another name")
        if "\0" in value:
            raise InvalidRequest(f"the environment variable {key} has a zero byte in its value")
    size = sum(len(key.encode()) + _size(key, value) for key, value in variables.items())
    if size > MAX_ENVIRONMENT_BYTES:
        raise InvalidRequest(f"the environment has {size} bytes in all, the limit is {MAX_ENVIRONMENT_BYTES}")
    return variables


def _size(key: str, value: str) -> int:
    """Bytes of the value itself, however it is sealed."""
    if not sealed.is_sealed(value):
        return len(value.encode())
    try:
        return sealed.parse(value).size
    except sealed.BadSeal as bad:
        raise InvalidRequest(f"the environment variable {key} has a sealed value, and {bad}") from None


def _labels(field: str, given: Sequence[str]) -> tuple[str, ...]:
    for label in given:
        if not labels.is_label(label):
            raise InvalidRequest(f"{field} has {label[:140]!r}, which is not a label: {labels.FORM}")
    if len(given) > labels.MOST:
        raise InvalidRequest(f"{field} has {len(given)} labels, {labels.MOST} are allowed")
    return tuple(sorted(set(given)))


def _role(role: str) -> str:
    if len(role) > MAX_ROLE or not role.isprintable():
        raise InvalidRequest(
            f"the role {role[:80]!r} is not at most {MAX_ROLE} characters that can be printed"
        )
    return role


def checked_tags(tags: dict[str, str]) -> dict[str, str]:
    if len(tags) > MAX_TAGS:
        raise InvalidRequest(f"there are {len(tags)} tags, {MAX_TAGS} are allowed")
    for key, value in tags.items():
        if not 1 <= len(key) <= MAX_TAG_KEY or len(value) > MAX_TAG_VALUE:
            raise InvalidRequest(
                f"the tag {key[:80]!r} has a key of {len(key)} and a value of {len(value)} characters; "
                f"allowed: 1 to {MAX_TAG_KEY}, and {MAX_TAG_VALUE} at most"
            )
    return tags


def _concurrency(concurrency: functions_pb2.Concurrency) -> int | None:
    if not concurrency.HasField("limit"):
        return None
    if concurrency.limit < 0:
        raise InvalidRequest(f"the concurrency is {concurrency.limit}; it must be 0 or more")
    return concurrency.limit


_SCALARS: Final[dict[Any, Any]] = {
    "runtime": _runtime,
    "handler": _handler,
    "memory_mb": _memory,
    "timeout_s": _timeout,
    "description": check_description,
    "tmp_mb": _tmp,
    "network": bool,
    "snapstart": bool,
    "apart": bool,
    "role": _role,
    "dead_letter": str,
}
