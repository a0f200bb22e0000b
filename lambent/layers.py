"""What `Client` can do with layers. Everything raises LambentError."""

from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING

from lambent.rpc import ASK_WITHIN_S, UPLOAD_WITHIN_S, answer, parts_of
from lambent_proto.v1 import layers_pb2

if TYPE_CHECKING:
    from lambent_proto.v1.layers_pb2_grpc import LayersAsyncStub


class LayerCalls:
    _layers: "LayersAsyncStub"

    async def publish_layer_version(
        self,
        name: str,
        zip_file: bytes,
        *,
        description: str = "",
        compatible_runtimes: Sequence[str] = (),
        compatible_architectures: Sequence[str] = (),
        license: str = "",  # noqa: A002 - the word of the service
    ) -> layers_pb2.LayerVersion:
        """Makes the layer's next version, which never changes. What is in the ZIP is found at `/opt`."""
        request = layers_pb2.PublishLayerVersionRequest(
            name=name,
            zip_file=zip_file,
            description=description,
            compatible_runtimes=compatible_runtimes,
            compatible_architectures=compatible_architectures,
            license=license,
        )
        return await answer(self._layers.PublishLayerVersion(request, timeout=UPLOAD_WITHIN_S))

    async def get_layer_version(self, name: str, version: int) -> layers_pb2.LayerVersion:
        request = layers_pb2.GetLayerVersionRequest(name=name, version=version)
        return await answer(self._layers.GetLayerVersion(request, timeout=ASK_WITHIN_S))

    async def get_layer_code(self, name: str, version: int) -> AsyncIterator[bytes]:
        """The ZIP of a layer's version, in parts."""
        request = layers_pb2.GetLayerVersionRequest(name=name, version=version)
        async for part in parts_of(self._layers.GetLayerCode(request, timeout=UPLOAD_WITHIN_S)):
            yield part

    async def list_layers(self) -> list[layers_pb2.LayerVersion]:
        """The newest version of each, by name."""
        layers: list[layers_pb2.LayerVersion] = []
        request = layers_pb2.ListLayersRequest(max_items=1000)
        while True:
            page = await answer(self._layers.ListLayers(request, timeout=ASK_WITHIN_S))
            layers += page.layers
            if not page.next_marker:
                return layers
            request.marker = page.next_marker

    async def list_layer_versions(self, name: str) -> list[layers_pb2.LayerVersion]:
        """All of one layer, the newest first."""
        versions: list[layers_pb2.LayerVersion] = []
        request = layers_pb2.ListLayerVersionsRequest(name=name, max_items=1000)
        while True:
            page = await answer(self._layers.ListLayerVersions(request, timeout=ASK_WITHIN_S))
            versions += page.layer_versions
            if not page.next_marker:
                return versions
            request.marker = page.next_marker

    async def delete_layer_version(self, name: str, version: int) -> None:
        """Functions that use it go on using it."""
        request = layers_pb2.DeleteLayerVersionRequest(name=name, version=version)
        await answer(self._layers.DeleteLayerVersion(request, timeout=ASK_WITHIN_S))
