"""Where the ZIPs of functions and layers are downloaded: by an address that is good for a while, and that any
HTTP client may ask without a key.

The address carries the time until which it is good, and an HMAC of both that only a frontend of this fleet
can make. Who was allowed to read the function gets one, and may pass it on, as with Lambda's.
"""

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Final

from lambent_chassis import clock
from lambent_chassis.etcd import Etcd
from lambent_chassis.settled import settled
from lambent_frontend.http.errors import Refused
from lambent_frontend.http.messages import Request, Response
from lambent_frontend.packages import Packages
from lambent_proto import keys

GOOD_FOR_S: Final = 600
"""Lambda's ten minutes."""

MOST: Final = 100
"""Downloads at one time; each has one part of its package in memory."""

PATH: Final = "/lambent/packages/"
_NAME: Final = re.compile(re.escape(PATH) + r"([0-9a-f]{64})\.zip")
_QUERY: Final = re.compile(r"expires=(\d{1,12})&signature=([0-9a-f]{64})")
_HOST: Final = re.compile(r"[A-Za-z0-9._-]{1,253}(?::\d{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](?::\d{1,5})?")


Location = Callable[[Request, str], str]
"""`Downloads.location`."""


async def shared_secret(etcd: Etcd) -> bytes:
    """What the frontends of a fleet sign with: the same for all, made by whoever starts first."""
    found = await settled(etcd, keys.DOWNLOAD_SECRET, secrets.token_bytes(32), [])
    assert found is not None, "it is never too late to settle it"
    return found


class Downloads:
    def __init__(self, packages: Packages, secret: bytes, *, encrypted: bool = False) -> None:
        """`encrypted`: its port speaks TLS."""
        self._packages = packages
        self._secret = secret
        self._encrypted = encrypted
        self._under_way = 0

    def location(self, request: Request, code_sha256: str) -> str:
        """An address of the package with this SHA-256, in base64, at the host that the request was sent to.

        Empty if the request names no host.
        """
        host = request.header(b"host")
        if not _HOST.fullmatch(host):
            return ""
        encrypted = self._encrypted or request.header(b"x-forwarded-proto") == "https"
        scheme = "https" if encrypted else "http"
        path = f"{PATH}{base64.b64decode(code_sha256).hex()}.zip"
        expires = str(int(clock.unix_s()) + GOOD_FOR_S)
        return f"{scheme}://{host}{path}?expires={expires}&signature={self._signature(path, expires)}"

    async def answer(self, request: Request) -> Response:
        """The package in parts. Raises Refused and NotReady."""
        if request.method not in ("GET", "HEAD"):
            said = f"{request.method} is not for downloads: GET is"
            wrong = Refused(405, "MethodNotAllowedException", said)
            wrong.headers["Allow"] = "GET, HEAD"
            raise wrong
        named, asked = _NAME.fullmatch(request.path), _QUERY.fullmatch(request.query)
        if named is None or asked is None:
            raise _denied("this is not the address of a package: GetFunction and GetLayerVersion give one")
        expires, signature = asked.groups()
        if not hmac.compare_digest(self._signature(request.path, expires), signature):
            raise _denied("the signature of this address is not this fleet's: ask for another one")
        if int(expires) < clock.unix_s():
            raise _denied(f"this address was good for {GOOD_FOR_S // 60} minutes: ask for another one")
        found = await self._packages.read(named[1])
        if found is None:
            raise Refused(404, "ResourceNotFoundException", "the package is no longer in the package store")
        if self._under_way >= MOST:
            raise Refused(503, "ServiceException", f"{MOST} downloads are under way: try again")
        size, parts = found
        return Response(200, content_type="application/zip", parts=self._counted(parts), size=size)

    async def _counted(self, parts: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
        self._under_way += 1
        try:
            async for part in parts:
                yield part
        finally:
            self._under_way -= 1

    def _signature(self, path: str, expires: str) -> str:
        return hmac.new(self._secret, f"{path}\n{expires}".encode("latin-1"), hashlib.sha256).hexdigest()


def _denied(why: str) -> Refused:
    return Refused(403, "AccessDeniedException", why)
