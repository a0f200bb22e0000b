"""What a client gets of a function's answer to a request of its URL."""

import base64
import binascii
import contextlib
import json
import re
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic_core import SchemaValidator, ValidationError, core_schema

JSON: Final = "application/json"
OCTETS: Final = "application/octet-stream"
"""The types of what says none: of a whole answer, and of a streamed one."""

HTTP: Final = "application/vnd.awslambda.http-integration-response"
"""The type of a streamed answer that begins with its status and headers."""

MAX_PRELUDE: Final = 64 * 1024
"""Bytes that these may have."""

WITHOUT_BODY: Final = (204, 205, 304)

PRELUDE_END: Final = bytes(8)

MOST_PARSED: Final = 256 * 1024
"""Bytes of an answer above which JSON without a status is not looked into: 6 MB of it would hold up all
other calls for a quarter of a second."""

_BRACKETS: Final = ((b"{", b"}"), (b"[", b"]"))
_NOT_IN_BODY: Final = (b"statusCode", b"\\u00", PRELUDE_END)
"""The status as it is written, or may be; and what no JSON has, but a prelude without a status."""

_FIELDS: Final = SchemaValidator(
    core_schema.typed_dict_schema(
        {
            name: core_schema.typed_dict_field(core_schema.any_schema(), required=False)
            for name in ("statusCode", "headers", "cookies", "body", "isBase64Encoded")
        },
        extra_behavior="ignore",
    )
)
"""Reads large text ten times as fast as json does, and makes nothing of what else there is."""

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


class Malformed(Exception):
    """It is none that HTTP could carry. The message says why."""


@dataclass(frozen=True, slots=True)
class UrlAnswer:
    status: int
    headers: dict[str, str] = field(default_factory=dict)
    """Names in lower case; values as latin-1 carries them. The content's type is one of them."""
    cookies: tuple[str, ...] = ()
    body: bytes = b""
    length: int | None = None
    """What the function says that its body has, which an answer to HEAD leaves out."""


def interpreted(payload: bytes) -> UrlAnswer:
    """Of a whole answer. What does not look like one of HTTP is the body itself; a string without quotes.

    What a function has streamed is no JSON, and may begin with a prelude. Raises Malformed.
    """
    if len(payload) > MOST_PARSED and _is_body(payload):
        return UrlAnswer(200, {"content-type": JSON}, (), payload)
    try:
        said = _parsed(payload)
    except (ValueError, RecursionError):
        before, _, body = payload[: MAX_PRELUDE + len(PRELUDE_END)].partition(PRELUDE_END)
        if (fields := _object(before)) is None:
            return UrlAnswer(200, {"content-type": OCTETS}, (), payload)
        return _answer(fields, OCTETS, payload[len(before) + len(PRELUDE_END) :])
    if isinstance(said, dict) and "statusCode" in said:
        return _structured(said)
    body = _encoded(said) if isinstance(said, str) else payload
    return UrlAnswer(200, {"content-type": JSON}, (), body)


def prelude(begun: bytes) -> UrlAnswer:
    """Of a streamed answer: what stands before its eight NUL bytes, and as body what came behind them.

    Raises Malformed, also if they have not come.
    """
    before, end, body = begun.partition(PRELUDE_END)
    fields = _object(before) if end and len(before) <= MAX_PRELUDE else None
    if fields is None:
        raise Malformed("what stands before the eight NUL bytes of a streamed answer is no object of JSON")
    return _answer(fields, OCTETS, body)


def _is_body(payload: bytes) -> bool:
    """Whether it has the brackets of JSON, and neither `statusCode` nor a prelude's end anywhere."""
    inside = payload.strip()
    return (inside[:1], inside[-1:]) in _BRACKETS and not any(it in payload for it in _NOT_IN_BODY)


def _parsed(payload: bytes) -> Any:
    """Of an object with a status only what an answer of HTTP has of it. Raises ValueError, RecursionError."""
    if payload[:1] == b"{":
        with contextlib.suppress(ValidationError):  # of what is no JSON to it json.loads has to say
            return _FIELDS.validate_json(payload)
    return json.loads(payload)


def _object(text: bytes) -> dict[str, Any] | None:
    """None if it is none."""
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return said if isinstance(said, dict) else None


def _structured(said: dict[str, Any]) -> UrlAnswer:
    return _answer(said, JSON, _body(said))


def _answer(said: dict[str, Any], content_type: str, body: bytes) -> UrlAnswer:
    status = _status(said.get("statusCode", 200))
    headers = {"content-type": content_type} | _headers(said.get("headers"))
    body = b"" if status in WITHOUT_BODY else body
    return UrlAnswer(status, headers, _cookies(said.get("cookies")), body, _length(said.get("headers")))


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
            headers[name.lower()] = checked_value(value)
    return headers


def _length(headers: dict[str, Any] | None) -> int | None:
    """None if it says none, or none that there could be."""
    for name, value in (headers or {}).items():
        if name.lower() == "content-length" and re.fullmatch(r"\d{1,18}", str(value), re.ASCII):
            return int(value)
    return None


def _cookies(said: object) -> tuple[str, ...]:
    if said is None:
        return ()
    if not isinstance(said, list):
        raise Malformed("cookies is no list")
    return tuple([checked_value(it) for it in said])


def checked_value(said: object) -> str:
    """A header's: its UTF-8, read as latin-1, as it is written. Raises Malformed."""
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
