"""Published versions, aliases, and what is kept ready. Bad input changes nothing."""

import base64
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import replace

from lambent_chassis import clock
from lambent_frontend import commits
from lambent_frontend.catalogue import Catalogue, Deployed
from lambent_frontend.functions import described
from lambent_frontend.limits import Limits
from lambent_frontend.numbering import numbered
from lambent_frontend.registry import Parts, Publication, Registry, Stored
from lambent_frontend.rules import check_alias_name, check_description, checked_weights, page_size
from lambent_proto.definition import LATEST, Definition
from lambent_proto.errors import (
    AliasExists,
    Contended,
    InUse,
    InvalidRequest,
    LambentError,
    NotProvisioned,
    RevisionMismatch,
    UnknownAlias,
    UnknownFunction,
)
from lambent_proto.ids import FunctionName
from lambent_proto.internal import control_pb2
from lambent_proto.v1 import functions_pb2, versions_pb2
from lambent_proto.versions import PROVISIONED_MOST, Alias

Describe = Callable[[FunctionName], Awaitable[control_pb2.DescribeResponse]]


class Versions:
    """`describe` gives what placement's leader says of the fleet."""

    def __init__(self, catalogue: Catalogue, registry: Registry, limits: Limits, describe: Describe) -> None:
        self._catalogue = catalogue
        self._registry = registry
        self._limits = limits
        self._describe = describe

    # Versions

    async def publish_version(self, request: versions_pb2.PublishVersionRequest) -> functions_pb2.Function:
        name = FunctionName(request.function_name)
        check_description(request.description)
        async for _ in commits.tries():
            last, stored = await self._registry.last_number(name), await self._stored(name)
            latest = stored.definition
            _check_guards(latest, request)
            newest = (await self._registry.parts(name)).newest()
            version = numbered(latest, newest, last.number + 1, clock.unix_s(), request.description)
            if version == newest or await self._registry.publish(stored, Publication(version, last)):
                return described(version)
        raise _contended(name)

    async def list_versions(
        self, request: versions_pb2.ListVersionsRequest
    ) -> versions_pb2.ListVersionsResponse:
        name, count = FunctionName(request.function_name), page_size(request.max_items)
        deployed = self._deployed(name)
        after = _number(request.marker) if request.marker else -1
        left = [(number, definition) for number, definition in deployed.numbered() if number > after]
        return versions_pb2.ListVersionsResponse(
            versions=[described(definition) for _, definition in left[:count]],
            next_marker=str(left[count - 1][0]) if len(left) > count else "",
        )

    async def delete_version(
        self, request: versions_pb2.DeleteVersionRequest
    ) -> versions_pb2.DeleteVersionResponse:
        name, number = FunctionName(request.function_name), request.version
        if number in ("", LATEST):
            raise InvalidRequest("$LATEST version cannot be deleted without deleting the function.")
        async for _ in commits.tries():
            parts = await self._parts(name)
            if number not in parts.versions:
                raise _no_version(name, number)
            for alias in map(parts.alias, parts.aliases):
                if alias and number in (alias.version, *alias.weights):
                    raise InUse(
                        f"the alias {alias.name!r} of {name!r} points to version {number}: move it first"
                    )
            if await self._registry.delete_version(name, number, parts):
                return versions_pb2.DeleteVersionResponse()
        raise _contended(name)

    # Aliases

    async def create_alias(self, request: versions_pb2.CreateAliasRequest) -> versions_pb2.Alias:
        name = FunctionName(request.function_name)
        check_alias_name(request.name)
        check_description(request.description)
        alias = Alias(
            name=request.name,
            version=request.version,
            weights=checked_weights(request.version, request.weights.by_version),
            description=request.description,
            revision=uuid.uuid4().hex,
        )
        async for _ in commits.tries():
            parts = await self._parts(name)
            if request.name in parts.aliases:
                raise AliasExists(f"{name!r} has an alias {request.name!r} already: update it")
            _check_versions(name, alias, parts)
            if await self._registry.put_alias(name, alias, parts):
                return _alias(name, alias)
        raise _contended(name)

    async def update_alias(self, request: versions_pb2.UpdateAliasRequest) -> versions_pb2.Alias:
        name = FunctionName(request.function_name)
        async for _ in commits.tries():
            parts = await self._parts(name)
            before = _known_alias(name, request.name, parts)
            if request.revision_id and request.revision_id != before.revision:
                raise RevisionMismatch(
                    f"the alias {request.name!r} is at revision {before.revision}, not "
                    f"{request.revision_id}: somebody changed it; look at it and decide again"
                )
            alias = _changed(before, request)
            _check_versions(name, alias, parts)
            if alias.name in parts.provisioned:
                _check_ready(name, alias.name, alias, parts)
            if await self._registry.put_alias(name, alias, parts):
                return _alias(name, alias)
        raise _contended(name)

    async def get_alias(self, request: versions_pb2.GetAliasRequest) -> versions_pb2.Alias:
        name = FunctionName(request.function_name)
        alias = self._deployed(name).aliases.get(request.name)
        if alias is None:
            raise _no_alias(name, request.name)
        return _alias(name, alias)

    async def list_aliases(
        self, request: versions_pb2.ListAliasesRequest
    ) -> versions_pb2.ListAliasesResponse:
        name = FunctionName(request.function_name)
        known = sorted(self._deployed(name).aliases.items())
        wanted = [it for _, it in known if request.version in ("", it.version, *it.weights)]
        return versions_pb2.ListAliasesResponse(aliases=[_alias(name, alias) for alias in wanted])

    async def delete_alias(
        self, request: versions_pb2.DeleteAliasRequest
    ) -> versions_pb2.DeleteAliasResponse:
        name = FunctionName(request.function_name)
        async for _ in commits.tries():
            parts = await self._parts(name)
            _known_alias(name, request.name, parts)
            if await self._registry.delete_alias(name, request.name, parts):
                return versions_pb2.DeleteAliasResponse()
        raise _contended(name)

    # What is kept ready

    async def put_provisioned(self, request: versions_pb2.PutProvisionedRequest) -> versions_pb2.Provisioned:
        name, qualifier = FunctionName(request.function_name), request.qualifier
        if not 1 <= request.count <= PROVISIONED_MOST:
            raise InvalidRequest(f"the count is {request.count}; allowed: 1 to {PROVISIONED_MOST:,}")
        async for _ in commits.tries():
            stored, parts = await self._stored(name), await self._registry.parts(name)
            _check_ready(name, qualifier, parts.alias(qualifier), parts)
            await self._limits.check_provisioned(
                stored.definition, parts.counts() | {qualifier: request.count}, qualifier
            )
            if await self._registry.put_provisioned(stored, qualifier, request.count, parts):
                return (await self._provisioned(name, {qualifier: request.count}))[0]
        raise _contended(name)

    async def get_provisioned(self, request: versions_pb2.GetProvisionedRequest) -> versions_pb2.Provisioned:
        name, qualifier = FunctionName(request.function_name), request.qualifier
        count = self._deployed(name).provisioned.get(qualifier)
        if count is None:
            raise _not_provisioned()
        return (await self._provisioned(name, {qualifier: count}))[0]

    async def list_provisioned(
        self, request: versions_pb2.ListProvisionedRequest
    ) -> versions_pb2.ListProvisionedResponse:
        name = FunctionName(request.function_name)
        counts = dict(sorted(self._deployed(name).provisioned.items()))
        return versions_pb2.ListProvisionedResponse(provisioned=await self._provisioned(name, counts))

    async def delete_provisioned(
        self, request: versions_pb2.DeleteProvisionedRequest
    ) -> versions_pb2.DeleteProvisionedResponse:
        name = FunctionName(request.function_name)
        async for _ in commits.tries():
            known = (await self._parts(name)).provisioned.get(request.qualifier)
            if known is None:
                raise _not_provisioned()
            if await self._registry.delete_provisioned(known):
                return versions_pb2.DeleteProvisionedResponse()
        raise _contended(name)

    async def _provisioned(
        self, name: FunctionName, counts: dict[str, int]
    ) -> list[versions_pb2.Provisioned]:
        """With placement's word for how far it is; without that it is in progress."""
        try:
            told = {it.version: it for it in (await self._describe(name)).provisioned} if counts else {}
        except LambentError:
            told = {}
        deployed = self._deployed(name)
        return [_joined(name, deployed, qualifier, count, told) for qualifier, count in counts.items()]

    # What there is

    def _deployed(self, name: FunctionName) -> Deployed:
        deployed = self._catalogue.deployed(name)
        if deployed.latest is None:
            raise _no_function(name)
        return deployed

    async def _stored(self, name: FunctionName) -> Stored:
        stored = await self._registry.read(name)
        if stored is None:
            raise _no_function(name)
        return stored

    async def _parts(self, name: FunctionName) -> Parts:
        await self._stored(name)
        return await self._registry.parts(name)


