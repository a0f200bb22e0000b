"""What a function URL's settings say of web pages of other origins. Browsers hold to it, nobody else."""

from collections.abc import Mapping
from typing import Final

from lambent_proto.urls import Cors

_ANY: Final = "*"


def is_preflight(method: str, headers: Mapping[str, str]) -> bool:
    """Whether a browser asks before it sends the request itself."""
    return method == "OPTIONS" and "origin" in headers and "access-control-request-method" in headers


def preflight(cors: Cors, origin: str) -> dict[str, str]:
    """The answer's headers; none for an origin that is not allowed."""
    headers = _allowed(cors, origin)
    if not headers:
        return {}
    if cors.allow_methods:
        headers["access-control-allow-methods"] = ",".join(cors.allow_methods)
    if cors.allow_headers:
        headers["access-control-allow-headers"] = ",".join(cors.allow_headers)
    if cors.max_age_s is not None:
        headers["access-control-max-age"] = str(cors.max_age_s)
    return headers


def applied(cors: Cors | None, origin: str, headers: Mapping[str, str]) -> dict[str, str]:
    """An answer's headers with those of the settings in the place of what the function says itself."""
    if cors is None or not origin:
        return dict(headers)
    said = {name: value for name, value in headers.items() if not name.startswith("access-control-")}
    added = _allowed(cors, origin)
    if added and cors.expose_headers:
        added["access-control-expose-headers"] = ",".join(cors.expose_headers)
    if "vary" in added and said.get("vary"):
        added["vary"] = f"{said['vary']}, {added['vary']}"
    return said | added


def _allowed(cors: Cors, origin: str) -> dict[str, str]:
    """`*` stays `*`: browsers then send no cookies, so that not every page can use those of its visitor."""
    origins = cors.allow_origins or ()
    if _ANY in origins:
        headers = {"access-control-allow-origin": _ANY}
    elif origin in origins:
        headers = {"access-control-allow-origin": origin, "vary": "Origin"}
    else:
        return {}
    return headers | ({"access-control-allow-credentials": "true"} if cors.allow_credentials else {})
