"""What a function gets of a request to its URL: the event of payload format 2.0."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import parse_qsl

from pydantic_core import to_json

from lambent_frontend.policy import user_arn
from lambent_proto.ids import ACCOUNT
from lambent_proto.tracing import carried, made

_HOP_BY_HOP: Final = frozenset(
    {
        *(
            "connection",
            "expect",
            "http2-settings",
            "keep-alive",
            "proxy-connection",
            "te",
            "trailer",
            "transfer-encoding",
        ),
        "upgrade",
    }
)
"""Headers that are about the connection, not about the request."""

_MAX_TRACE: Final = 1024
"""Characters. Those that there are have about a hundred, and it goes back into the answer."""

_TEXT: Final = frozenset({"application/json", "application/javascript", "application/xml"})


@dataclass(slots=True, kw_only=True)
class UrlRequest:
    method: str
    path: str
    """Still percent-encoded, as is the query."""
    query: str
    fields: Sequence[tuple[bytes, bytes]]
    """The headers in their order, names in lower case."""
    body: bytes
    request_id: str
    at: float
    """Unix time, seconds."""
    source: str
    """The address that it came from."""
    url_id: str
    domain: str
    """What stands behind the id."""
    port: int
    """The one that clients of this frontend see."""
    key_id: str = ""
    """The access key that it was signed with; empty if nobody was asked."""


def joined(fields: Sequence[tuple[bytes, bytes]]) -> dict[str, str]:
    """One value for each name: those of a name that came several times with a comma between them."""
    values: dict[str, list[str]] = {}
    for name, value in fields:
        values.setdefault(_text(name), []).append(_text(value))
    return {name: ("; " if name == "cookie" else ",").join(each) for name, each in values.items()}


def trace_id(request: UrlRequest, headers: Mapping[str, str]) -> str:
    """The one that was sent in AWS's form, or else the root of what the call carries."""
    sent = headers.get("x-amzn-trace-id", "")
    if sent and len(sent) <= _MAX_TRACE and sent.isascii() and sent.isprintable():
        return sent
    given = carried(headers.get("traceparent", ""), request.request_id)
    return (given or made(request.request_id)).partition(";")[0]


def event(request: UrlRequest) -> bytes:
    headers = _headers(request)
    shape: dict[str, Any] = {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": request.path,
        "rawQueryString": request.query,
    }
    if cookies := [it for it in map(str.strip, headers.get("cookie", "").split(";")) if it]:
        shape["cookies"] = cookies
    shape["headers"] = headers
    if request.query:
        shape["queryStringParameters"] = _parameters(request.query)
    shape["requestContext"] = _context(request, headers)
    shape |= _body(request.body, headers.get("content-type", ""))
    return to_json(shape)  # of a large body in a fifth of the time that json takes


def _headers(request: UrlRequest) -> dict[str, str]:
    """A signature that was verified is left out: it is nothing for a function to have."""
    sent = joined(request.fields)
    left_out = _HOP_BY_HOP | {"authorization"} if request.key_id else _HOP_BY_HOP
    headers = {name: value for name, value in sent.items() if name not in left_out}
    if request.body:
        headers.setdefault("content-length", str(len(request.body)))  # it may have come in chunks
    before = f"{headers['x-forwarded-for']}, " if headers.get("x-forwarded-for") else ""
    headers["x-forwarded-for"] = before + request.source
    headers.setdefault("x-forwarded-proto", "http")
    headers.setdefault("x-forwarded-port", str(request.port))
    headers["x-amzn-trace-id"] = trace_id(request, headers)
    return headers


def _parameters(query: str) -> dict[str, str]:
    values: dict[str, list[str]] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        values.setdefault(name, []).append(value)
    return {name: ",".join(each) for name, each in values.items()}


def _context(request: UrlRequest, headers: Mapping[str, str]) -> dict[str, Any]:
    key_id, at = request.key_id, datetime.fromtimestamp(request.at, UTC)
    context: dict[str, Any] = {
        "accountId": ACCOUNT if key_id else "anonymous",
        "apiId": request.url_id,
        "domainName": f"{request.url_id}.{request.domain}",
        "domainPrefix": request.url_id,
        "http": {
            "method": request.method,
            "path": request.path,
            "protocol": "HTTP/1.1",
            "sourceIp": request.source,
            "userAgent": headers.get("user-agent", ""),
        },
        "requestId": request.request_id,
        "routeKey": "$default",
        "stage": "$default",
        "time": at.strftime("%d/%b/%Y:%H:%M:%S +0000"),
        "timeEpoch": int(request.at * 1000),
    }
    return context | ({"authorizer": {"iam": _iam(key_id)}} if key_id else {})


def _iam(key_id: str) -> dict[str, Any]:
    return {
        "accessKey": key_id,
        "accountId": ACCOUNT,
        "callerId": key_id,
        "cognitoIdentity": None,
        "principalOrgId": None,
        "userArn": user_arn(key_id),
        "userId": key_id,
    }


def _body(body: bytes, content_type: str) -> dict[str, Any]:
    """What is no text by its type, or not by its bytes, goes as base64."""
    if not body:
        return {"isBase64Encoded": False}
    kind = content_type.partition(";")[0].strip().lower()
    if kind in _TEXT or kind.startswith("text/") or kind.endswith(("+json", "+xml")):
        try:
            return {"body": body.decode(), "isBase64Encoded": False}
        except UnicodeDecodeError:
            pass
    return {"body": base64.b64encode(body).decode(), "isBase64Encoded": True}


def _text(header: bytes) -> str:
    try:
        return header.decode()
    except UnicodeDecodeError:
        return header.decode("latin-1")
