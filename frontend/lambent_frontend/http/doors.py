"""Who answers a request: a function's URL, if its host or its path names one, or else Lambda's API."""

from collections.abc import Mapping

from lambent_frontend.http.api import Api
from lambent_frontend.http.errors import Refused
from lambent_frontend.http.messages import Request, Response
from lambent_frontend.http.url_door import UrlDoor
from lambent_frontend.urls.hosts import Hosts, Named


class Doors:
    def __init__(self, api: Api, urls: UrlDoor, hosts: Hosts) -> None:
        self._api = api
        self._urls = urls
        self._hosts = hosts

    def most_body(self, request: Request) -> int:
        return self._api.most_body(request) if self._named(request) is None else self._urls.most_body

    def too_large(self, request: Request) -> Refused:
        return self._api.too_large(request) if self._named(request) is None else self._urls.too_large()

    def share(self, request: Request) -> str:
        return "" if self._named(request) is None else self._urls.share

    def whose(self, request: Request) -> Mapping[str, int]:
        named = self._named(request)
        return self._api.whose(request) if named is None else self._urls.whose(named)

    async def answer(self, request: Request) -> Response:
        named = self._named(request)
        if named is None:
            return await self._api.answer(request)
        return await self._urls.answer(request, named)

    def _named(self, request: Request) -> Named | None:
        return self._hosts.named(request.header(b"host"), request.path)
