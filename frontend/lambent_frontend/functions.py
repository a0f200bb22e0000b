"""Functions: checks, then the package store, then etcd. Bad input changes nothing."""

import base64
import uuid
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any, Final

from lambent_chassis import clock
from lambent_frontend.catalogue import Catalogue
from lambent_frontend.layer_catalogue import LayerCatalogue
from lambent_frontend.limits import Limits
from lambent_frontend.packages import Packages
from lambent_frontend.registry import Registry, Stored
from lambent_frontend.rules import check_name, check_whole, checked_changes, named_layers, page_size
from lambent_proto.definition import Definition
from lambent_proto.errors import (
    FunctionExists,
    InvalidRequest,
    NotReady,
    RevisionMismatch,
    UnknownFunction,
)
from lambent_proto.ids import FunctionName
from lambent_proto.v1 import functions_pb2

_ATTEMPTS: Final = 5
"""How often a change starts anew because somebody else changed the function in between."""


class Functions:
    def __init__(
        self,
        catalogue: Catalogue,
        registry: Registry,
        packages: Packages,
        layers: LayerCatalogue,
        limits: Limits,
        check_destination: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`check_destination` raises InvalidRequest for what no dead letters go to."""
        self._check_destination = check_destination
        self._limits = limits
        self._catalogue = catalogue
        self._registry = registry
        self._packages = packages
        self._layers = layers

    async def create_function(self, request: functions_pb2.CreateFunctionRequest) -> functions_pb2.Function:
        check_name(request.name)
        changes = await self._changes(request.configuration)
        for field in ("runtime", "handler"):
            if field not in changes:
                raise InvalidRequest(f"the configuration has no {field}")
        if not request.zip_file:
            raise InvalidRequest("there is no zip_file")
        name = FunctionName(request.name)
        if await self._registry.read(name) is not None:
            raise _taken(name)
        changes |= asdict(await self._packages.check(request.zip_file))
        definition = Definition(name=name, revision=uuid.uuid4().hex, modified_at=clock.unix_s(), **changes)
        check_whole(definition)
        await self._limits.check(definition)
        await self._packages.put(request.zip_file, definition.code_sha256)
        if not await self._registry.create(definition):
            raise _taken(name)
        return described(definition)

    async def update_function(
        self, request: functions_pb2.UpdateFunctionRequest, *, dry_run: bool = False
    ) -> functions_pb2.Function:
        """What it is afterwards. A `dry_run` checks all of it and changes nothing."""
        name = FunctionName(request.name)
        changes = await self._changes(request.configuration)
        stored = await self._stored(name, request.revision_id)
        if request.zip_file:
            changes |= asdict(await self._packages.check(request.zip_file))
        for _ in range(_ATTEMPTS):
            definition = changed(stored.definition, changes)
            check_whole(definition)
            if definition.concurrency != stored.definition.concurrency:
                await self._limits.check(definition)
            if dry_run:
                return described(definition)
            if request.zip_file:
                await self._packages.put(request.zip_file, definition.code_sha256)
            if definition == stored.definition or await self._registry.replace(
                definition, stored.mod_revision
            ):
                return described(definition)
            stored = await self._stored(name, request.revision_id)
        raise _contended(name)

    async def get_function(self, request: functions_pb2.GetFunctionRequest) -> functions_pb2.Function:
        definition = self._catalogue.shown(FunctionName(request.name), request.qualifier)
        if definition is None:
            raise _unknown(f"{request.name}:{request.qualifier}" if request.qualifier else request.name)
        return described(definition)

    async def list_functions(
        self, request: functions_pb2.ListFunctionsRequest
    ) -> functions_pb2.ListFunctionsResponse:
        count = page_size(request.max_items)
        names = [name for name in self._catalogue.names() if name > request.marker]
        page = [self._catalogue.get(name) for name in names[:count]]
        return functions_pb2.ListFunctionsResponse(
            functions=[described(definition) for definition in page if definition],
            next_marker=names[count - 1] if len(names) > count else "",
        )

    async def delete_function(
        self, request: functions_pb2.DeleteFunctionRequest
    ) -> functions_pb2.DeleteFunctionResponse:
        name = FunctionName(request.name)
        for _ in range(_ATTEMPTS):
            if await self._registry.delete(await self._stored(name, "")):
                return functions_pb2.DeleteFunctionResponse()
        raise _contended(name)

    async def _stored(self, name: FunctionName, revision_id: str) -> Stored:
        stored = await self._registry.read(name)
        if stored is None:
            raise _unknown(name)
        if revision_id and revision_id != stored.definition.revision:
            raise RevisionMismatch(
                f"function {name!r} is at revision {stored.definition.revision}, not {revision_id}: "
                "somebody changed it; look at it and decide again"
            )
        return stored

    async def _changes(self, configuration: functions_pb2.Configuration) -> dict[str, Any]:
        """What the configuration sets of a Definition."""
        changes = checked_changes(configuration)
        if dead_letter := changes.get("dead_letter"):
            self._check_destination(dead_letter)
        if configuration.HasField("layers"):
            named = named_layers(configuration.layers.versions)
            changes["layers"] = tuple([(await self._layers.get(*layer)).layer for layer in named])
        return changes


def changed(before: Definition, changes: dict[str, Any]) -> Definition:
    """The definition with the changes; the same one, revision and all, if they change nothing.

    Another concurrency alone, or other tags, are not another revision: the instances stay.
    """
    after = replace(before, **changes)
    if after == before:
        return before
    if after != replace(before, concurrency=after.concurrency, tags=after.tags):
        after = replace(after, revision=uuid.uuid4().hex)
    return replace(after, modified_at=clock.unix_s())


def described(definition: Definition) -> functions_pb2.Function:
    function = functions_pb2.Function(
        name=definition.name,
        version=definition.version,
        revision_id=definition.revision,
        runtime=definition.runtime,
        handler=definition.handler,
        memory_mb=definition.memory_mb,
        timeout_s=definition.timeout_s,
        environment=definition.environment,
        description=definition.description,
        code_sha256=base64.b64encode(bytes.fromhex(definition.code_sha256)).decode(),
        code_size=definition.code_size,
        concurrency=definition.concurrency,
        layers=[
            functions_pb2.FunctionLayer(
                name=layer.name,
                version=layer.version,
                code_size=layer.code_size,
                unzipped_size=layer.unzipped_size,
            )
            for layer in definition.layers
        ],
        tmp_mb=definition.tmp_mb,
        network=definition.network,
        snapstart=definition.snapstart,
        unzipped_size=definition.unzipped_size,
        require=definition.require,
        prefer=definition.prefer,
        apart=definition.apart,
        dead_letter=definition.dead_letter,
        role=definition.role,
        tags=definition.tags,
    )
    function.last_modified.FromNanoseconds(int(definition.modified_at * 1e9))
    return function


def _taken(name: str) -> FunctionExists:
    return FunctionExists(f"there is a function {name!r} already: update it, or choose another name")


def _unknown(name: str) -> UnknownFunction:
    return UnknownFunction(f"there is no function {name!r}")


def _contended(name: str) -> NotReady:
    return NotReady(
        f"function {name!r} is being changed by others over and over: nothing was changed, try again"
    )
