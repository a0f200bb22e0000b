"""Functions: checks, then the package store, then etcd. Bad input changes nothing."""

import base64
import uuid
from bisect import bisect_left, bisect_right
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import asdict, replace
from itertools import islice
from typing import Any

from lambent_chassis import clock
from lambent_frontend import commits
from lambent_frontend.catalogue import Catalogue
from lambent_frontend.environments import Environments
from lambent_frontend.layer_catalogue import LayerCatalogue
from lambent_frontend.limits import Limits
from lambent_frontend.numbering import numbered
from lambent_frontend.packages import Packages
from lambent_frontend.registry import LastNumber, Publication, Registry, Stored
from lambent_frontend.rules import (
    check_name,
    check_whole,
    checked_changes,
    checked_tags,
    named_layers,
    page_size,
)
from lambent_proto.definition import Definition
from lambent_proto.errors import (
    Contended,
    FunctionExists,
    InvalidRequest,
    RevisionMismatch,
    UnknownFunction,
)
from lambent_proto.ids import FunctionName
from lambent_proto.v1 import functions_pb2


class Functions:
    def __init__(
        self,
        catalogue: Catalogue,
        registry: Registry,
        packages: Packages,
        layers: LayerCatalogue,
        limits: Limits,
        check_destination: Callable[[str], None] = lambda _: None,
        environments: Environments | None = None,
    ) -> None:
        """`check_destination` raises InvalidRequest for what no dead letters go to."""
        self._environments = environments or Environments()
        self._check_destination = check_destination
        self._limits = limits
        self._catalogue = catalogue
        self._registry = registry
        self._packages = packages
        self._layers = layers

    async def create_function(self, request: functions_pb2.CreateFunctionRequest) -> functions_pb2.Function:
        check_name(request.name)
        changes = await self._changes(request.name, request.configuration)
        for field in ("runtime", "handler"):
            if field not in changes:
                raise InvalidRequest(f"the configuration has no {field}")
        if not (request.zip_file or request.stored_zip):
            raise InvalidRequest("there is no zip_file, nor a stored_zip")
        name = FunctionName(request.name)
        if await self._registry.read(name) is not None:
            raise _taken(name)
        package = await self._package(request)
        changes |= asdict(await self._packages.check(package))
        made = uuid.uuid4().hex
        definition = Definition(name=name, revision=made, made=made, modified_at=clock.unix_s(), **changes)
        check_whole(definition)
        await self._limits.check(definition)
        await self._packages.put(package, definition.code_sha256)
        async for _ in commits.tries():
            publication = None
            if request.publish:
                last = await self._registry.last_number(name)
                publication = Publication(numbered(definition, None, last.number + 1, clock.unix_s()), last)
            if await self._registry.create(definition, publication):
                return described(publication.version if publication else definition)
            if await self._registry.read(name) is not None:
                raise _taken(name)
        raise _contended(name)

    async def update_function(self, request: functions_pb2.UpdateFunctionRequest) -> functions_pb2.Function:
        """What it is afterwards, or the version that was published."""
        name = FunctionName(request.name)
        changes = await self._changes(request.name, request.configuration)
        await self._stored(name, request.revision_id)
        package = await self._package(request)
        if package:
            changes |= asdict(await self._packages.check(package))
        async for _ in commits.tries():
            last = await self._registry.last_number(name) if request.publish else None
            stored = await self._stored(name, request.revision_id)
            definition = changed(stored.definition, changes | _retagged(stored.definition, request))
            check_whole(definition)
            if definition.concurrency != stored.definition.concurrency:
                await self._limits.check(definition)
            if request.dry_run:
                return described(definition)
            if package:
                await self._packages.put(package, definition.code_sha256)
            if (now := await self._changed(stored, definition, last)) is not None:
                return described(now)
        raise _contended(name)

    async def _package(
        self, request: functions_pb2.CreateFunctionRequest | functions_pb2.UpdateFunctionRequest
    ) -> bytes:
        """Empty if the request has none."""
        if request.zip_file and request.stored_zip:
            raise InvalidRequest("there are both a zip_file and a stored_zip: give one of them")
        return await self._packages.uploaded(request.stored_zip) if request.stored_zip else request.zip_file

    async def _changed(
        self, stored: Stored, definition: Definition, last: LastNumber | None
    ) -> Definition | None:
        """The definition, or the version that it is published as after `last`.

        None, and nothing is written, if somebody changed the function since. What is the same is not written.
        """
        version, publication = definition, None
        if last is not None:
            newest = (await self._registry.parts(definition.name)).newest()
            version = numbered(definition, newest, last.number + 1, clock.unix_s())
            publication = Publication(version, last) if version != newest else None
        if definition == stored.definition and publication is None:
            return version
        done = await self._registry.replace(definition, stored.mod_revision, publication)
        return version if done else None

    async def get_function(self, request: functions_pb2.GetFunctionRequest) -> functions_pb2.Function:
        return described(self._shown(request))

    async def get_code(self, request: functions_pb2.GetFunctionRequest) -> AsyncIterator[bytes]:
        return await self._packages.whole(self._shown(request).code_sha256)

    def _shown(self, request: functions_pb2.GetFunctionRequest) -> Definition:
        definition = self._catalogue.shown(FunctionName(request.name), request.qualifier)
        if definition is None:
            raise _unknown(f"{request.name}:{request.qualifier}" if request.qualifier else request.name)
        return definition

    async def list_functions(
        self, request: functions_pb2.ListFunctionsRequest
    ) -> functions_pb2.ListFunctionsResponse:
        count = page_size(request.max_items)
        listed = _each_version if request.all_versions else _each
        page = list(islice(listed(self._catalogue, request.marker), count + 1))
        return functions_pb2.ListFunctionsResponse(
            functions=[described(definition) for _, definition in page[:count]],
            next_marker=page[count - 1][0] if len(page) > count else "",
        )

    async def delete_function(
        self, request: functions_pb2.DeleteFunctionRequest
    ) -> functions_pb2.DeleteFunctionResponse:
        name = FunctionName(request.name)
        async for _ in commits.tries():
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

    async def _changes(self, name: str, configuration: functions_pb2.Configuration) -> dict[str, Any]:
        """What the configuration sets of a Definition."""
        changes = checked_changes(configuration)
        if environment := changes.get("environment"):
            changes["environment"] = self._environments.kept(name, environment)
        if dead_letter := changes.get("dead_letter"):
            self._check_destination(dead_letter)
        if configuration.HasField("layers"):
            named = named_layers(configuration.layers.versions)
            changes["layers"] = tuple([(await self._layers.get(*layer)).layer for layer in named])
        return changes


