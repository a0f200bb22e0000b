"""What a resource policy lets through: both actions, to whom, on what conditions."""

import json
from dataclasses import replace
from typing import Any

import pytest

from lambent_frontend.policy import check, document, lets_call, user_arn
from lambent_proto.errors import InvalidRequest
from lambent_proto.policies import Policy, Statement
from lambent_proto.urls import AWS_IAM, NONE

URL = Statement(sid="url", action="lambda:InvokeFunctionUrl", principal="*", url_auth_type=NONE)
VIA = Statement(sid="via", action="lambda:InvokeFunction", principal="*", via_url=True)
MINE = user_arn("LAKEY")


def lets(auth_type: str, key_id: str, *statements: Statement) -> bool:
    return lets_call(Policy(statements, "r"), auth_type, key_id)


@pytest.mark.parametrize(
    ("auth_type", "key_id", "statements", "expected"),
    [
        (NONE, "", (URL, VIA), True),
        (NONE, "", (), False),
        (NONE, "", (URL,), False),
        (NONE, "", (VIA,), False),
        (NONE, "", (URL, replace(VIA, via_url=None)), True),
        (NONE, "", (URL, replace(VIA, via_url=False)), False),
        (NONE, "", (replace(URL, url_auth_type=""), VIA), True),
        (NONE, "", (replace(URL, url_auth_type=AWS_IAM), VIA), False),
        (AWS_IAM, "LAKEY", (URL, VIA), False),
        (AWS_IAM, "LAKEY", (replace(URL, url_auth_type=AWS_IAM), VIA), True),
        (AWS_IAM, "LAKEY", (replace(URL, url_auth_type=AWS_IAM, principal=MINE), VIA), True),
        (AWS_IAM, "LAOTHER", (replace(URL, url_auth_type=AWS_IAM, principal=MINE), VIA), False),
        (NONE, "", (replace(URL, principal=user_arn("")), VIA), False),
        (NONE, "", (replace(URL, principal="000000000000"), VIA), False),
        (NONE, "", (replace(URL, principal="s3.amazonaws.com"), VIA), False),
        (NONE, "", (replace(URL, source_arn="arn:aws:s3:::b"), VIA), False),
        (NONE, "", (replace(URL, source_account="0" * 12), VIA), False),
        (NONE, "", (URL, replace(VIA, principal_org_id="o-a1b2c3d4e5")), False),
        (NONE, "", (URL, replace(VIA, event_source_token="t")), False),
        (NONE, "", (replace(URL, action="*", url_auth_type=""),), True),
        (NONE, "", (replace(URL, action="lambda:*", url_auth_type=""),), True),
        (NONE, "", (replace(URL, action="lambda:GetFunction", url_auth_type=""), VIA), False),
    ],
)
def test_what_it_lets_through(
    auth_type: str, key_id: str, statements: tuple[Statement, ...], expected: bool
) -> None:
    assert lets(auth_type, key_id, *statements) is expected


def test_where_there_is_no_policy_nobody_may() -> None:
    assert not lets_call(None, NONE, "")


def test_a_document_holds_what_was_added() -> None:
    """In the order in which it was added, each about the same resource."""
    shown = json.loads(document(Policy((URL, VIA), "r"), "arn:f"))
    assert [it["Sid"] for it in shown["Statement"]] == ["url", "via"]
    assert {it["Resource"] for it in shown["Statement"]} == {"arn:f"}


@pytest.mark.parametrize(
    "fields",
    [
        {"sid": ""},
        {"sid": "a" * 101},
        {"sid": "a\n"},
        {"action": "lambda:Invoke Function"},
        {"principal": "a b"},
        {"principal": ""},
        {"principal": "nobody"},
        {"principal": "arn:aws:s3:::b"},
        {"source_arn": "s3:::b"},
        {"source_arn": "arn:aws:s3:::b\x00"},
        {"source_account": "1"},
        {"principal_org_id": "org"},
        {"event_source_token": "a b"},
        {"url_auth_type": "SOME"},
        {"action": "*"},
        {"via_url": True},
    ],
)
def test_what_is_no_statement(fields: dict[str, Any]) -> None:
    check(URL)
    with pytest.raises(InvalidRequest):
        check(replace(URL, **fields))
