"""Layers: checks, then the package store, then etcd. Bad input changes nothing."""

import base64
from collections.abc import AsyncIterator, Iterable
from dataclasses import asdict
from itertools import groupby

from lambent_chassis import clock
from lambent_frontend.layer_catalogue import LayerCatalogue
from lambent_frontend.packages import Packages
from lambent_frontend.rules import check_layer, check_layer_name, page_size
from lambent_proto.definition import LayerVersion, PublishedLayer
from lambent_proto.errors import InvalidRequest
from lambent_proto.v1 import layers_pb2


class Layers:
    def __init__(self, catalogue: LayerCatalogue, packages: Packages) -> None:
        self._catalogue = catalogue
        self._packages = packages

    async def publish_layer_version(
        self, request: layers_pb2.PublishLayerVersionRequest
    ) -> layers_pb2.LayerVersion:
        check_layer(request.name, request.description, request.compatible_runtimes)
        if not request.zip_file:
            raise InvalidRequest("there is no zip_file")
        package = asdict(await self._packages.check(request.zip_file))
        await self._packages.put(request.zip_file, package["code_sha256"])

        def numbered(version: int) -> PublishedLayer:
            return PublishedLayer(
                layer=LayerVersion(name=request.name, version=version, **package),
                description=request.description,
                compatible_runtimes=tuple(request.compatible_runtimes),
                created_at=clock.unix_s(),
            )

        return described(await self._catalogue.publish(request.name, numbered))

    async def get_layer_version(self, request: layers_pb2.GetLayerVersionRequest) -> layers_pb2.LayerVersion:
        check_layer_name(request.name)
        return described(await self._catalogue.get(request.name, request.version))

    async def get_layer_code(self, request: layers_pb2.GetLayerVersionRequest) -> AsyncIterator[bytes]:
        check_layer_name(request.name)
        published = await self._catalogue.get(request.name, request.version)
        return await self._packages.whole(published.layer.code_sha256)

    async def list_layers(self, request: layers_pb2.ListLayersRequest) -> layers_pb2.ListLayersResponse:
        count = page_size(request.max_items)
        suited = _suited(await self._catalogue.all_versions(), request.compatible_runtime)
        newest = [next(versions) for _, versions in groupby(suited, key=lambda it: it.layer.name)]
        left = [it for it in newest if it.layer.name > request.marker]
        return layers_pb2.ListLayersResponse(
            layers=map(described, left[:count]),
            next_marker=left[count - 1].layer.name if len(left) > count else "",
        )

    async def list_layer_versions(
        self, request: layers_pb2.ListLayerVersionsRequest
    ) -> layers_pb2.ListLayerVersionsResponse:
        check_layer_name(request.name)
        count = page_size(request.max_items)
        if request.marker and (not request.marker.isdecimal() or len(request.marker) > 18):
            raise InvalidRequest(f"the marker {request.marker[:80]!r} is of no answer of this list")
        left = [
            it
            for it in _suited(await self._catalogue.versions(request.name), request.compatible_runtime)
            if not request.marker or it.layer.version < int(request.marker)
        ]
        return layers_pb2.ListLayerVersionsResponse(
            layer_versions=map(described, left[:count]),
            next_marker=str(left[count - 1].layer.version) if len(left) > count else "",
        )

    async def delete_layer_version(
        self, request: layers_pb2.DeleteLayerVersionRequest
    ) -> layers_pb2.DeleteLayerVersionResponse:
        check_layer_name(request.name)
        await self._catalogue.delete(request.name, request.version)
        return layers_pb2.DeleteLayerVersionResponse()


def _suited(published: Iterable[PublishedLayer], runtime: str) -> list[PublishedLayer]:
    return [it for it in published if not runtime or runtime in it.compatible_runtimes]


def described(published: PublishedLayer) -> layers_pb2.LayerVersion:
    layer = published.layer
    version = layers_pb2.LayerVersion(
        name=layer.name,
        version=layer.version,
        description=published.description,
        compatible_runtimes=published.compatible_runtimes,
        code_sha256=base64.b64encode(bytes.fromhex(layer.code_sha256)).decode(),
        code_size=layer.code_size,
        unzipped_size=layer.unzipped_size,
    )
    version.created_at.FromNanoseconds(int(published.created_at * 1e9))
    return version
