"""Lambda's HTTP API: a request to its operation, and whatever that fails with to its answer."""

import contextlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from lambent_frontend.http import downloads, limits, routes
from lambent_frontend.http.asked import Asked
from lambent_frontend.http.downloads import Downloads
from lambent_frontend.http.errors import Refused, not_there, refused, response
from lambent_frontend.http.gate import Gate
from lambent_frontend.http.messages import Request, Response
from lambent_proto.errors import LambentError

Operation = Callable[[Asked], Awaitable[Response]]
"""Raises Refused or a LambentError for what it does not do."""

_WITH_PACKAGE: Final = frozenset({"CreateFunction", "UpdateFunctionCode", "PublishLayerVersion"})
_WITH_EVENT: Final = {
    "Invoke": "InvokeFunction",
    "InvokeAsync": "InvokeAsync",
    "InvokeWithResponseStream": "InvokeWithResponseStream",
}
"""What AWS calls them in its error."""


class Api:
    """`operations` are those that are there, by their names in AWS's model."""

    def __init__(
        self, operations: Mapping[str, Operation], gate: Gate, downloads: Downloads | None = None
    ) -> None:
        self._operations = operations
        self._gate = gate
        self._downloads = downloads

    def most_body(self, request: Request) -> int:
        operation = _operation(request.method, request.path)
        if operation in _WITH_EVENT:
            return limits.INVOKE_BODY
        return limits.PACKAGE_BODY if operation in _WITH_PACKAGE else limits.SMALL_BODY

    def too_large(self, request: Request) -> Refused:
        operation = _operation(request.method, request.path)
        said = f"Request must be smaller than {self.most_body(request)} bytes"
        if operation:
            said += f" for the {_WITH_EVENT.get(operation, operation)} operation"
        return Refused(413, "RequestEntityTooLargeException", said)

    def share(self, request: Request) -> str:
        return ""

    def whose(self, request: Request) -> Mapping[str, int]:
        try:
            _check_no_page(request)
            return self._gate.look(request)
        except LambentError as error:
            self._note_refused(request)
            raise refused(error) from None

    def _note_refused(self, request: Request) -> None:
        with contextlib.suppress(routes.UnknownPath, routes.WrongMethod):
            found = routes.find(request.method, request.path, request.query)
            self._gate.note(Asked(found.operation, request, found.path, found.query), "failed")

    async def answer(self, request: Request) -> Response:
        try:
            _check_no_page(request)
        except Refused as error:
            return response(error)
        if self._downloads is not None and request.path.startswith(downloads.PATH):
            return await _asked(self._downloads.answer(request))
        try:
            found = routes.find(request.method, request.path, request.query)
        except routes.UnknownPath:
            said = f"no operation of Lambda's API has the path {request.path[:200]!r} and such a query"
            return response(Refused(404, "UnknownOperationException", said))
        except routes.WrongMethod as wrong:
            said = f"{request.method} is not for {request.path[:200]!r}: {wrong} is"
            not_so = Refused(405, "MethodNotAllowedException", said)
            not_so.headers["Allow"] = ", ".join(wrong.allowed)
            return response(not_so)
        asked = Asked(found.operation, request, found.path, found.query)
        outcome = "failed"
        try:
            answered = await self._answered(asked)
            outcome = "done" if answered.status < 400 else "failed"
            return answered
        finally:  # who goes away before the answer may have changed something all the same
            self._gate.note(asked, outcome)

    async def _answered(self, asked: Asked) -> Response:
        operation = self._operations.get(asked.operation)

        async def admitted() -> Response:
            self._gate.admit(asked)
            if operation is None:
                raise not_there(asked.operation)
            return await operation(asked)

        return await _asked(admitted(), asked.arn)


def _check_no_page(request: Request) -> None:
    """Raises Refused."""
    if request.header(b"origin"):
        said = (
            "a web page sent this: whoever opens one in a browser here has not asked for it to call functions"
        )
        raise Refused(403, "AccessDeniedException", said)


async def _asked(answer: Awaitable[Response], arn: Callable[[], str] = str) -> Response:
    """The answer, or that of the error."""
    try:
        return await answer
    except Refused as error:
        return response(error)
    except LambentError as error:
        return response(refused(error, arn()))


def _operation(method: str, path: str) -> str:
    """Empty if there is none; the query makes no difference to how much may be sent."""
    try:
        return routes.find(method, path, "").operation
    except (routes.UnknownPath, routes.WrongMethod):
        return ""
