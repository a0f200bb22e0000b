"""Resource policies: which statements there can be, how AWS writes them, and what they let through.

A policy decides here about calls of function URLs, and of nothing else: docs/access.md.
"""

import json
import re
from typing import Any, Final

from lambent_proto.errors import InvalidRequest
from lambent_proto.ids import ACCOUNT
from lambent_proto.policies import Policy, Statement
from lambent_proto.urls import AUTH_TYPES

INVOKE: Final = "lambda:InvokeFunction"
INVOKE_URL: Final = "lambda:InvokeFunctionUrl"

MAX_BYTES: Final = 20_480
"""Of a policy's document: Lambda's limit."""

_SHAPES: Final = {
    "sid": ("statementId", re.compile(r"[a-zA-Z0-9-_]{1,100}")),
    "action": ("action", re.compile(r"lambda:[*]|lambda:[a-zA-Z]+|[*]")),
    "principal": ("principal", re.compile(r"[^\s]{1,2048}")),
    "source_arn": ("sourceArn", re.compile(r"arn:aws[a-zA-Z0-9-]*:[a-zA-Z0-9-]+:[a-z0-9-]*:(\d{12})?:.*")),
    "source_account": ("sourceAccount", re.compile(r"\d{12}")),
    "principal_org_id": ("principalOrgID", re.compile(r"o-[a-z0-9]{10,32}")),
    "event_source_token": ("eventSourceToken", re.compile(r"[a-zA-Z0-9._-]{0,256}")),
}
"""What AWS's model allows of each field, and what it calls it."""

_NEEDED: Final = ("sid", "action", "principal")


def check(statement: Statement) -> None:
    """Raises InvalidRequest."""
    for name, (called, shape) in _SHAPES.items():
        value = getattr(statement, name)
        if (value or name in _NEEDED) and not (value.isprintable() and shape.fullmatch(value)):
            raise InvalidRequest(f"{called} is {value[:120]!r}, which does not have the form {shape.pattern}")
    if statement.url_auth_type and statement.url_auth_type not in AUTH_TYPES:
        raise InvalidRequest(f"the auth type of a URL is {' or '.join(AUTH_TYPES)}")
    if statement.url_auth_type and statement.action != INVOKE_URL:
        raise InvalidRequest(f"FunctionUrlAuthType is only supported for {INVOKE_URL} action")
    if statement.via_url is not None and statement.action != INVOKE:
        raise InvalidRequest(f"InvokedViaFunctionUrl is only supported for {INVOKE} action")
    _principal(statement.principal)


def document(policy: Policy, arn: str) -> str:
    """The policy of what has this ARN, as JSON."""
    statements = [_shape(it, arn) for it in policy.statements]
    return _json({"Version": "2012-10-17", "Id": "default", "Statement": statements})


def statement_document(statement: Statement, arn: str) -> str:
    """As JSON."""
    return _json(_shape(statement, arn))


def lets_call(policy: Policy | None, auth_type: str, key_id: str) -> bool:
    """Whether it lets who has this access key call a URL of this auth type; the empty id is anybody's.

    As at AWS since October 2025, that takes a statement for InvokeFunctionUrl and one for InvokeFunction.
    """
    statements = policy.statements if policy else ()
    return all(
        any(_allows(it, action, auth_type, key_id) for it in statements) for action in (INVOKE_URL, INVOKE)
    )


def user_arn(key_id: str) -> str:
    """What an access key is called where AWS has a user."""
    return f"arn:aws:iam::{ACCOUNT}:user/{key_id}"


def _allows(statement: Statement, action: str, auth_type: str, key_id: str) -> bool:
    """A condition about services, accounts or organizations holds for nobody who calls a URL."""
    of_others = (
        statement.source_arn,
        statement.source_account,
        statement.principal_org_id,
        statement.event_source_token,
    )
    return (
        statement.action.lower() in (action.lower(), "lambda:*", "*")
        and (statement.principal == "*" or (key_id != "" and statement.principal == user_arn(key_id)))
        and not any(of_others)
        and statement.url_auth_type in ("", auth_type)
        and statement.via_url is not False
    )


def _shape(statement: Statement, arn: str) -> dict[str, Any]:
    shape = {
        "Sid": statement.sid,
        "Effect": "Allow",
        "Principal": _principal(statement.principal),
        "Action": statement.action,
        "Resource": arn,
    }
    conditions = _conditions(statement)
    return shape | {"Condition": conditions} if conditions else shape


def _principal(text: str) -> str | dict[str, str]:
    """Raises InvalidRequest if it is none that AWS takes."""
    if text == "*":
        return text
    if re.fullmatch(r"\d{12}", text):
        return {"AWS": f"arn:aws:iam::{text}:root"}
    if re.fullmatch(r"arn:aws[a-z-]*:(iam|sts)::\d{12}:.+", text):
        return {"AWS": text}
    if re.fullmatch(r"[a-z0-9.-]+\.[a-z.]+", text):
        return {"Service": text}
    raise InvalidRequest("The provided principal was invalid. Please check the principal and try again.")


def _conditions(statement: Statement) -> dict[str, dict[str, str]]:
    equal = {
        "AWS:SourceAccount": statement.source_account,
        "aws:PrincipalOrgID": statement.principal_org_id,
        "lambda:EventSourceToken": statement.event_source_token,
        "lambda:FunctionUrlAuthType": statement.url_auth_type,
    }
    conditions: dict[str, dict[str, str]] = {}
    if said := {name: value for name, value in equal.items() if value}:
        conditions["StringEquals"] = said
    if statement.source_arn:
        conditions["ArnLike"] = {"AWS:SourceArn": statement.source_arn}
    if statement.via_url is not None:
        conditions["Bool"] = {"lambda:InvokedViaFunctionUrl": str(statement.via_url).lower()}
    return conditions


def _json(shape: dict[str, Any]) -> str:
    return json.dumps(shape, separators=(",", ":"))
