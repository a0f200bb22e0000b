"""Operations on layers."""

from collections.abc import Mapping
from typing import Any

from lambent_frontend.http import bodies, names, shapes
from lambent_frontend.http.api import Operation
from lambent_frontend.http.asked import Asked
from lambent_frontend.http.downloads import Location
from lambent_frontend.http.errors import invalid
from lambent_frontend.http.messages import Response
from lambent_frontend.layers import Layers
from lambent_proto.v1 import layers_pb2


class LayerOperations:
    def __init__(self, layers: Layers, location: Location) -> None:
        self._layers = layers
        self._location = location

    def operations(self) -> Mapping[str, Operation]:
        return {
            "PublishLayerVersion": self.publish,
            "GetLayerVersion": self.get,
            "GetLayerVersionByArn": self.get_by_arn,
            "ListLayers": self.list,
            "ListLayerVersions": self.list_versions,
            "DeleteLayerVersion": self.delete,
        }

    async def publish(self, asked: Asked) -> Response:
        body = bodies.read(asked, bodies.PublishLayerVersion)
        request = layers_pb2.PublishLayerVersionRequest(
            name=_name(asked),
            zip_file=bodies.package(body.Content.ZipFile, asked.operation),
            description=body.Description or "",
            compatible_runtimes=body.CompatibleRuntimes or (),
        )
        published = await self._layers.publish_layer_version(request)
        return shapes.answer(201, self._whole(asked, published))

    async def get(self, asked: Asked) -> Response:
        return await self._get(asked, *_version(asked))

    async def get_by_arn(self, asked: Asked) -> Response:
        return await self._get(asked, *names.layer_version_named(asked.query.get("Arn", "")))

    async def _get(self, asked: Asked, name: str, version: int) -> Response:
        request = layers_pb2.GetLayerVersionRequest(name=name, version=version)
        return shapes.answer(200, self._whole(asked, await self._layers.get_layer_version(request)))

    def _whole(self, asked: Asked, version: layers_pb2.LayerVersion) -> dict[str, Any]:
        """Lists say less of one."""
        content = {"CodeSha256": version.code_sha256, "CodeSize": version.code_size}
        return shapes.layer_version(version) | {
            "LayerArn": names.layer_arn(version.name),
            "Content": content | shapes.located(self._location(asked.request, version.code_sha256)),
        }

    async def list(self, asked: Asked) -> Response:
        found = await self._layers.list_layers(
            layers_pb2.ListLayersRequest(
                marker=asked.query.get("Marker", ""),
                max_items=asked.max_items(),
                compatible_runtime=asked.query.get("CompatibleRuntime", ""),
            )
        )
        listed = [
            {
                "LayerName": it.name,
                "LayerArn": names.layer_arn(it.name),
                "LatestMatchingVersion": shapes.layer_version(it),
            }
            for it in found.layers
        ]
        return shapes.page("Layers", listed, found.next_marker)

    async def list_versions(self, asked: Asked) -> Response:
        found = await self._layers.list_layer_versions(
            layers_pb2.ListLayerVersionsRequest(
                name=_name(asked),
                marker=asked.query.get("Marker", ""),
                max_items=asked.max_items(),
                compatible_runtime=asked.query.get("CompatibleRuntime", ""),
            )
        )
        listed = [shapes.layer_version(it) for it in found.layer_versions]
        return shapes.page("LayerVersions", listed, found.next_marker)

    async def delete(self, asked: Asked) -> Response:
        name, version = _version(asked)
        request = layers_pb2.DeleteLayerVersionRequest(name=name, version=version)
        await self._layers.delete_layer_version(request)
        return Response(204)


def _name(asked: Asked) -> str:
    return names.layer_named(asked.path["LayerName"])


def _version(asked: Asked) -> tuple[str, int]:
    number = asked.path["VersionNumber"]
    if not (number.isascii() and number.isdecimal() and len(number) <= 9):
        raise invalid(f"{number[:80]!r} is not the number of a version")
    return _name(asked), int(number)
