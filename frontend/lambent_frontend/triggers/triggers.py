"""Triggers as people see them: checks, then etcd. Bad input changes nothing."""

import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace

from lambent_chassis import clock
from lambent_frontend.catalogue import Catalogue
from lambent_frontend.rules import MAX_PAGE
from lambent_frontend.triggers import rules
from lambent_frontend.triggers.core import states
from lambent_frontend.triggers.names import kafka_with, source_named
from lambent_frontend.triggers.store import Stored, TriggerStore
from lambent_proto.errors import InvalidRequest, TriggerBusy, UnknownFunction
from lambent_proto.ids import FunctionName
from lambent_proto.triggers import Trigger
from lambent_proto.v1 import triggers_pb2

DEFAULT_PAGE = 100
"""Lambda's."""


class Triggers:
    def __init__(
        self,
        store: TriggerStore,
        catalogue: Catalogue,
        allowed: Callable[[str], None],
        sources: Mapping[str, str],
    ) -> None:
        """`allowed` raises InvalidRequest for a destination that nothing may be sent to; `sources` are URLs
        by name."""
        self._store = store
        self._catalogue = catalogue
        self._allowed = allowed
        self._sources = sources

    async def create_trigger(self, request: triggers_pb2.CreateTriggerRequest) -> triggers_pb2.Trigger:
        function, qualifier = self._function(request.function_name)
        source = request.source
        if request.servers and source:
            raise InvalidRequest("a source has an ARN (EventSourceArn) or servers (SelfManagedEventSource)")
        if request.servers:
            source = kafka_with(request.servers, self._sources)
        trigger = Trigger(
            id=str(uuid.uuid4()),
            function=function,
            qualifier=qualifier,
            kind=source_named(source).kind,
            source=source,
            queue=request.queue,
            servers=tuple(request.servers),
            consumer_group=request.consumer_group,
            access=tuple((it.type, it.uri) for it in request.access),
            starting_position=request.starting_position,
            starting_at=request.starting_at,
            batch_size=0,
            window_s=-1.0,
            modified_at=clock.unix_s(),
        )
        trigger = rules.with_defaults(changed(trigger, request.settings))
        self._check(trigger)
        return described(await self._store.create(trigger))

    async def update_trigger(self, request: triggers_pb2.UpdateTriggerRequest) -> triggers_pb2.Trigger:
        stored = await self._free(request.id)
        trigger = changed(stored.trigger, request.settings)
        if request.function_name:
            function, qualifier = self._function(request.function_name)
            trigger = replace(trigger, function=function, qualifier=qualifier)
        self._check(trigger)
        pending = states.pending(was_enabled=stored.trigger.enabled, enabled=trigger.enabled)
        trigger = replace(trigger, pending=pending, modified_at=clock.unix_s())
        return described(await self._store.replace(stored, trigger))

    def _check(self, trigger: Trigger) -> None:
        rules.check(trigger)
        if trigger.on_failure:
            self._allowed(trigger.on_failure)

    async def get_trigger(self, request: triggers_pb2.GetTriggerRequest) -> triggers_pb2.Trigger:
        return described(await self._store.get(request.id))

    async def list_triggers(
        self, request: triggers_pb2.ListTriggersRequest
    ) -> triggers_pb2.ListTriggersResponse:
        if not 0 <= request.max_items <= MAX_PAGE:
            raise InvalidRequest(f"max_items is {request.max_items}; allowed: 1 to {MAX_PAGE}")
        count = request.max_items or DEFAULT_PAGE
        function, _, qualifier = request.function_name.partition(":")
        suited = [
            it
            for it in await self._store.all()
            if it.trigger.id > request.marker
            and function in ("", it.trigger.function)
            and qualifier in ("", it.trigger.qualifier)
            and request.source in ("", it.trigger.source)
        ]
        return triggers_pb2.ListTriggersResponse(
            triggers=map(described, suited[:count]),
            next_marker=suited[count - 1].trigger.id if len(suited) > count else "",
        )

    async def delete_trigger(self, request: triggers_pb2.DeleteTriggerRequest) -> triggers_pb2.Trigger:
        stored = await self._free(request.id)
        trigger = replace(stored.trigger, pending=states.DELETING, modified_at=clock.unix_s())
        return described(await self._store.replace(stored, trigger))

    async def _free(self, trigger_id: str) -> Stored:
        """Raises TriggerBusy."""
        stored = await self._store.get(trigger_id)
        if stored.trigger.pending == states.DELETING:
            raise TriggerBusy(
                "Cannot update the event source mapping because it is in use: it is being deleted"
            )
        return stored

    def _function(self, asked: str) -> tuple[FunctionName, str]:
        """Raises UnknownFunction."""
        name, _, qualifier = asked.partition(":")
        if self._catalogue.resolve(FunctionName(name), qualifier, 0.0) is None:
            raise UnknownFunction(f"there is no function {asked!r}: deploy it first, or check the name")
        return FunctionName(name), qualifier


def changed(trigger: Trigger, settings: triggers_pb2.TriggerSettings) -> Trigger:
    """With what is given."""
    given = {
        name: getattr(settings, name)
        for name in settings.DESCRIPTOR.fields_by_name
        if name != "filters" and settings.HasField(name)  # type: ignore[arg-type]
    }
    if settings.HasField("filters"):
        given["filters"] = tuple(settings.filters.patterns)
    return replace(trigger, **given)


def described(stored: Stored) -> triggers_pb2.Trigger:
    trigger, status = stored.trigger, stored.status
    settings = triggers_pb2.TriggerSettings(
        enabled=trigger.enabled,
        batch_size=trigger.batch_size,
        window_s=trigger.window_s,
        filters=triggers_pb2.Filters(patterns=trigger.filters),
        partial=trigger.partial,
        max_concurrency=trigger.max_concurrency,
        parallelization=trigger.parallelization,
        max_retries=trigger.max_retries,
        max_age_s=trigger.max_age_s,
        bisect=trigger.bisect,
        on_failure=trigger.on_failure,
    )
    told = triggers_pb2.Trigger(
        id=trigger.id,
        function_name=trigger.function,
        qualifier=trigger.qualifier,
        kind=trigger.kind,
        source=trigger.source,
        queue=trigger.queue,
        access=[triggers_pb2.Access(type=kind, uri=uri) for kind, uri in trigger.access],
        starting_position=trigger.starting_position,
        starting_at=trigger.starting_at,
        settings=settings,
        state=states.state(pending=trigger.pending, enabled=trigger.enabled, settled=stored.settled),
        last_result=status.result or "No records processed",
        last_error=status.error,
        lag=status.lag,
        rate=status.rate,
        records=status.records,
        frontend=status.frontend,
        servers=trigger.servers,
        consumer_group=trigger.group if trigger.kind == "kafka" else "",
    )
    told.last_modified.FromNanoseconds(int(trigger.modified_at * 1e9))
    return told
