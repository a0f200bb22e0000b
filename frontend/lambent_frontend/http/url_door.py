"""Calls of function URLs: whose it is, whether the caller may, the event, the answer.

What comes here is never answered by Lambda's API, and strangers hear nothing of what they may not call.
"""

import json
from collections.abc import Mapping
from typing import Final

import structlog

from lambent_chassis import clock
from lambent_frontend.access import AccessKeys
from lambent_frontend.call_log import CALLER
from lambent_frontend.catalogue import Catalogue
from lambent_frontend.http import errors, limits
from lambent_frontend.http.errors import Refused
from lambent_frontend.http.limits import INVOKE_BODY
from lambent_frontend.http.messages import JSON, Request, Response
from lambent_frontend.http.url_stream import streamed
from lambent_frontend.invoker import Invoker
from lambent_frontend.policy import lets_call
from lambent_frontend.sigv4 import SignedRequest, is_signed, verify
from lambent_frontend.urls import cors
from lambent_frontend.urls.answer import Malformed, UrlAnswer, interpreted
from lambent_frontend.urls.event import UrlRequest, event, joined, trace_id
from lambent_frontend.urls.hosts import Hosts, Named
from lambent_proto.access import INVOKE_URL
from lambent_proto.errors import (
    AccessDenied,
    BadSignature,
    IncompleteSignature,
    LambentError,
    NotReady,
    PayloadTooLarge,
    Throttled,
    UnknownFunction,
    UnknownKey,
)
from lambent_proto.ids import FunctionName, RequestId
from lambent_proto.policies import Policy
from lambent_proto.urls import NONE, RESPONSE_STREAM, FunctionUrl
from lambent_proto.v1 import invoke_pb2

_FAILED: Final = b"Internal Server Error"
"""All that a caller hears of a function's failure, as from AWS: the function's log has the rest."""

_SHUT_IN: Final = "sandbox allow-forms allow-scripts"
"""A page with it has an origin of its own, which is not the API's."""

_log = structlog.get_logger()


class UrlDoor:
    """`keys` is None where nobody is asked who they are."""

    most_body: Final = INVOKE_BODY
    share: Final = "function URLs"
    """Of all together, so that strangers leave room to the API."""

    def __init__(self, hosts: Hosts, catalogue: Catalogue, invoker: Invoker, keys: AccessKeys | None) -> None:
        self._hosts = hosts
        self._catalogue = catalogue
        self._invoker = invoker
        self._keys = keys

    def too_large(self) -> Refused:
        said = f"Request must be smaller than {INVOKE_BODY} bytes for the InvokeFunction operation"
        return Refused(413, "RequestEntityTooLargeException", said)

    def whose(self, named: Named) -> Mapping[str, int]:
        """Raises Refused if there is none."""
        if self._catalogue.of_url(named.id) is None:
            raise Refused(403, "AccessDeniedException", "there is no such function URL")
        return {self.share: limits.COMING}

    async def answer(self, request: Request, named: Named) -> Response:
        found = self._catalogue.of_url(named.id)
        if found is None or not named.path.startswith("/"):
            return _refused(403, "AccessDeniedException", None)
        name, qualifier = found
        deployed = self._catalogue.deployed(name)
        url, policy = deployed.urls[qualifier], deployed.policies.get(qualifier)
        headers = joined(request.fields)
        origin = headers.get("origin", "")
        if url.cors is not None and cors.is_preflight(request.method, headers):
            return Response(200, headers=cors.preflight(url.cors, origin))
        asked = self._asked(request, named)
        try:
            asked.key_id = self._admitted(request, headers, name, url, policy)
            CALLER.set(asked.key_id)
            function = f"{name}:{qualifier}" if qualifier else name
            answered = await self._called(
                asked, function, request.given_trace, in_parts=url.invoke_mode == RESPONSE_STREAM
            )
        except LambentError as error:
            answered = _error(error)
        more = {"x-amzn-trace-id": trace_id(asked, headers)}
        if named.by_path:
            theirs = answered.headers.get("content-security-policy")
            more["content-security-policy"] = f"{theirs}, {_SHUT_IN}" if theirs else _SHUT_IN
        answered.headers = cors.applied(url.cors, origin, {**answered.headers, **more})
        return answered

    def _asked(self, request: Request, named: Named) -> UrlRequest:
        return UrlRequest(
            method=request.method,
            path=named.path,
            query=request.query,
            fields=request.fields,
            body=request.body,
            request_id=request.id,
            at=clock.unix_s(),
            source=request.source,
            url_id=named.id,
            domain=self._hosts.domain,
            port=self._hosts.port,
        )

    def _admitted(
        self,
        request: Request,
        headers: Mapping[str, str],
        name: FunctionName,
        url: FunctionUrl,
        policy: Policy | None,
    ) -> str:
        """The access key's id; empty where nobody is asked. Raises what the caller is refused with."""
        if url.auth_type == NONE:
            if not lets_call(policy, NONE, ""):
                raise AccessDenied("Forbidden")
            return ""
        if not is_signed(headers.get("authorization", "")):
            raise AccessDenied("Forbidden")
        if self._keys is None:  # a signature is accepted unread there
            return ""
        signed = SignedRequest(request.method, request.path, request.query, headers, request.body)
        key = self._keys.get(verify(signed, self._keys.secret, clock.unix_s()))
        if not (key.allows(INVOKE_URL, name) or lets_call(policy, url.auth_type, key.id)):
            raise AccessDenied("Forbidden")
        return key.id

    async def _called(self, asked: UrlRequest, function: str, trace: str, *, in_parts: bool) -> Response:
        wanted = invoke_pb2.InvokeRequest(function_name=function, payload=event(asked), trace=trace)
        call = self._invoker.checked(wanted, RequestId(asked.request_id))
        try:
            if in_parts:
                return await streamed(self._invoker, call) or _failed()
            answer = await self._invoker.run(call)
            if answer.failed:
                return _failed()
            return _response(interpreted(answer.payload), bodiless=asked.method == "HEAD")
        except Malformed as why:
            _log.info("url_answer_malformed", function=function, request=asked.request_id, reason=str(why))
            return _failed()


def _response(told: UrlAnswer, *, bodiless: bool) -> Response:
    """To HEAD with the length that a GET's answer has: its body's, or what the function says in its place."""
    content_type = told.headers.pop("content-type")
    size = told.length if bodiless and not told.body else None
    return Response(told.status, told.body, told.headers, content_type, told.cookies, size=size)


def _error(error: LambentError) -> Response:
    """As AWS words it. Whatever may have run is a 502, which clients do not send again by themselves."""
    match error:
        case Throttled() | PayloadTooLarge():
            answered = errors.response(errors.refused(error))
            answered.headers = {"x-amzn-ErrorType": answered.headers["x-amzn-ErrorType"]}
        case IncompleteSignature() | UnknownKey() | BadSignature():
            return errors.response(errors.refused(error))
        case AccessDenied():
            return _refused(403, "AccessDeniedException", error.message)
        case UnknownFunction():  # it has gone since it was looked up
            return _refused(403, "AccessDeniedException", None)
        case NotReady():
            answered = _refused(503, "ServiceException", "Service Unavailable")
        case _:
            answered = _failed()
    answered.headers = {**answered.headers, "x-lambent-error": error.reason}
    return answered


def _refused(status: int, name: str, message: str | None) -> Response:
    body = json.dumps({"Message": message}, separators=(",", ":")).encode()
    return Response(status, body, {"x-amzn-ErrorType": name})


def _failed() -> Response:
    return Response(502, _FAILED, {}, JSON)
