"""Published versions of functions, their aliases, and what is kept ready: `Client.versions`.

Everything raises LambentError.
"""

from collections.abc import Mapping

from lambent.rpc import ASK_WITHIN_S, answer
from lambent_proto.v1 import functions_pb2, versions_pb2, versions_pb2_grpc


class Versions:
    def __init__(self, stub: "versions_pb2_grpc.VersionsAsyncStub") -> None:
        self._stub = stub

    async def publish(
        self, name: str, *, description: str = "", code_sha256: str = "", revision_id: str = ""
    ) -> functions_pb2.Function:
        """Numbers what `$LATEST` is now; the newest version, if nothing has changed since.

        Raises RevisionMismatch unless `code_sha256` (base64) and `revision_id` are those of `$LATEST`, where
        they are given.
        """
        request = versions_pb2.PublishVersionRequest(
            function_name=name, description=description, code_sha256=code_sha256, revision_id=revision_id
        )
        return await answer(self._stub.PublishVersion(request, timeout=ASK_WITHIN_S))

    async def list_versions(self, name: str) -> list[functions_pb2.Function]:
        """`$LATEST`, then all versions, the oldest first."""
        versions: list[functions_pb2.Function] = []
        request = versions_pb2.ListVersionsRequest(function_name=name, max_items=1000)
        while True:
            page = await answer(self._stub.ListVersions(request, timeout=ASK_WITHIN_S))
            versions += page.versions
            if not page.next_marker:
                return versions
            request.marker = page.next_marker

    async def delete(self, name: str, version: str) -> None:
        """Calls that run are finished, waiting ones fail. Raises InUse while an alias points to it."""
        request = versions_pb2.DeleteVersionRequest(function_name=name, version=version)
        await answer(self._stub.DeleteVersion(request, timeout=ASK_WITHIN_S))

    async def create_alias(
        self,
        name: str,
        alias: str,
        version: str,
        *,
        weights: Mapping[str, float] | None = None,
        description: str = "",
    ) -> versions_pb2.Alias:
        """`weights` gives another version its share of the calls, 0 to 1."""
        request = versions_pb2.CreateAliasRequest(
            function_name=name,
            name=alias,
            version=version,
            weights=_weights(weights),
            description=description,
        )
        return await answer(self._stub.CreateAlias(request, timeout=ASK_WITHIN_S))

    async def update_alias(
        self,
        name: str,
        alias: str,
        *,
        version: str = "",
        weights: Mapping[str, float] | None = None,
        description: str | None = None,
        revision_id: str = "",
    ) -> versions_pb2.Alias:
        """Changes what is given; `weights` that are empty take the other version away."""
        request = versions_pb2.UpdateAliasRequest(
            function_name=name,
            name=alias,
            version=version,
            weights=_weights(weights),
            description=description,
            revision_id=revision_id,
        )
        return await answer(self._stub.UpdateAlias(request, timeout=ASK_WITHIN_S))

    async def get_alias(self, name: str, alias: str) -> versions_pb2.Alias:
        request = versions_pb2.GetAliasRequest(function_name=name, name=alias)
        return await answer(self._stub.GetAlias(request, timeout=ASK_WITHIN_S))

    async def list_aliases(self, name: str, version: str = "") -> list[versions_pb2.Alias]:
        """By name; only those that point to the version, where it is given."""
        request = versions_pb2.ListAliasesRequest(function_name=name, version=version)
        return [*(await answer(self._stub.ListAliases(request, timeout=ASK_WITHIN_S))).aliases]

    async def delete_alias(self, name: str, alias: str) -> None:
        """What is kept ready for it goes as well."""
        request = versions_pb2.DeleteAliasRequest(function_name=name, name=alias)
        await answer(self._stub.DeleteAlias(request, timeout=ASK_WITHIN_S))

    async def put_provisioned(self, name: str, qualifier: str, count: int) -> versions_pb2.Provisioned:
        """Has so many instances of a version or an alias ready from now on; the answer does not wait."""
        request = versions_pb2.PutProvisionedRequest(function_name=name, qualifier=qualifier, count=count)
        return await answer(self._stub.PutProvisioned(request, timeout=ASK_WITHIN_S))

    async def get_provisioned(self, name: str, qualifier: str) -> versions_pb2.Provisioned:
        request = versions_pb2.GetProvisionedRequest(function_name=name, qualifier=qualifier)
        return await answer(self._stub.GetProvisioned(request, timeout=ASK_WITHIN_S))

    async def list_provisioned(self, name: str) -> list[versions_pb2.Provisioned]:
        request = versions_pb2.ListProvisionedRequest(function_name=name)
        return [*(await answer(self._stub.ListProvisioned(request, timeout=ASK_WITHIN_S))).provisioned]

    async def delete_provisioned(self, name: str, qualifier: str) -> None:
        request = versions_pb2.DeleteProvisionedRequest(function_name=name, qualifier=qualifier)
        await answer(self._stub.DeleteProvisioned(request, timeout=ASK_WITHIN_S))


def _weights(weights: Mapping[str, float] | None) -> versions_pb2.Weights | None:
    return None if weights is None else versions_pb2.Weights(by_version=weights)
