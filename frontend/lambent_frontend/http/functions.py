"""Operations on functions: create, get, list, update, delete, tags, and what they reserve."""

from collections.abc import Mapping
from typing import Any

from lambent_frontend.functions import Functions
from lambent_frontend.http import bodies, shapes
from lambent_frontend.http.api import Operation
from lambent_frontend.http.asked import Asked, choice
from lambent_frontend.http.errors import invalid, not_there
from lambent_frontend.http.gate import permit_sending
from lambent_frontend.http.messages import Response
from lambent_frontend.http.names import Named, function_arn, function_named
from lambent_frontend.versions import Versions
from lambent_proto.definition import LATEST
from lambent_proto.errors import UnknownLayer
from lambent_proto.v1 import functions_pb2, versions_pb2

_SNAPSTART = ("None", "PublishedVersions")


class FunctionOperations:
    def __init__(self, functions: Functions, versions: Versions) -> None:
        self._functions = functions
        self._versions = versions

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
        asked.permit(named.name)
        if named.qualifier:
            raise invalid(f"a function is created without a qualifier, and {named.qualifier!r} is one")
        configuration = _configuration(asked, body)
        if body.Tags is not None:
            configuration.tags.tags.update(body.Tags)
        request = functions_pb2.CreateFunctionRequest(
            name=named.name, zip_file=bodies.package(body.Code.ZipFile), configuration=configuration
        )
        try:
            function = await self._functions.create_function(request)
        except UnknownLayer as error:
            raise invalid(f"Layer version does not exist: {error.message}") from None
        return shapes.answer(201, await self._published(function) if body.Publish else _latest(function))

    async def get(self, asked: Asked) -> Response:
        named = asked.function()
        function = await self._get(named)
        shape: dict[str, Any] = {
            "Configuration": shapes.configuration(function, named.qualifier),
            "Code": {"RepositoryType": "Lambent"},
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
        package = bodies.package(body.ZipFile)
        if not package:
            raise invalid("Please provide a source for function code: there is no ZipFile.")
        request = functions_pb2.UpdateFunctionRequest(
            name=named.name, zip_file=package, revision_id=body.RevisionId or ""
        )
        function = await self._functions.update_function(request, dry_run=body.DryRun)
        publish = body.Publish and not body.DryRun
        return shapes.answer(200, await self._published(function) if publish else _latest(function))

    async def update_configuration(self, asked: Asked) -> Response:
        named = _latest_of(asked)
        body = bodies.read(asked, bodies.UpdateFunctionConfiguration)
        request = functions_pb2.UpdateFunctionRequest(
            name=named.name, configuration=_configuration(asked, body), revision_id=body.RevisionId or ""
        )
        try:
            return shapes.answer(200, _latest(await self._functions.update_function(request)))
        except UnknownLayer as error:
            raise invalid(f"Layer version does not exist: {error.message}") from None

    async def list(self, asked: Asked) -> Response:
        if choice(asked.query.get("FunctionVersion", ""), "functionVersion", ("", "ALL")):
            raise not_there(asked.operation, "FunctionVersion=ALL is not there: use ListVersionsByFunction.")
        found = await self._functions.list_functions(
            functions_pb2.ListFunctionsRequest(
                marker=asked.query.get("Marker", ""), max_items=asked.max_items()
            )
        )
        return shapes.page("Functions", map(_listed, found.functions), found.next_marker)

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
        named = _tagged(asked)
        await self._set_tags(named, dict((await self._get(named)).tags) | body.Tags)
        return Response(204)

    async def untag(self, asked: Asked) -> Response:
        named = _tagged(asked)
        keys = asked.all_of("tagKeys")
        tags = (await self._get(named)).tags.items()
        await self._set_tags(named, {key: value for key, value in tags if key not in keys})
        return Response(204)

    async def _set_tags(self, named: Named, tags: Mapping[str, str]) -> None:
        configuration = functions_pb2.Configuration(tags=functions_pb2.TagMap(tags=tags))
        request = functions_pb2.UpdateFunctionRequest(name=named.name, configuration=configuration)
        await self._functions.update_function(request)

    async def _get(self, named: Named) -> functions_pb2.Function:
        return await self._functions.get_function(
            functions_pb2.GetFunctionRequest(name=named.name, qualifier=named.qualifier)
        )

    async def _published(self, function: functions_pb2.Function) -> dict[str, Any]:
        """What was just stored, under a number, unless somebody has changed it since."""
        published = await self._versions.publish_version(
            versions_pb2.PublishVersionRequest(function_name=function.name, revision_id=function.revision_id)
        )
        return shapes.version(published)


def _latest(function: functions_pb2.Function) -> dict[str, Any]:
    return shapes.configuration(function)


def _listed(function: functions_pb2.Function) -> dict[str, Any]:
    """AWS leaves the states out of lists."""
    hidden = {"State", "LastUpdateStatus"}
    return {key: value for key, value in _latest(function).items() if key not in hidden}


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


def _configuration(asked: Asked, body: bodies.Configuration) -> functions_pb2.Configuration:
    """What the body sets. Raises Refused, and AccessDenied for a function as dead letters' target."""
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
        permit_sending(asked, configuration.dead_letter)
    if body.Environment is not None:
        variables = body.Environment.Variables or {}
        configuration.environment.CopyFrom(functions_pb2.Environment(variables=variables))
    if body.Layers is not None:
        configuration.layers.CopyFrom(functions_pb2.LayerList(versions=body.Layers))
    if body.SnapStart is not None:
        applied = choice(body.SnapStart.ApplyOn, "snapStart.applyOn", _SNAPSTART)
        configuration.snapstart = applied == "PublishedVersions"
    return configuration