def _each(catalogue: Catalogue, marker: str) -> Iterator[tuple[str, Definition]]:
    """Behind the marker, each with its own."""
    names = catalogue.names()
    for name in islice(names, bisect_right(names, marker), None):
        if definition := catalogue.get(name):
            yield name, definition


def _each_version(catalogue: Catalogue, marker: str) -> Iterator[tuple[str, Definition]]:
    """The same with `NAME:NUMBER` for markers, 0 for `$LATEST`. Raises InvalidRequest."""
    last, colon, number = marker.partition(":")
    if marker and not (colon and number.isascii() and number.isdecimal() and len(number) <= 18):
        raise InvalidRequest(f"the marker {marker[:80]!r} is none that was given")
    names = catalogue.names()
    for name in islice(names, bisect_left(names, last), None):
        after = int(number) if name == last else -1
        for each, definition in catalogue.deployed(name).numbered():
            if each > after:
                yield f"{name}:{each}", definition


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


def _retagged(before: Definition, request: functions_pb2.UpdateFunctionRequest) -> dict[str, Any]:
    """Tags that come and go beside those that others add and take at the same time."""
    if not (request.add_tags or request.remove_tags):
        return {}
    kept = {key: value for key, value in before.tags.items() if key not in request.remove_tags}
    return {"tags": checked_tags(kept | dict(request.add_tags))}


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


def _contended(name: str) -> Contended:
    return Contended(
        f"function {name!r} is being changed by others over and over: nothing was changed, try again"
    )
