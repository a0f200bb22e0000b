"""Who sent a request over HTTP, and whether they may: signed as AWS's clients sign, or with a key's token."""

from typing import Final, Protocol

import structlog

from lambent_chassis import clock
from lambent_frontend.access import AccessKeys, permit
from lambent_frontend.guard import MAX_LOGGED
from lambent_frontend.http.asked import Asked
from lambent_frontend.http.messages import Request
from lambent_frontend.http.names import function_named, layer_named, layer_version_named
from lambent_frontend.sigv4 import SignedRequest, is_signed, verify
from lambent_proto.access import INVOKE, LAYER, AccessKey
from lambent_proto.errors import InvalidRequest

_ACTIONS: Final = {"Invoke": INVOKE, "GetLayerVersionByArn": "GetLayerVersion"}
"""Those whose action AWS calls otherwise than the operation."""

_NAMED_IN_BODY: Final = frozenset({"CreateFunction", "CreateEventSourceMapping"})
"""Those that ask `permit` themselves, once they know the function."""

_log = structlog.get_logger()


class Gate(Protocol):
    def admit(self, asked: Asked) -> None:
        """Raises what the caller is refused with. Where the body names it, the operation asks `permit`."""

    def note(self, asked: Asked, outcome: str) -> None:
        """Writes down what changed something, or was to."""


class Open:
    """Nobody is asked."""

    def admit(self, asked: Asked) -> None:
        pass

    def note(self, asked: Asked, outcome: str) -> None:
        _note(asked, outcome)


class Locked:
    def __init__(self, keys: AccessKeys) -> None:
        self._keys = keys

    def admit(self, asked: Asked) -> None:
        key = asked.caller = self._key(asked.request)
        action = _ACTIONS.get(asked.operation, asked.operation)

        def ask(resource: str) -> None:
            permit(key, action, resource)

        asked.permit = ask
        if asked.operation not in _NAMED_IN_BODY:
            ask(_resource(asked))

    def note(self, asked: Asked, outcome: str) -> None:
        _note(asked, outcome)

    def _key(self, request: Request) -> AccessKey:
        authorization = request.header(b"authorization")
        if not is_signed(authorization):
            return self._keys.bearer(authorization)
        headers = {_text(name): _text(value) for name, value in request.headers.items()}
        signed = SignedRequest(request.method, request.path, request.query, headers, request.body)
        return self._keys.get(verify(signed, self._keys.secret, clock.unix_s()))


def _text(header: bytes) -> str:
    """So that the bytes which were signed come back of it, whatever they are."""
    return header.decode(errors="surrogateescape")


def _resource(asked: Asked) -> str:
    """What a rule has to be about. Raises InvalidRequest."""
    if "FunctionName" in asked.path:
        return asked.function().name
    if "Resource" in asked.path:
        return function_named(asked.path["Resource"]).name
    if "LayerName" in asked.path:
        return LAYER + layer_named(asked.path["LayerName"])
    if asked.operation == "GetLayerVersionByArn":
        return LAYER + layer_version_named(asked.query.get("Arn", ""))[0]
    return ""


def _noted(asked: Asked) -> str:
    """The same as far as it can be told, which a caller without a key may have made of anything."""
    if asked.operation in _NAMED_IN_BODY:
        return asked.subject.partition(":function:")[2].partition(":")[0]
    try:
        return _resource(asked)
    except InvalidRequest:
        return next(iter(asked.path.values()), "")[:MAX_LOGGED]


def _note(asked: Asked, outcome: str) -> None:
    if asked.request.method == "GET" or asked.operation == "Invoke":
        return
    _log.info(
        "audit",
        action=_ACTIONS.get(asked.operation, asked.operation),
        resource=_noted(asked),
        access_key=asked.caller.id if asked.caller else None,
        request_id=asked.request.id,
        outcome=outcome,
    )
