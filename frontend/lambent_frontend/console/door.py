"""The console: a page of files, and the calls that it makes. docs/console.md.

What a browser does here has to come from the page itself: a page of elsewhere, or of a function's URL at this
same host, gets no answer to anything (its Origin is another, or `null`), cannot frame the page, and no script
but the page's own runs in it, whatever functions call themselves or write.
"""

import json
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from lambent_frontend.console.calls import Aborted, Method, called, parts
from lambent_frontend.http import errors, limits
from lambent_frontend.http.errors import Refused
from lambent_frontend.http.gate import Gate
from lambent_frontend.http.messages import JSON, Request, Response
from lambent_proto.errors import LambentError

PATH: Final = "/console"
"""No path of Lambda's API begins so: they have dates."""

CALLS: Final = "/console/call/"

_PAGE: Final = Path(__file__).parent / "page"
_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_NONCE: Final = b"{nonce}"

_STATUS: Final = {
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 409,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "RESOURCE_EXHAUSTED": 429,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}
"""Of an answer by the name of gRPC's status; the page goes by the name."""

_ALWAYS: Final = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Console:
    def __init__(self, methods: Mapping[str, Method], gate: Gate, *, asks: bool) -> None:
        """`asks` says whether callers need an access key, as the methods' guard asks for."""
        self._methods = methods
        self._gate = gate
        self._asks = asks
        self._files = {
            it.name: (it.read_bytes(), _TYPES[it.suffix]) for it in sorted(_PAGE.iterdir()) if it.is_file()
        }

    def asked(self, path: str) -> bool:
        return path == PATH or path.startswith(f"{PATH}/")

    async def answer(self, request: Request) -> Response:
        try:
            if not self._asks:  # a page of elsewhere has no key, and may have a name of this machine
                self._gate.look(request)
            if request.path.startswith(CALLS):
                return await self._called(request)
            return self._file(request)
        except Refused as error:
            return errors.response(error)

    def _file(self, request: Request) -> Response:
        """Raises Refused."""
        if request.method not in ("GET", "HEAD"):
            raise Refused(405, "MethodNotAllowedException", "the page is read with GET")
        if request.path == PATH:
            return Response(308, headers={**_ALWAYS, "Location": f"{PATH}/"})
        name = request.path.removeprefix(f"{PATH}/") or "index.html"
        if name not in self._files:
            raise Refused(404, "UnknownOperationException", f"the console has no file {name[:80]!r}")
        body, kind = self._files[name]
        headers = dict(_ALWAYS)
        if name == "index.html":
            nonce = secrets.token_urlsafe(16)
            body = body.replace(_NONCE, nonce.encode())
            headers |= _shut_in(nonce)
        return Response(200, body, headers, kind)

    async def _called(self, request: Request) -> Response:
        """Raises Refused."""
        check_own_page(request)
        method = self._methods.get(request.path.removeprefix(CALLS))
        if method is None:
            raise Refused(404, "UnknownOperationException", "the console makes no such call")
        if method.streams:
            lines = parts(method, request)
            return Response(200, headers=_ALWAYS, content_type="application/x-ndjson", parts=lines)
        try:
            return Response(200, await called(method, request), _ALWAYS, JSON)
        except Aborted as why:
            said = json.dumps({"error": why.facts()}).encode()
            return Response(_STATUS.get(why.code, errors.UNKNOWN_OUTCOME), said, _ALWAYS, JSON)

    @property
    def most_body(self) -> int:
        return limits.SMALL_BODY

    def whose(self, request: Request) -> Mapping[str, int]:
        """Raises Refused."""
        check_own_page(request)
        try:
            return self._gate.look(request)
        except LambentError as error:
            raise errors.refused(error) from None


def check_own_page(request: Request) -> None:
    """Raises Refused for what another page, or none, sends.

    Browsers tell the origin of each POST, and send JSON to another one after asking it, which nobody answers.
    """
    if request.method != "POST" or not request.header(b"content-type").startswith(JSON):
        raise Refused(405, "MethodNotAllowedException", "calls of the console are POSTs of JSON")
    origin, host = request.header(b"origin"), request.header(b"host")
    if not host or origin.partition("://")[2].lower() != host.lower():
        said = (
            f"the console's calls are its own page's: this came from {origin[:120] or 'no page'!r} for "
            f"{host[:120]!r}. A proxy has to leave Host as it is; programs use the APIs"
        )
        raise Refused(403, "AccessDeniedException", said)
    if request.header(b"sec-fetch-site") not in ("", "same-origin"):
        raise Refused(403, "AccessDeniedException", "the console's calls are its own page's")


def _shut_in(nonce: str) -> dict[str, str]:
    """Scripts and styles by a number that nobody can guess, and not by their host: function URLs may have the
    same one."""
    policy = (
        "default-src 'none'",
        f"script-src 'nonce-{nonce}'",
        f"style-src 'nonce-{nonce}'",
        "connect-src 'self'",
        "img-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
    return {
        "Content-Security-Policy": "; ".join(policy),
        "X-Frame-Options": "DENY",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    }
