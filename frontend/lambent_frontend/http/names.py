"""Names as Lambda's API has them: a function by its name or ARN, with or without a qualifier; ARNs of all
that is.

Every request may name its function as `name`, `name:qualifier`, `account:function:name[:qualifier]`,
`function:name[:qualifier]` or `arn:aws:lambda:region:account:function:name[:qualifier]`. Region and account
may be any: a fleet has neither.
"""

import re
from typing import Final, NamedTuple

from lambent_frontend.http.errors import constraint
from lambent_frontend.rules import ARN, LAYER_NAME, LAYER_VERSION
from lambent_proto.errors import InvalidRequest
from lambent_proto.ids import ACCOUNT, REGION, FunctionName

_FUNCTION: Final = re.compile(
    rf"(?:{ARN}function:|\d{{12}}:function:|function:)?"
    r"([a-zA-Z0-9-_]{1,64})(?::(\$LATEST|[a-zA-Z0-9-_]{1,128}))?"
)
_NAME_RULE: Final = (
    "Member must satisfy regular expression pattern: "
    r"(arn:aws:lambda:[a-z0-9-]+:\d{12}:)?(\d{12}:)?(function:)?[a-zA-Z0-9-_]{1,64}(:(\$LATEST|[a-zA-Z0-9-_]{1,128}))?"
)
_QUALIFIER: Final = re.compile(r"\$LATEST|[a-zA-Z0-9-_]{1,128}")
_LAYER_VERSION: Final = re.compile(rf"{ARN}layer:{LAYER_VERSION}")
_LAYER: Final = re.compile(rf"(?:{ARN}layer:)?({LAYER_NAME})")


class Named(NamedTuple):
    """A function, and what of it: a version's number, an alias, `$LATEST`, or empty."""

    name: FunctionName
    qualifier: str

    @property
    def asked(self) -> str:
        """As the invocation services take it."""
        return f"{self.name}:{self.qualifier}" if self.qualifier else self.name


def function_named(text: str, qualifier: str = "") -> Named:
    """What a request's path and its `Qualifier` name together. Raises InvalidRequest or Refused."""
    found = _FUNCTION.fullmatch(text)
    if found is None:
        raise constraint(text, "functionName", _NAME_RULE)
    if qualifier and not _QUALIFIER.fullmatch(qualifier):
        raise InvalidRequest(
            f"the qualifier {qualifier[:140]!r} is neither a version nor the name of an alias"
        )
    name, derived = found.groups(default="")
    if derived and qualifier and derived != qualifier:
        raise InvalidRequest(
            "The derived qualifier from the function name does not match the specified qualifier."
        )
    return Named(FunctionName(name), derived or qualifier)


def layer_named(text: str) -> str:
    """A layer by its name or its ARN. Raises InvalidRequest."""
    found = _LAYER.fullmatch(text)
    if found is None:
        raise InvalidRequest(f"{text[:200]!r} is neither the name nor the ARN of a layer")
    return found[1]


def layer_version_named(arn: str) -> tuple[str, int]:
    """Name and number of a layer's version by its ARN. Raises InvalidRequest."""
    found = _LAYER_VERSION.fullmatch(arn)
    if found is None:
        raise InvalidRequest(f"{arn[:250]!r} is not the ARN of a layer's version")
    return found[1], int(found[2])


def function_arn(name: str, qualifier: str = "") -> str:
    arn = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{name}"
    return f"{arn}:{qualifier}" if qualifier else arn


def trigger_arn(trigger_id: str) -> str:
    return f"arn:aws:lambda:{REGION}:{ACCOUNT}:event-source-mapping:{trigger_id}"


def log_group(name: str) -> str:
    return f"/aws/lambda/{name}"


def layer_arn(name: str) -> str:
    return f"arn:aws:lambda:{REGION}:{ACCOUNT}:layer:{name}"


def layer_version_arn(name: str, version: int) -> str:
    return f"{layer_arn(name)}:{version}"
