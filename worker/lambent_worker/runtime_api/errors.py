"""Error documents: what callers get when a runtime failed, and what runtimes get when they are refused."""

import base64
import binascii
import json
import re
from collections.abc import Mapping
from typing import Final

from lambent_worker.runtime_api.http import Connection
from lambent_worker.runtime_api.machine import Refusal

TYPE_HEADER: Final = "lambda-runtime-function-error-type"
BODY_HEADER: Final = "lambda-runtime-function-error-body"
"""A trailer of a streamed response: base64 of the document."""

_TYPE: Final = re.compile(r"(?:Runtime|Function)\.[A-Z][a-zA-Z]+")
_MOST_PARSED_BYTES: Final = 64 * 1024
"""Of a larger document only its first character is looked at."""


def _document(error_type: str, message: str) -> bytes:
    return json.dumps({"errorType": error_type, "errorMessage": message}, separators=(",", ":")).encode()


TRUNCATED: Final = _document("Runtime.TruncatedResponse", "The response ended before it was whole")
INVALID_MODE: Final = _document("Runtime.InvalidResponseModeHeader", "Invalid function response mode")

INVALID_RESPONSE_MODE: Final = Refusal(400, "InvalidFunctionResponseMode", "Invalid function response mode")


def response_too_large(limit: int) -> bytes:
    """What the caller gets."""
    message = f"Response payload size exceeded maximum allowed payload size ({limit} bytes)."
    return _document("Function.ResponseSizeTooLarge", message)


def too_large(limit: int) -> Refusal:
    message = f"Exceeded maximum allowed payload size ({limit} bytes)."
    return Refusal(413, "RequestEntityTooLarge", message)


def refuse(connection: Connection, refusal: Refusal) -> None:
    document = {"errorMessage": refusal.message, "errorType": refusal.error_type}
    connection.answer(refusal.status, json.dumps(document, separators=(",", ":")).encode() + b"\n")


def refused(connection: Connection, refusal: Refusal | None) -> bool:
    """Answers with the refusal, if there is one."""
    if refusal is None:
        return False
    refuse(connection, refusal)
    return True


def of_caller(body: bytes, headers: Mapping[str, str]) -> bytes:
    """What the caller gets: the document as the runtime sent it, or one that says what is known otherwise."""
    if _is_document(body):
        return body
    return _document(_error_type(headers), "The runtime reported an error without a description")


def of_trailers(headers: Mapping[str, str]) -> bytes:
    """The same, from the trailers of a streamed response."""
    try:
        body = base64.b64decode(headers.get(BODY_HEADER, ""), validate=True)
    except binascii.Error:
        body = b""
    return of_caller(body, headers)


def _is_document(body: bytes) -> bool:
    if len(body) > _MOST_PARSED_BYTES:
        return body.lstrip().startswith(b"{")
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return False
    return isinstance(document, dict) and ("errorType" in document or "errorMessage" in document)


def _error_type(headers: Mapping[str, str]) -> str:
    """As Lambda reads the header: its own families of names, with an upper case letter after the dot."""
    said = headers.get(TYPE_HEADER, "")
    if _TYPE.search(said):
        return said
    return "Function.Unknown" if said.startswith("Function.") else "Runtime.Unknown"
