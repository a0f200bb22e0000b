"""Where function URLs are: at hosts of their own, or, for clients that cannot resolve those, under a path."""

import re
from typing import Final, NamedTuple
from urllib.parse import urlsplit

DEFAULT: Final = "lambda-url.localhost"
"""Most clients take every name below `localhost` for this machine (RFC 6761)."""

PATH: Final = "/lambda-url/"
"""Then the id, and the path that the function sees. No path of Lambda's API begins so: they have dates."""

_BASE: Final = re.compile(r"https?://[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:\d{1,5})?")
_PORT: Final = re.compile(r":\d*$")


class Named(NamedTuple):
    """What a request is for: a function URL, maybe one that is not there."""

    id: str
    path: str
    """As the function sees it."""
    by_path: bool = False
    """The id was in the path: the answer shares its origin with Lambda's API."""


def is_base(text: str) -> bool:
    return bool(_BASE.fullmatch(text))


class Hosts:
    """`base` is a URL without its id: `https://lambda-url.example.com` is that of
    `https://ID.lambda-url.example.com/`. Empty: the default, at the port that is listened at, which is
    `encrypted` or not.
    """

    def __init__(self, base: str, encrypted: bool = False) -> None:
        self._default = f"{'https' if encrypted else 'http'}://{DEFAULT}"
        self._base = base or self._default
        self._own_port = not base
        self.port = 0
        """The one that is listened at."""
        self.domain = urlsplit(self._base).hostname or ""
        self._below = f".{self.domain}"

    def listening(self, port: int) -> None:
        self.port = port
        if self._own_port:
            self._base = f"{self._default}:{port}"

    def address(self, url_id: str) -> str:
        scheme, _, host = self._base.partition("://")
        return f"{scheme}://{url_id}.{host}/"

    def named(self, host: str, path: str) -> Named | None:
        """None if it is for Lambda's API. A host below the domain is never the API's, whatever it names."""
        host = host.lower()
        if self._below in host:
            name = _PORT.sub("", host).removesuffix(".")
            if name.endswith(self._below):
                return Named(name.removesuffix(self._below), path)
        if path.startswith(PATH):
            url_id, slash, rest = path.removeprefix(PATH).partition("/")
            return Named(url_id, slash + rest or "/", by_path=True)
        return None
