"""Function URLs: made, shown, changed, deleted. Bad input changes nothing."""

import secrets
import uuid
from base64 import b32encode
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from lambent_chassis import clock
from lambent_frontend import commits
from lambent_frontend.catalogue import Catalogue, Deployed
from lambent_frontend.registry import Beside, Registry
from lambent_frontend.rules import page_size
from lambent_proto import keys
from lambent_proto.errors import Contended, InvalidRequest, UnknownFunction, UnknownUrl, UrlExists
from lambent_proto.ids import LATEST, FunctionName
from lambent_proto.urls import AUTH_TYPES, BUFFERED, INVOKE_MODES, Cors, FunctionUrl
from lambent_proto.v1 import urls_pb2

_MOST: Final = {"allow_headers": 100, "allow_methods": 6, "allow_origins": 100, "expose_headers": 100}
_LONGEST: Final = {"allow_headers": 1024, "allow_methods": 6, "allow_origins": 253, "expose_headers": 1024}
_MAX_AGE_S: Final = 86_400
"""Lambda's limits, of names and of their characters."""


class FunctionUrls:
    """`address` gives the URL that has an id."""

    def __init__(self, catalogue: Catalogue, registry: Registry, address: Callable[[str], str]) -> None:
        self._catalogue = catalogue
        self._registry = registry
        self._address = address

    async def create(self, request: urls_pb2.CreateFunctionUrlRequest) -> urls_pb2.FunctionUrl:
        name, qualifier = FunctionName(request.function_name), request.qualifier
        now = clock.unix_s()
        url = FunctionUrl(
            id=b32encode(secrets.token_bytes(20)).decode().lower(),
            auth_type=_one_of("auth type", request.auth_type, AUTH_TYPES),
            invoke_mode=_one_of("invoke mode", request.invoke_mode or BUFFERED, INVOKE_MODES),
            cors=checked_cors(request.cors) if request.HasField("cors") else None,
            created_at=now,
            modified_at=now,
            revision=uuid.uuid4().hex,
        )
        async for _ in commits.tries():
            beside = await self._beside(name, qualifier)
            if beside.known is not None:
                raise UrlExists("FunctionUrlConfig exists for this Lambda function")
            if await self._registry.put_beside(beside, url.encode()):
                return self._described(name, qualifier, url)
        raise _contended(name)

    async def get(self, request: urls_pb2.GetFunctionUrlRequest) -> urls_pb2.FunctionUrl:
        name, qualifier = FunctionName(request.function_name), request.qualifier
        url = self._deployed(name, qualifier).urls.get(qualifier)
        if url is None:
            raise _no_url()
        return self._described(name, qualifier, url)

    async def update(self, request: urls_pb2.UpdateFunctionUrlRequest) -> urls_pb2.FunctionUrl:
        name, qualifier = FunctionName(request.function_name), request.qualifier
        async for _ in commits.tries():
            beside = await self._beside(name, qualifier)
            if beside.known is None:
                raise _no_url()
            url = _changed(FunctionUrl.decode(beside.known.value), request)
            if await self._registry.put_beside(beside, url.encode()):
                return self._described(name, qualifier, url)
        raise _contended(name)

    async def list_urls(self, request: urls_pb2.ListFunctionUrlsRequest) -> urls_pb2.ListFunctionUrlsResponse:
        """The marker is the qualifier of the last one given with a slash before it, so that none is empty."""
        name, count = FunctionName(request.function_name), page_size(request.max_items)
        known = sorted(self._deployed(name, "").urls.items())
        left = [(qualifier, url) for qualifier, url in known if f"/{qualifier}" > request.marker]
        return urls_pb2.ListFunctionUrlsResponse(
            urls=[self._described(name, qualifier, url) for qualifier, url in left[:count]],
            next_marker=f"/{left[count - 1][0]}" if len(left) > count else "",
        )

    async def delete(self, request: urls_pb2.DeleteFunctionUrlRequest) -> urls_pb2.DeleteFunctionUrlResponse:
        name = FunctionName(request.function_name)
        async for _ in commits.tries():
            beside = await self._beside(name, request.qualifier)
            if beside.known is None:
                raise _no_url()
            if await self._registry.delete_beside(beside):
                return urls_pb2.DeleteFunctionUrlResponse()
        raise _contended(name)

    async def _beside(self, name: FunctionName, qualifier: str) -> Beside:
        if qualifier == LATEST or qualifier.isdecimal():
            raise InvalidRequest(f"a URL is of a function or an alias, and {qualifier!r} is a version")
        beside = await self._registry.beside(name, qualifier, keys.url(name, qualifier))
        if beside is None:
            raise _unknown(name, qualifier)
        return beside

    def _deployed(self, name: FunctionName, qualifier: str) -> Deployed:
        deployed = self._catalogue.deployed(name)
        if deployed.latest is None or (qualifier and qualifier not in deployed.aliases):
            raise _unknown(name, qualifier)
        return deployed

    def _described(self, name: FunctionName, qualifier: str, url: FunctionUrl) -> urls_pb2.FunctionUrl:
        message = urls_pb2.FunctionUrl(
            function_name=name,
            qualifier=qualifier,
            url=self._address(url.id),
            auth_type=url.auth_type,
            invoke_mode=url.invoke_mode,
            cors=_cors_message(url.cors) if url.cors else None,
        )
        message.created_at.FromNanoseconds(int(url.created_at * 1e9))
        message.last_modified.FromNanoseconds(int(url.modified_at * 1e9))
        return message


