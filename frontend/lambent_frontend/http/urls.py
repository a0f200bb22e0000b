"""Operations on function URLs."""

from collections.abc import Mapping
from datetime import UTC
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from lambent_frontend.function_urls import FunctionUrls
from lambent_frontend.http import bodies, shapes
from lambent_frontend.http.api import Operation
from lambent_frontend.http.asked import Asked, choice
from lambent_frontend.http.errors import Refused, constraint
from lambent_frontend.http.messages import Response
from lambent_frontend.http.names import Named, function_arn
from lambent_proto.errors import UrlExists
from lambent_proto.ids import LATEST
from lambent_proto.urls import AUTH_TYPES, INVOKE_MODES
from lambent_proto.v1 import urls_pb2

_NAMES = {
    "AllowHeaders": "allow_headers",
    "AllowMethods": "allow_methods",
    "AllowOrigins": "allow_origins",
    "ExposeHeaders": "expose_headers",
}


class UrlOperations:
    def __init__(self, urls: FunctionUrls) -> None:
        self._urls = urls

    def operations(self) -> Mapping[str, Operation]:
        return {
            "CreateFunctionUrlConfig": self.create,
            "GetFunctionUrlConfig": self.get,
            "UpdateFunctionUrlConfig": self.update,
            "ListFunctionUrlConfigs": self.list,
            "DeleteFunctionUrlConfig": self.delete,
        }

    async def create(self, asked: Asked) -> Response:
        named = _aliased(asked)
        body = bodies.read(asked, bodies.CreateFunctionUrlConfig)
        request = urls_pb2.CreateFunctionUrlRequest(
            function_name=named.name,
            qualifier=named.qualifier,
            auth_type=choice(body.AuthType, "authType", AUTH_TYPES),
            invoke_mode=choice(body.InvokeMode or "", "invokeMode", INVOKE_MODES),
            cors=_cors(body.Cors),
        )
        try:
            made = _shape(await self._urls.create(request))
        except UrlExists as error:
            said = f"Failed to create function url config for [functionArn = {asked.arn()}]. Error message:  "
            raise Refused(409, "ResourceConflictException", said + error.message) from None
        del made["LastModifiedTime"]
        return shapes.answer(201, made)

    async def get(self, asked: Asked) -> Response:
        named = _aliased(asked)
        request = urls_pb2.GetFunctionUrlRequest(function_name=named.name, qualifier=named.qualifier)
        return shapes.answer(200, _shape(await self._urls.get(request)))

    async def update(self, asked: Asked) -> Response:
        named = _aliased(asked)
        body = bodies.read(asked, bodies.UpdateFunctionUrlConfig)
        request = urls_pb2.UpdateFunctionUrlRequest(
            function_name=named.name,
            qualifier=named.qualifier,
            auth_type=choice(body.AuthType or "", "authType", ("", *AUTH_TYPES)),
            invoke_mode=choice(body.InvokeMode or "", "invokeMode", ("", *INVOKE_MODES)),
            cors=_cors(body.Cors),
        )
        return shapes.answer(200, _shape(await self._urls.update(request)))

    async def list(self, asked: Asked) -> Response:
        request = urls_pb2.ListFunctionUrlsRequest(
            function_name=asked.function().name,
            marker=asked.query.get("Marker", ""),
            max_items=asked.max_items(),
        )
        found = await self._urls.list_urls(request)
        return shapes.page("FunctionUrlConfigs", map(_shape, found.urls), found.next_marker)

    async def delete(self, asked: Asked) -> Response:
        named = _aliased(asked)
        request = urls_pb2.DeleteFunctionUrlRequest(function_name=named.name, qualifier=named.qualifier)
        await self._urls.delete(request)
        return Response(204)


def _aliased(asked: Asked) -> Named:
    """The function or the alias. Raises Refused for a version."""
    named = asked.function()
    if named.qualifier.isdecimal() or named.qualifier == LATEST:
        pattern = r"((?!^\d+$)^[0-9a-zA-Z-_]+$)"
        raise constraint(
            named.qualifier, "qualifier", f"Member must satisfy regular expression pattern: {pattern}"
        )
    return named


def _cors(body: bodies.CorsValue | None) -> urls_pb2.Cors | None:
    if body is None:
        return None
    cors = urls_pb2.Cors(allow_credentials=body.AllowCredentials, max_age_s=body.MaxAge)
    for theirs, ours in _NAMES.items():
        if (names := getattr(body, theirs)) is not None:
            getattr(cors, ours).CopyFrom(urls_pb2.CorsNames(names=names))
    return cors


def _shape(url: urls_pb2.FunctionUrl) -> dict[str, Any]:
    shape = {
        "FunctionUrl": url.url,
        "FunctionArn": function_arn(url.function_name, url.qualifier),
        "AuthType": url.auth_type,
        "InvokeMode": url.invoke_mode,
        "CreationTime": _moment(url.created_at),
        "LastModifiedTime": _moment(url.last_modified),
    }
    return shape | ({"Cors": _cors_shape(url.cors)} if url.HasField("cors") else {})


def _cors_shape(cors: urls_pb2.Cors) -> dict[str, Any]:
    shape: dict[str, Any] = {
        theirs: list(getattr(cors, ours).names)
        for theirs, ours in _NAMES.items()
        if cors.HasField(ours)  # type: ignore[arg-type]
    }
    if cors.HasField("allow_credentials"):
        shape["AllowCredentials"] = cors.allow_credentials
    if cors.HasField("max_age_s"):
        shape["MaxAge"] = cors.max_age_s
    return shape


def _moment(at: Timestamp) -> str:
    """With a Z, unlike other times of Lambda's."""
    return at.ToDatetime(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