def _check_guards(latest: Definition, request: versions_pb2.PublishVersionRequest) -> None:
    if request.revision_id and request.revision_id != latest.revision:
        raise RevisionMismatch(
            f"function {latest.name!r} is at revision {latest.revision}, not {request.revision_id}: "
            "somebody changed it; look at it and decide again"
        )
    digest = base64.b64encode(bytes.fromhex(latest.code_sha256)).decode()
    if request.code_sha256 and request.code_sha256 != digest:
        raise RevisionMismatch(
            f"the code of {latest.name!r} has the SHA-256 {digest}, not {request.code_sha256}: "
            "somebody changed it; look at it and decide again"
        )


def _changed(before: Alias, request: versions_pb2.UpdateAliasRequest) -> Alias:
    version = request.version or before.version
    weights = request.weights.by_version if request.HasField("weights") else before.weights
    description = request.description if request.HasField("description") else before.description
    return replace(
        before,
        version=version,
        weights=checked_weights(version, weights),
        description=check_description(description),
        revision=uuid.uuid4().hex,
    )


def _check_versions(name: FunctionName, alias: Alias, parts: Parts) -> None:
    for number in (alias.version, *alias.weights):
        if number != LATEST and number not in parts.versions:
            raise _no_version(name, number)


def _check_ready(name: FunctionName, qualifier: str, alias: Alias | None, parts: Parts) -> None:
    """Raises unless something can be kept ready for a version, or for an alias that is what is given."""
    if qualifier in ("", LATEST) or (alias and alias.version == LATEST):
        raise InvalidRequest(
            "nothing is kept ready of $LATEST: publish a version, and name that or an alias of it"
        )
    if alias is None and qualifier not in parts.versions:
        raise UnknownFunction(f"function {name!r} has no version or alias {qualifier!r}")
    versions = {qualifier} if alias is None else {alias.version, *alias.weights}
    for other in parts.provisioned:
        known = parts.alias(other)
        theirs = {other} if known is None else {known.version, *known.weights}
        if other != qualifier and versions & theirs and (alias is None) != (known is None):
            raise InvalidRequest(
                f"{other!r} of {name!r} has provisioned concurrency for the same version: "
                "give it to the version or to the alias, not to both"
            )


