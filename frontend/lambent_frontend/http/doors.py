"""Who answers a request: a function's URL, if its host or its path names one; the console; Lambda's API."""

from collections.abc import Mapping

from lambent_frontend.console.door import Console
from lambent_frontend.http.api import Api
from lambent_frontend.http.errors import Refused
from lambent_frontend.http.messages import Request, Response
from lambent_frontend.http.url_door import UrlDoor
from lambent_frontend.urls.hosts import Hosts, Named


class Doors:
    def __init__(self, api: Api, urls: UrlDoor, hosts: Hosts, console: Console | None = None) -> None:
        self._api = api
        self._urls = urls
        self._hosts = hosts
        self._console = console

    def most_body(self, request: Request) -> int:
        if self._named(request) is not None:
            return self._urls.most_body
        console = self._asked_console(request)
        return self._api.most_body(request) if console is None else console.most_body

    def too_large(self, request: Request) -> Refused:
        return self._api.too_large(request) if self._named(request) is None else self._urls.too_large()

    def share(self, request: Request) -> str:
        return "" if self._named(request) is None else self._urls.share

    def whose(self, request: Request) -> Mapping[str, int]:
        named = self._named(request)
        if named is not None:
            return self._urls.whose(named)
        console = self._asked_console(request)
        return (self._api if console is None else console).whose(request)

    async def answer(self, request: Request) -> Response:
        named = self._named(request)
        if named is not None:
            return await self._urls.answer(request, named)
        console = self._asked_console(request)
        return await (self._api if console is None else console).answer(request)

    def _asked_console(self, request: Request) -> Console | None:
        console = self._console
        return console if console is not None and console.asked(request.path) else None

    def _named(self, request: Request) -> Named | None:
        return self._hosts.named(request.header(b"host"), request.path)
