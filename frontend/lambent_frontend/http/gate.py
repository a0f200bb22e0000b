"""Who sent a request over HTTP, and whether they may: signed as AWS's clients sign, or with a key's token."""

import functools
import ipaddress
from collections.abc import Iterable, Mapping
from typing import Final, Protocol

import structlog

from lambent_chassis import clock
from lambent_frontend.access import AccessKeys, permit
from lambent_frontend.call_log import CALLER
from lambent_frontend.guard import MAX_LOGGED
from lambent_frontend.http import limits
from lambent_frontend.http.asked import Asked
from lambent_frontend.http.errors import Refused
from lambent_frontend.http.messages import Request
from lambent_frontend.http.names import function_named, layer_named, layer_version_named
from lambent_frontend.sigv4 import SignedRequest, is_signed, verify, verify_head
from lambent_proto.access import INVOKE, LAYER, AccessKey
from lambent_proto.errors import InvalidRequest

_ACTIONS: Final = {
    "Invoke": INVOKE,
    "InvokeAsync": INVOKE,
    "InvokeWithResponseStream": INVOKE,
    "GetLayerVersionByArn": "GetLayerVersion",
}
"""Those whose action AWS calls otherwise than the operation."""

_NAMED_IN_BODY: Final = frozenset({"CreateFunction", "CreateEventSourceMapping"})
"""Those that ask `permit` themselves, once they know the function."""

_log = structlog.get_logger()


class Gate(Protocol):
    def look(self, request: Request) -> Mapping[str, int]:
        """What a body counts for while it comes, and the most bytes of that, by its head alone.

        That is a key's id, and where the head does not prove that its sender has the key the two of id and
        address as well. Empty where nobody is asked. Raises what can be told by then.
        """

    def admit(self, asked: Asked) -> None:
        """Raises what a caller is refused with. What else a body wants, the operation asks `permit` for."""

    def note(self, asked: Asked, outcome: str) -> None:
        """Writes down what changed something, or was to."""


class Open:
    """Nobody is asked, so that web pages must not be able to have a browser here ask.

    A page can give a name of its own this machine's address, and its browser then lets it read what is there.
    So requests are answered to an address, which no page can own, to a name of this machine or of its
    neighbours, and to one of `names`.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._names = frozenset(name.lower().rstrip(".") for name in names)

    def look(self, request: Request) -> Mapping[str, int]:
        host = request.header(b"host")
        if not (is_of_no_page(host) or _name(host) in self._names):
            said = (
                f"{host[:120]!r} is not a name by which this frontend may be asked for, since it asks for no "
                "access key: ask for its address, or add the name to its http_names"
            )
            raise Refused(403, "AccessDeniedException", said)
        return {}

    def admit(self, asked: Asked) -> None:
        self.look(asked.request)

    def note(self, asked: Asked, outcome: str) -> None:
        _note(asked, outcome)


class Locked:
    def __init__(self, keys: AccessKeys) -> None:
        self._keys = keys

    def look(self, request: Request) -> Mapping[str, int]:
        authorization = request.header(b"authorization")
        if not is_signed(authorization):
            return {self._keys.bearer(authorization).id: limits.COMING}
        key_id, proved = verify_head(_as_signed(request), self._keys.secret, clock.unix_s())
        more = {} if proved else {f"{key_id} {request.source}": limits.UNPROVED}
        return {key_id: limits.COMING, **more}

    def admit(self, asked: Asked) -> None:
        key = asked.caller = self._key(asked.request)
        CALLER.set(key.id)
        asked.permit = functools.partial(permit, key)
        if asked.operation not in _NAMED_IN_BODY:
            asked.permit(_ACTIONS.get(asked.operation, asked.operation), _resource(asked))

    def note(self, asked: Asked, outcome: str) -> None:
        _note(asked, outcome)

    def _key(self, request: Request) -> AccessKey:
        authorization = request.header(b"authorization")
        if not is_signed(authorization):
            return self._keys.bearer(authorization)
        return self._keys.get(verify(_as_signed(request), self._keys.secret, clock.unix_s()))


def _as_signed(request: Request) -> SignedRequest:
    headers = {_text(name): _text(value) for name, value in request.headers.items()}
    return SignedRequest(request.method, request.path, request.query, headers, request.body)


@functools.lru_cache(maxsize=64)  # of each request, and of few hosts
def is_of_no_page(host: str) -> bool:
    """Whether no web page of elsewhere can have this host: none is named, an address, `localhost`, no dot."""
    name = _name(host)
    if not host.startswith("[") and ("." not in name or name.endswith(".localhost")):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _name(host: str) -> str:
    """Of a Host header, without its port."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].lower().rstrip(".")


def _text(header: bytes) -> str:
    """So that the bytes which were signed come back of it, whatever they are."""
    return header.decode(errors="surrogateescape")


def _resource(asked: Asked) -> str:
    """What a rule has to be about. Raises InvalidRequest or Refused."""
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
    except (InvalidRequest, Refused):
        return next(iter(asked.path.values()), "")[:MAX_LOGGED]


def _note(asked: Asked, outcome: str) -> None:
    action = _ACTIONS.get(asked.operation, asked.operation)
    if asked.request.method == "GET" or action == INVOKE:
        return
    _log.info(
        "audit",
        action=action,
        resource=_noted(asked),
        access_key=asked.caller.id if asked.caller else None,
        request_id=asked.request.id,
        outcome=outcome,
    )