def _known_alias(name: FunctionName, alias: str, parts: Parts) -> Alias:
    known = parts.alias(alias)
    if known is None:
        raise _no_alias(name, alias)
    return known


def _alias(name: FunctionName, alias: Alias) -> versions_pb2.Alias:
    return versions_pb2.Alias(
        function_name=name,
        name=alias.name,
        version=alias.version,
        weights=alias.weights,
        description=alias.description,
        revision_id=alias.revision,
    )


def _joined(
    name: FunctionName,
    deployed: Deployed,
    qualifier: str,
    requested: int,
    told: dict[str, control_pb2.DescribedProvisioned],
) -> versions_pb2.Provisioned:
    alias = deployed.aliases.get(qualifier)
    numbers = [qualifier] if alias is None else [alias.version, *alias.weights]
    keys = [deployed.versions[number].key for number in numbers if number in deployed.versions]
    known = [told[key] for key in keys if key in told]
    states = {it.status for it in known} if len(known) == len(keys) else {"IN_PROGRESS"}
    allocated = min(requested, sum(it.allocated for it in known))
    if allocated < requested:
        states |= {"IN_PROGRESS"}  # placement may not have heard of all yet
    worst = next((state for state in ("FAILED", "IN_PROGRESS") if state in states), "READY")
    return versions_pb2.Provisioned(
        function_name=name,
        qualifier=qualifier,
        requested=requested,
        allocated=allocated,
        status=worst,
        status_reason=next((it.reason for it in known if it.reason), ""),
    )


def _number(text: str) -> int:
    if not text.isdecimal() or len(text) > 18:
        raise InvalidRequest(f"the marker {text[:80]!r} is none that was given")
    return int(text)


def _no_function(name: str) -> UnknownFunction:
    return UnknownFunction(f"there is no function {name!r}")


def _no_version(name: str, number: str) -> UnknownFunction:
    return UnknownFunction(f"function {name!r} has no version {number!r}: publish one first")


def _no_alias(name: str, alias: str) -> UnknownAlias:
    return UnknownAlias(f"function {name!r} has no alias {alias!r}")


def _not_provisioned() -> NotProvisioned:
    return NotProvisioned("No Provisioned Concurrency Config found for this function")


def _contended(name: str) -> Contended:
    return Contended(
        f"function {name!r} is being changed by others over and over: nothing was changed, try again"
    )
