"""What is configured for asynchronous calls: checks, then etcd. Bad input changes nothing."""

import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from lambent_chassis import clock
from lambent_frontend import commits
from lambent_frontend.catalogue import Catalogue, Deployed
from lambent_frontend.registry import Registry
from lambent_proto.definition import LATEST
from lambent_proto.errors import Contended, InvalidRequest, NotConfigured, UnknownFunction
from lambent_proto.event_invoke import EventInvoke
from lambent_proto.ids import FunctionName
from lambent_proto.v1 import async_invocations_pb2 as pb

MOST_RETRIES: Final = 1000
MIN_AGE_S: Final = 60
MAX_AGE_S: Final = 21_600
"""Of an event: Lambda's range."""
MOST_DELAYS: Final = 100


class EventInvokes:
    """`check_destination` raises InvalidRequest for what no record goes to."""

    def __init__(
        self, catalogue: Catalogue, registry: Registry, check_destination: Callable[[str], None]
    ) -> None:
        self._catalogue = catalogue
        self._registry = registry
        self._check_destination = check_destination

    async def put(self, request: pb.PutEventInvokeConfigRequest) -> pb.EventInvokeConfig:
        changes = self._checked(request.settings)
        return await self._change(request.function_name, request.qualifier, lambda _: EventInvoke(**changes))

    async def update(self, request: pb.UpdateEventInvokeConfigRequest) -> pb.EventInvokeConfig:
        changes = self._checked(request.settings)

        def changed(before: EventInvoke | None) -> EventInvoke:
            if before is None:
                raise _not_configured(request.function_name, request.qualifier)
            return replace(before, **changes)

        return await self._change(request.function_name, request.qualifier, changed)

    async def get(self, request: pb.GetEventInvokeConfigRequest) -> pb.EventInvokeConfig:
        name, qualifier = FunctionName(request.function_name), request.qualifier or LATEST
        found = self._deployed(name, qualifier).event_invoke.get(qualifier)
        if found is None:
            raise _not_configured(name, qualifier)
        return _described(name, qualifier, found)

    async def delete(self, request: pb.DeleteEventInvokeConfigRequest) -> pb.DeleteEventInvokeConfigResponse:
        name, qualifier = FunctionName(request.function_name), request.qualifier or LATEST
        async for _ in commits.tries():
            self._deployed(name, qualifier)
            known = (await self._registry.parts(name)).event_invoke.get(qualifier)
            if known is None:
                raise _not_configured(name, qualifier)
            if await self._registry.delete_event_invoke(known):
                return pb.DeleteEventInvokeConfigResponse()
        raise _contended(name)

    async def list(self, request: pb.ListEventInvokeConfigsRequest) -> pb.ListEventInvokeConfigsResponse:
        name = FunctionName(request.function_name)
        found = sorted(self._deployed(name, LATEST).event_invoke.items())
        return pb.ListEventInvokeConfigsResponse(configs=[_described(name, *it) for it in found])

    async def _change(
        self, function: str, qualifier: str, changed: Callable[[EventInvoke | None], EventInvoke]
    ) -> pb.EventInvokeConfig:
        name, qualifier = FunctionName(function), qualifier or LATEST
        async for _ in commits.tries():
            stored = await self._registry.read(name)
            if stored is None:
                raise UnknownFunction(f"there is no function {name!r}")
            parts = await self._registry.parts(name)
            if qualifier not in (LATEST, *parts.versions, *parts.aliases):
                raise _no_qualifier(name, qualifier)
            known = parts.event_invoke.get(qualifier)
            value = replace(
                changed(EventInvoke.decode(known.value) if known else None),
                revision=uuid.uuid4().hex,
                modified_at=clock.unix_s(),
            )
            if await self._registry.put_event_invoke(stored, qualifier, value, parts):
                return _described(name, qualifier, value)
        raise _contended(name)

    def _deployed(self, name: FunctionName, qualifier: str) -> Deployed:
        deployed = self._catalogue.deployed(name)
        if deployed.latest is None:
            raise UnknownFunction(f"there is no function {name!r}")
        if qualifier not in (LATEST, *deployed.versions, *deployed.aliases):
            raise _no_qualifier(name, qualifier)
        return deployed

    def _checked(self, settings: pb.EventInvoke) -> dict[str, Any]:
        """What they set of an EventInvoke."""
        changes: dict[str, Any] = {}
        if settings.HasField("retries"):
            changes["retries"] = _within("retries", settings.retries, 0, MOST_RETRIES)
        if settings.HasField("most_age_s"):
            changes["most_age_s"] = _within("most_age_s", settings.most_age_s, MIN_AGE_S, MAX_AGE_S)
        if settings.delays_s:
            _within("the number of delays", len(settings.delays_s), 1, MOST_DELAYS)
            changes["delays_s"] = tuple(_within("a delay", it, 0, MAX_AGE_S) for it in settings.delays_s)
        for field in ("on_success", "on_failure"):
            if settings.HasField(field):
                destination = changes[field] = getattr(settings, field)
                if destination:
                    self._check_destination(destination)
        return changes


def _within(what: str, value: float, least: float, most: float) -> float:
    if not least <= value <= most:
        raise InvalidRequest(f"{what} is {value:g}; allowed: {least:g} to {most:,}")
    return value


def _described(name: FunctionName, qualifier: str, value: EventInvoke) -> pb.EventInvokeConfig:
    settings = pb.EventInvoke(
        retries=value.retries,
        most_age_s=value.most_age_s,
        delays_s=value.delays_s,
        on_success=value.on_success or None,
        on_failure=value.on_failure or None,
    )
    described = pb.EventInvokeConfig(function_name=name, qualifier=qualifier, settings=settings)
    described.last_modified.FromNanoseconds(int(value.modified_at * 1e9))
    return described


def _no_qualifier(name: str, qualifier: str) -> UnknownFunction:
    return UnknownFunction(f"function {name!r} has no version or alias {qualifier!r}")


def _not_configured(name: str, qualifier: str) -> NotConfigured:
    of = f"{name}:{qualifier}" if qualifier else name
    return NotConfigured(f"nothing is configured for the asynchronous calls of {of!r}")


def _contended(name: str) -> Contended:
    return Contended(
        f"function {name!r} is being changed by others over and over: nothing was changed, try again"
    )
