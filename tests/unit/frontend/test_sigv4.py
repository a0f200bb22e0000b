"""Signatures are verified against the signer of boto3 and the AWS CLI, and against every way to spoil one."""

import string
from dataclasses import replace
from datetime import UTC, datetime
from urllib.parse import quote, urlsplit

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from lambent_frontend.sigv4 import GOOD_FOR_S, SignedRequest, sign, verify
from lambent_proto.errors import BadSignature, IncompleteSignature, UnknownKey

SECRETS = {"LA1": "secret-1", "LA2": "secret-2"}
URL = "http://127.0.0.1:9000/2015-03-31/functions/arn%3Aaws%3Alambda%3Af/invocations?Qualifier=live&b=1&a=%20"


def signed(
    url: str = URL, body: bytes = b"{}", method: str = "POST", headers: dict[str, str] | None = None
) -> SignedRequest:
    """As botocore signs it, at this moment."""
    request = AWSRequest(method=method, url=url, data=body, headers=headers or {})
    SigV4Auth(Credentials("LA1", "secret-1"), "lambda", "eu-west-1").add_auth(request)
    parts = urlsplit(url)
    sent = {name.lower(): value for name, value in request.headers.items()} | {"host": parts.netloc}
    return SignedRequest(method, parts.path, parts.query, sent, body)


def at(request: SignedRequest) -> float:
    return datetime.strptime(request.headers["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()


def verified(request: SignedRequest, late_s: float = 0.0) -> str:
    return verify(request, SECRETS.get, at(request) + late_s)


def spoiled(request: SignedRequest, **headers: str) -> SignedRequest:
    return replace(request, headers={**request.headers, **headers})


def test_what_botocore_signs_is_taken() -> None:
    assert verified(signed()) == "LA1"
    assert verified(signed(method="GET", body=b"")) == "LA1"
    assert (
        verified(signed(headers={"X-Amz-Log-Type": "Tail", "X-Amz-Client-Context": "e30=  =", "Other": "x"}))
        == "LA1"
    )
    assert verified(signed("http://[::1]:9000/")) == "LA1"


def test_what_is_signed_here_is_what_botocore_signs() -> None:
    request = signed(headers={"X-Amz-Log-Type": "Tail"})
    unsigned = {name: value for name, value in request.headers.items() if name != "authorization"}
    here = sign(replace(request, headers=unsigned), "LA1", "secret-1", "eu-west-1")
    assert here == request.headers["authorization"]


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=12)


@given(TEXT, TEXT, TEXT, st.binary(max_size=40))
def test_any_path_query_and_body_that_botocore_signs_is_taken(
    segment: str, name: str, value: str, body: bytes
) -> None:
    query = f"{quote(name, safe='')}={quote(value, safe='-_.~')}&Marker=1"
    assert verified(signed(f"http://h/functions/{quote(segment, safe='~')}/x?{query}", body)) == "LA1"


@pytest.mark.parametrize(
    "change",
    [
        lambda it: replace(it, method="DELETE"),
        lambda it: replace(it, path=it.path.replace("functions", "layers")),
        lambda it: replace(it, query=it.query.replace("live", "old")),
        lambda it: replace(it, query=it.query + "&c=1"),
        lambda it: replace(it, body=b"[]"),
        lambda it: spoiled(it, host="elsewhere:9000"),
        lambda it: spoiled(it, **{"x-amz-log-type": "Tail"}),
        lambda it: spoiled(it, **{"x-amz-content-sha256": "UNSIGNED-PAYLOAD"}),
        lambda it: spoiled(it, authorization=it.headers["authorization"].replace("LA1", "LA2")),
        lambda it: spoiled(it, authorization=it.headers["authorization"].replace("eu-west-1", "eu-west-2")),
        lambda it: spoiled(it, authorization=it.headers["authorization"].replace("/lambda/", "/s3/")),
        lambda it: spoiled(it, authorization=it.headers["authorization"].replace("host;", "")),
        lambda it: spoiled(it, authorization=it.headers["authorization"].replace("host;", "host;absent;")),
        lambda it: spoiled(it, authorization=it.headers["authorization"][:-64] + "0" * 64),
    ],
)
def test_what_was_changed_after_it_was_signed_is_refused(change) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(BadSignature):
        verified(change(signed()))


def test_a_key_that_is_not_there_is_refused() -> None:
    request = signed()
    with pytest.raises(UnknownKey):
        verify(request, lambda _: None, at(request))


def test_a_signature_is_good_for_five_minutes_to_either_side() -> None:
    request = signed()
    assert verified(request, GOOD_FOR_S) == verified(request, -GOOD_FOR_S) == "LA1"
    with pytest.raises(BadSignature, match="expired"):
        verified(request, GOOD_FOR_S + 1)
    with pytest.raises(BadSignature, match="not yet current"):
        verified(request, -GOOD_FOR_S - 1)
    moved = spoiled(request, **{"x-amz-date": "20200101T000000Z"})
    with pytest.raises(BadSignature, match="does not match YYYYMMDD"):
        verified(moved)


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Bearer x",
        "AWS4-HMAC-SHA256",
        "AWS4-HMAC-SHA256 Credential=LA1",
        "AWS4-HMAC-SHA256 Credential=LA1/x/y, SignedHeaders=host;x-amz-date, Signature=" + "0" * 64,
        "AWS4-HMAC-SHA256 Credential=LA1/20261126/r/lambda/aws4_request, SignedHeaders=host, Signature=zz",
        "AWS4-HMAC-SHA256 Credential=LA1/20261126/r/lambda/aws4_request, SignedHeaders=host, Signature="
        + "0" * 64,
        "AWS4-ECDSA-P256-SHA256 Credential=LA1",
    ],
)
def test_a_signature_that_lacks_something_is_told_what(authorization: str) -> None:
    with pytest.raises(IncompleteSignature):
        verified(spoiled(signed(), authorization=authorization))


def test_a_header_is_signed_once() -> None:
    """Whoever knows a key's id could have a long one repeated thousands of times for the verifier to hash."""
    request = signed()
    twice = request.headers["authorization"].replace("host;", "host;host;")
    with pytest.raises(IncompleteSignature, match="twice"):
        verified(spoiled(request, authorization=twice))


@given(st.text(string.printable, max_size=200))
def test_no_authorization_header_breaks_the_verifier(rest: str) -> None:
    for authorization in (rest, f"AWS4-HMAC-SHA256 {rest}"):
        with pytest.raises((IncompleteSignature, BadSignature, UnknownKey)):
            verify(spoiled(NOW, authorization=authorization), SECRETS.get, at(NOW))


@given(st.text(max_size=30), st.text(max_size=30))
def test_no_path_and_query_break_the_verifier(path: str, query: str) -> None:
    request = replace(NOW, path=path, query=query)
    with pytest.raises(BadSignature):
        verify(request, SECRETS.get, at(request))


def test_headers_that_are_no_text_are_refused_like_any_other() -> None:
    with pytest.raises(BadSignature):
        verified(spoiled(signed(), host=b"\xff\xfe".decode(errors="surrogateescape")))


NOW = signed()
