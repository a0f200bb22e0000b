"""Operations on functions: create, get, list, update, delete, tags, and what they reserve."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from lambent_frontend import needs
from lambent_frontend.functions import Functions
from lambent_frontend.http import bodies, shapes
from lambent_frontend.http.api import Operation
from lambent_frontend.http.asked import Asked, choice
from lambent_frontend.http.downloads import Location
from lambent_frontend.http.errors import constraint, invalid
from lambent_frontend.http.messages import Response
from lambent_frontend.http.names import Named, function_arn, function_named
from lambent_frontend.needs import Need
from lambent_frontend.versions import Versions
from lambent_proto.definition import LATEST
from lambent_proto.errors import UnknownLayer
from lambent_proto.v1 import functions_pb2, versions_pb2

_SNAPSTART: Final = ("None", "PublishedVersions")
_REGION: Final = re.compile(r"ALL|[a-z]{2}(-gov)?-[a-z]+-\d{1}")


class FunctionOperations:
    def __init__(self, functions: Functions, versions: Versions, location: Location) -> None:
        self._functions = functions
        self._versions = versions
        self._location = location

    def operations(self) -> Mapping[str, Operation]:
        return {
            "CreateFunction": self.create,
            "GetFunction": self.get,
            "GetFunctionConfiguration": self.get_configuration,
            "UpdateFunctionCode": self.update_code,
            "UpdateFunctionConfiguration": self.update_configuration,
            "ListFunctions": self.list,
            "DeleteFunction": self.delete,
            "PutFunctionConcurrency": self.put_concurrency,
            "GetFunctionConcurrency": self.get_concurrency,
            "DeleteFunctionConcurrency": self.delete_concurrency,
            "TagResource": self.tag,
            "UntagResource": self.untag,
            "ListTags": self.list_tags,
        }

    async def create(self, asked: Asked) -> Response:
        body = bodies.read(asked, bodies.CreateFunction)
        named = function_named(body.FunctionName)
        asked.subject = function_arn(named.name)
        asked.permit("CreateFunction", named.name)
        if named.qualifier:
            raise invalid(f"a function is created without a qualifier, and {named.qualifier!r} is one")
        configuration = _configuration(body)
        if body.Tags is not None:
            configuration.tags.tags.update(body.Tags)
        request = functions_pb2.CreateFunctionRequest(
            name=named.name,
            zip_file=bodies.package(body.Code.ZipFile, asked.operation),
            stored_zip=bodies.stored_package(body.Code, asked.operation),
            configuration=configuration,
            publish=body.Publish,
        )
        _permit(asked, needs.creating(request))
        try:
            function = await self._functions.create_function(request)
        except UnknownLayer as error:
            raise invalid(f"Layer version does not exist: {error.message}") from None
        return shapes.answer(201, _made(function))

    async def get(self, asked: Asked) -> Response:
        named = asked.function()
        function = await self._get(named)
        shape: dict[str, Any] = {
            "Configuration": shapes.configuration(function, named.qualifier),
            "Code": {"RepositoryType": "Lambent"}
            | shapes.located(self._location(asked.request, function.code_sha256)),
        }
        if function.HasField("concurrency"):
            shape["Concurrency"] = {"ReservedConcurrentExecutions": function.concurrency}
        if function.tags:
            shape["Tags"] = dict(function.tags)
        return shapes.answer(200, shape)

    async def get_configuration(self, asked: Asked) -> Response:
        named = asked.function()
        return shapes.answer(200, shapes.configuration(await self._get(named), named.qualifier))

    async def update_code(self, asked: Asked) -> Response:
        named = _latest_of(asked)
        body = bodies.read(asked, bodies.UpdateFunctionCode)
        package = bodies.package(body.ZipFile, asked.operation)
        stored = bodies.stored_package(body, asked.operation)
        if not (package or stored):
            raise invalid("Please provide a source for function code: there is no ZipFile.")
        request = functions_pb2.UpdateFunctionRequest(
            name=named.name,
            zip_file=package,
            stored_zip=stored,
            revision_id=body.RevisionId or "",
            publish=body.Publish,
            dry_run=body.DryRun,
        )
        _permit(asked, needs.updating(request))
        return shapes.answer(200, _made(await self._functions.update_function(request)))

    async def update_configuration(self, asked: Asked) -> Response:
        named = _latest_of(asked)
        body = bodies.read(asked, bodies.UpdateFunctionConfiguration)
        request = functions_pb2.UpdateFunctionRequest(
            name=named.name, configuration=_configuration(body), revision_id=body.RevisionId or ""
        )
        _permit(asked, needs.updating(request))
        try:
            return shapes.answer(200, _latest(await self._functions.update_function(request)))
        except UnknownLayer as error:
            raise invalid(f"Layer version does not exist: {error.message}") from None

    async def list(self, asked: Asked) -> Response:
        every = choice(asked.query.get("FunctionVersion", ""), "functionVersion", ("", "ALL")) == "ALL"
        region = asked.query.get("MasterRegion", "")  # of copies at the edge, which nothing here is
        if region and not _REGION.fullmatch(region):
            rule = f"Member must satisfy regular expression pattern: {_REGION.pattern}"
            raise constraint(region, "masterRegion", rule)
        found = await self._functions.list_functions(
            functions_pb2.ListFunctionsRequest(
                marker=asked.query.get("Marker", ""), max_items=asked.max_items(), all_versions=every
            )
        )
        shape = shapes.version if every else shapes.configuration
        return shapes.page("Functions", map(_listed, map(shape, found.functions)), found.next_marker)

    async def delete(self, asked: Asked) -> Response:
        named = asked.function()
        if named.qualifier:
            await self._versions.delete_version(
                versions_pb2.DeleteVersionRequest(function_name=named.name, version=named.qualifier)
            )
        else:
            await self._functions.delete_function(functions_pb2.DeleteFunctionRequest(name=named.name))
        return Response(204)

    # Reserved concurrency

    async def put_concurrency(self, asked: Asked) -> Response:
        body = bodies.read(asked, bodies.PutFunctionConcurrency)
        reserved = body.ReservedConcurrentExecutions
        await self._reserve(_latest_of(asked), functions_pb2.Concurrency(limit=reserved))
        return shapes.answer(200, {"ReservedConcurrentExecutions": reserved})

    async def get_concurrency(self, asked: Asked) -> Response:
        function = await self._get(_latest_of(asked))
        reserved = function.HasField("concurrency")
        return shapes.answer(200, {"ReservedConcurrentExecutions": function.concurrency} if reserved else {})

    async def delete_concurrency(self, asked: Asked) -> Response:
        await self._reserve(_latest_of(asked), functions_pb2.Concurrency())
        return Response(204)

    async def _reserve(self, named: Named, concurrency: functions_pb2.Concurrency) -> None:
        configuration = functions_pb2.Configuration(concurrency=concurrency)
        request = functions_pb2.UpdateFunctionRequest(name=named.name, configuration=configuration)
        await self._functions.update_function(request)

    # Tags

    async def list_tags(self, asked: Asked) -> Response:
        function = await self._get(_tagged(asked))
        return shapes.answer(200, {"Tags": dict(function.tags)})

    async def tag(self, asked: Asked) -> Response:
        body = bodies.read(asked, bodies.TagResource)
        request = functions_pb2.UpdateFunctionRequest(name=_tagged(asked).name, add_tags=body.Tags)
        await self._functions.update_function(request)
        return Response(204)

    async def untag(self, asked: Asked) -> Response:
        request = functions_pb2.UpdateFunctionRequest(
            name=_tagged(asked).name, remove_tags=asked.all_of("tagKeys")
        )
        await self._functions.update_function(request)
        return Response(204)

    async def _get(self, named: Named) -> functions_pb2.Function:
        return await self._functions.get_function(
            functions_pb2.GetFunctionRequest(name=named.name, qualifier=named.qualifier)
        )


def _permit(asked: Asked, needed: Iterable[Need]) -> None:
    """Raises AccessDenied."""
    for action, resource in needed:
        asked.permit(action, resource)


def _latest(function: functions_pb2.Function) -> dict[str, Any]:
    return shapes.configuration(function)


def _made(function: functions_pb2.Function) -> dict[str, Any]:
    """What a change made of it: `$LATEST`, or the version that was published with it."""
    return _latest(function) if function.version == LATEST else shapes.version(function)


def _listed(shape: dict[str, Any]) -> dict[str, Any]:
    """AWS leaves the states out of lists."""
    return {key: value for key, value in shape.items() if key not in {"State", "LastUpdateStatus"}}


def _latest_of(asked: Asked) -> Named:
    """The function, by what has no qualifier: versions do not change."""
    named = asked.function()
    if named.qualifier not in ("", LATEST):
        raise invalid(f"{named.qualifier!r} is a version or an alias: this is for the function, without one")
    return Named(named.name, "")


def _tagged(asked: Asked) -> Named:
    named = function_named(asked.path["Resource"])
    asked.subject = function_arn(*named)
    if named.qualifier:
        raise invalid("tags are the function's, not a version's or an alias's: leave the qualifier out")
    return named


def _configuration(body: bodies.Configuration) -> functions_pb2.Configuration:
    """What the body sets. Raises Refused."""
    configuration = functions_pb2.Configuration(
        runtime=body.Runtime,
        handler=body.Handler,
        memory_mb=body.MemorySize,
        timeout_s=body.Timeout,
        description=body.Description,
        tmp_mb=body.EphemeralStorage.Size if body.EphemeralStorage else None,
        role=body.Role,
    )
    if body.DeadLetterConfig is not None:
        configuration.dead_letter = body.DeadLetterConfig.TargetArn or ""
    if body.Environment is not None:
        variables = body.Environment.Variables or {}
        configuration.environment.CopyFrom(functions_pb2.Environment(variables=variables))
    if body.Layers is not None:
        configuration.layers.CopyFrom(functions_pb2.LayerList(versions=body.Layers))
    if body.SnapStart is not None:
        applied = choice(body.SnapStart.ApplyOn, "snapStart.applyOn", _SNAPSTART)
        configuration.snapstart = applied == "PublishedVersions"
    return configuration
