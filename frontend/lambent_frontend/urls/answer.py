"""What a client gets of a function's answer to a request of its URL."""

import base64
import binascii
import json
import re
from dataclasses import dataclass, field
from typing import Any, Final

JSON: Final = "application/json"

_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")
_VALUE: Final = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*")
"""What a header may have: RFC 9110. A line's end in it would begin a header, or an answer, of its own."""

_OURS: Final = frozenset(
    {
        *("connection", "content-length", "date", "keep-alive", "proxy-connection", "te", "trailer"),
        *("transfer-encoding", "upgrade", "x-amzn-requestid", "x-amzn-trace-id"),
    }
)
"""Headers that only the server knows: those of a function are left out."""

_WITHOUT_BODY: Final = (204, 205, 304)


class Malformed(Exception):
    """It is none that HTTP could carry. The message says why."""


@dataclass(frozen=True, slots=True)
class UrlAnswer:
    status: int
    headers: dict[str, str] = field(default_factory=dict)
    """Names in lower case; values as latin-1 carries them. The content's type is one of them."""
    cookies: tuple[str, ...] = ()
    body: bytes = b""


def interpreted(payload: bytes) -> UrlAnswer:
    """Raises Malformed. What does not look like an HTTP answer is one with its JSON; a string with itself."""
    try:
        said = json.loads(payload)
    except (ValueError, RecursionError):
        raise Malformed("the function's answer is no JSON") from None
    if isinstance(said, dict) and "statusCode" in said:
        return _structured(said)
    body = _encoded(said) if isinstance(said, str) else payload
    return UrlAnswer(200, {"content-type": JSON}, (), body)


def head(said: dict[str, Any]) -> UrlAnswer:
    """Status, headers and cookies alone. Raises Malformed."""
    headers = {"content-type": JSON} | _headers(said.get("headers"))
    return UrlAnswer(_status(said.get("statusCode", 200)), headers, _cookies(said.get("cookies")))


def _structured(said: dict[str, Any]) -> UrlAnswer:
    begun = head(said)
    body = b"" if begun.status in _WITHOUT_BODY else _body(said)
    return UrlAnswer(begun.status, begun.headers, begun.cookies, body)


def _status(said: object) -> int:
    text = str(said)
    if isinstance(said, bool) or not re.fullmatch(r"[2-5]\d\d", text, re.ASCII):
        raise Malformed(f"statusCode is {text[:80]!r}; allowed: 200 to 599")
    return int(text)


def _headers(said: object) -> dict[str, str]:
    if said is None:
        return {}
    if not isinstance(said, dict):
        raise Malformed("headers is no object")
    headers = {}
    for name, value in said.items():
        if not _NAME.fullmatch(name):
            raise Malformed(f"{name[:80]!r} is no header's name")
        if name.lower() not in _OURS and value is not None:
            headers[name.lower()] = _value(value)
    return headers


def _cookies(said: object) -> tuple[str, ...]:
    if said is None:
        return ()
    if not isinstance(said, list):
        raise Malformed("cookies is no list")
    return tuple([_value(it) for it in said])


def _value(said: object) -> str:
    """Its UTF-8, read as latin-1: so it is written."""
    if isinstance(said, bool):
        said = str(said).lower()
    if not isinstance(said, (str, int, float)):
        raise Malformed("the value of a header is neither text nor a number")
    text = str(said).strip()
    if not _VALUE.fullmatch(text):
        raise Malformed("the value of a header has a line's end or another control character in it")
    return _encoded(text).decode("latin-1")


def _body(said: dict[str, Any]) -> bytes:
    body = said.get("body")
    if body is None:
        return b""
    if not isinstance(body, str):
        raise Malformed("body is not text")
    if said.get("isBase64Encoded") is not True:
        return _encoded(body)
    try:
        return base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError):
        raise Malformed("body is not the base64 form of anything") from None


def _encoded(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise Malformed("half a character cannot be sent") from None