def checked_cors(message: urls_pb2.Cors) -> Cors | None:
    """None if it says nothing. Raises InvalidRequest."""
    lists = {name: tuple(getattr(message, name).names) for name in _MOST if message.HasField(name)}  # type: ignore[arg-type]
    for name, names in lists.items():
        if len(names) > _MOST[name]:
            raise InvalidRequest(f"{name} has {len(names)} names, the limit is {_MOST[name]}")
        for it in names:
            if len(it) > _LONGEST[name] or not (it.isascii() and it.isprintable()):
                raise InvalidRequest(
                    f"{name} has {it[:80]!r}: each is at most {_LONGEST[name]} ASCII characters that can be "
                    "printed"
                )
    max_age_s = message.max_age_s if message.HasField("max_age_s") else None
    if max_age_s is not None and not 0 <= max_age_s <= _MAX_AGE_S:
        raise InvalidRequest(f"max_age is {max_age_s}; allowed: 0 to {_MAX_AGE_S:,} seconds")
    credentials = message.allow_credentials if message.HasField("allow_credentials") else None
    cors = Cors(allow_credentials=credentials, max_age_s=max_age_s, **lists)
    return None if cors == Cors() else cors


def _changed(before: FunctionUrl, request: urls_pb2.UpdateFunctionUrlRequest) -> FunctionUrl:
    return replace(
        before,
        auth_type=_one_of("auth type", request.auth_type or before.auth_type, AUTH_TYPES),
        invoke_mode=_one_of("invoke mode", request.invoke_mode or before.invoke_mode, INVOKE_MODES),
        cors=checked_cors(request.cors) if request.HasField("cors") else before.cors,
        modified_at=clock.unix_s(),
        revision=uuid.uuid4().hex,
    )


def _cors_message(cors: Cors) -> urls_pb2.Cors:
    message = urls_pb2.Cors(allow_credentials=cors.allow_credentials, max_age_s=cors.max_age_s)
    for name in _MOST:
        if (names := getattr(cors, name)) is not None:
            getattr(message, name).CopyFrom(urls_pb2.CorsNames(names=names))
    return message


def _one_of(what: str, value: str, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise InvalidRequest(f"the {what} is {value[:80]!r}; allowed: {' or '.join(allowed)}")
    return value


def _unknown(name: str, qualifier: str) -> UnknownFunction:
    what = f"no alias {qualifier!r}" if qualifier else "no such function"
    return UnknownFunction(f"function {name!r}: there is {what}")


def _no_url() -> UnknownUrl:
    return UnknownUrl("The resource you requested does not exist.")


def _contended(name: str) -> Contended:
    return Contended(
        f"the URL of {name!r} is being changed by others over and over: nothing was changed, try again"
    )
