"""Operations on published versions, aliases, and what is kept ready of them."""

from collections.abc import Mapping

from lambent_frontend.http import bodies, shapes
from lambent_frontend.http.api import Operation
from lambent_frontend.http.asked import Asked
from lambent_frontend.http.errors import invalid
from lambent_frontend.http.messages import Response
from lambent_frontend.http.names import function_arn
from lambent_frontend.versions import Versions
from lambent_proto.errors import RevisionMismatch, UnknownFunction
from lambent_proto.v1 import versions_pb2


class VersionOperations:
    def __init__(self, versions: Versions) -> None:
        self._versions = versions

    def operations(self) -> Mapping[str, Operation]:
        return {
            "PublishVersion": self.publish,
            "ListVersionsByFunction": self.list,
            "CreateAlias": self.create_alias,
            "UpdateAlias": self.update_alias,
            "GetAlias": self.get_alias,
            "ListAliases": self.list_aliases,
            "DeleteAlias": self.delete_alias,
            "PutProvisionedConcurrencyConfig": self.put_provisioned,
            "GetProvisionedConcurrencyConfig": self.get_provisioned,
            "ListProvisionedConcurrencyConfigs": self.list_provisioned,
            "DeleteProvisionedConcurrencyConfig": self.delete_provisioned,
        }

    async def publish(self, asked: Asked) -> Response:
        body = bodies.read(asked, bodies.PublishVersion)
        request = versions_pb2.PublishVersionRequest(
            function_name=asked.function().name,
            description=body.Description or "",
            code_sha256=body.CodeSha256 or "",
            revision_id=body.RevisionId or "",
        )
        try:
            return shapes.answer(201, shapes.version(await self._versions.publish_version(request)))
        except RevisionMismatch as error:
            if body.RevisionId:
                raise
            raise invalid(f"CodeSHA256 is different from current CodeSHA256 in $LATEST: {error}") from None

    async def list(self, asked: Asked) -> Response:
        request = versions_pb2.ListVersionsRequest(
            function_name=asked.function().name,
            marker=asked.query.get("Marker", ""),
            max_items=asked.max_items(),
        )
        found = await self._versions.list_versions(request)
        return shapes.page("Versions", map(shapes.version, found.versions), found.next_marker)

    # Aliases

    async def create_alias(self, asked: Asked) -> Response:
        body = bodies.read(asked, bodies.CreateAlias)
        name = asked.function().name
        asked.subject = function_arn(name, body.Name[:128])
        request = versions_pb2.CreateAliasRequest(
            function_name=name,
            name=body.Name,
            version=body.FunctionVersion,
            description=body.Description or "",
            weights=_weights(body.RoutingConfig),
        )
        try:
            return shapes.answer(201, shapes.alias(await self._versions.create_alias(request)))
        except UnknownFunction:
            asked.subject = function_arn(name, body.FunctionVersion[:128])
            raise

    async def update_alias(self, asked: Asked) -> Response:
        body = bodies.read(asked, bodies.UpdateAlias)
        name, alias = _alias(asked)
        request = versions_pb2.UpdateAliasRequest(
            function_name=name,
            name=alias,
            version=body.FunctionVersion or "",
            description=body.Description,
            weights=_weights(body.RoutingConfig),
            revision_id=body.RevisionId or "",
        )
        try:
            return shapes.answer(200, shapes.alias(await self._versions.update_alias(request)))
        except UnknownFunction:
            asked.subject = function_arn(name, (body.FunctionVersion or "")[:128])
            raise

    async def get_alias(self, asked: Asked) -> Response:
        name, alias = _alias(asked)
        request = versions_pb2.GetAliasRequest(function_name=name, name=alias)
        return shapes.answer(200, shapes.alias(await self._versions.get_alias(request)))

    async def list_aliases(self, asked: Asked) -> Response:
        request = versions_pb2.ListAliasesRequest(
            function_name=asked.function().name, version=asked.query.get("FunctionVersion", "")
        )
        found = list((await self._versions.list_aliases(request)).aliases)
        left = [it for it in found if it.name > asked.query.get("Marker", "")]
        count = asked.max_items()
        marker = left[count - 1].name if len(left) > count else ""
        return shapes.page("Aliases", map(shapes.alias, left[:count]), marker)

    async def delete_alias(self, asked: Asked) -> Response:
        name, alias = _alias(asked)
        await self._versions.delete_alias(versions_pb2.DeleteAliasRequest(function_name=name, name=alias))
        return Response(204)

    # Provisioned concurrency

    async def put_provisioned(self, asked: Asked) -> Response:
        body = bodies.read(asked, bodies.PutProvisionedConcurrencyConfig)
        name, qualifier = _qualified(asked)
        request = versions_pb2.PutProvisionedRequest(
            function_name=name, qualifier=qualifier, count=body.ProvisionedConcurrentExecutions
        )
        return shapes.answer(202, shapes.provisioned(await self._versions.put_provisioned(request)))

    async def get_provisioned(self, asked: Asked) -> Response:
        name, qualifier = _qualified(asked)
        request = versions_pb2.GetProvisionedRequest(function_name=name, qualifier=qualifier)
        return shapes.answer(200, shapes.provisioned(await self._versions.get_provisioned(request)))

    async def list_provisioned(self, asked: Asked) -> Response:
        name = asked.function().name
        found = await self._versions.list_provisioned(versions_pb2.ListProvisionedRequest(function_name=name))
        left = [it for it in found.provisioned if it.qualifier > asked.query.get("Marker", "")]
        count = asked.max_items()
        shown = [
            {"FunctionArn": function_arn(name, it.qualifier), **shapes.provisioned(it)} for it in left[:count]
        ]
        marker = left[count - 1].qualifier if len(left) > count else ""
        return shapes.page("ProvisionedConcurrencyConfigs", shown, marker)

    async def delete_provisioned(self, asked: Asked) -> Response:
        name, qualifier = _qualified(asked)
        await self._versions.delete_provisioned(
            versions_pb2.DeleteProvisionedRequest(function_name=name, qualifier=qualifier)
        )
        return Response(204)


def _qualified(asked: Asked) -> tuple[str, str]:
    named = asked.function()
    if not named.qualifier:
        raise invalid("there is no Qualifier: name a version or an alias")
    return named.name, named.qualifier


def _alias(asked: Asked) -> tuple[str, str]:
    """Function and alias of the path."""
    name, alias = asked.function().name, asked.path["Name"]
    asked.subject = function_arn(name, alias[:128])
    return name, alias


def _weights(routing: bodies.RoutingValue | None) -> versions_pb2.Weights | None:
    return (
        None if routing is None else versions_pb2.Weights(by_version=routing.AdditionalVersionWeights or {})
    )
