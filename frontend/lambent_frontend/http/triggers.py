"""Operations on event source mappings, which are triggers."""

from collections.abc import Mapping
from typing import Any, Final

from lambent_frontend.http import bodies, names, shapes
from lambent_frontend.http.api import Operation
from lambent_frontend.http.asked import Asked
from lambent_frontend.http.errors import invalid, not_there
from lambent_frontend.http.messages import Response
from lambent_frontend.needs import sending_to
from lambent_frontend.triggers.triggers import Triggers
from lambent_proto.triggers import OBJECTS, STREAMS
from lambent_proto.v1 import triggers_pb2

_PARTIAL: Final = "ReportBatchItemFailures"
_SERVERS: Final = "KAFKA_BOOTSTRAP_SERVERS"


class TriggerOperations:
    def __init__(self, triggers: Triggers) -> None:
        self._triggers = triggers

    def operations(self) -> Mapping[str, Operation]:
        return {
            "CreateEventSourceMapping": self.create,
            "GetEventSourceMapping": self.get,
            "ListEventSourceMappings": self.list,
            "UpdateEventSourceMapping": self.update,
            "DeleteEventSourceMapping": self.delete,
        }

    async def create(self, asked: Asked) -> Response:
        body = bodies.read(asked, bodies.CreateEventSourceMapping)
        function = names.function_named(body.FunctionName)
        asked.subject = names.function_arn(*function)
        asked.permit("CreateEventSourceMapping", function.name)
        settings, kafka = _settings(asked, body), body.SelfManagedKafkaEventSourceConfig
        request = triggers_pb2.CreateTriggerRequest(
            function_name=function.asked,
            source=body.EventSourceArn or "",
            queue=_only("Queues", body.Queues) or _only("Topics", body.Topics),
            servers=_servers(asked, body),
            consumer_group=(kafka.ConsumerGroupId if kafka else None) or "",
            access=[
                triggers_pb2.Access(type=it.Type, uri=it.URI) for it in body.SourceAccessConfigurations or ()
            ],
            starting_position=body.StartingPosition or "",
            starting_at=body.StartingPositionTimestamp or 0.0,
            settings=settings,
        )
        return shapes.answer(202, shape(await self._triggers.create_trigger(request)))

    async def get(self, asked: Asked) -> Response:
        found = await self._triggers.get_trigger(triggers_pb2.GetTriggerRequest(id=asked.path["UUID"]))
        return shapes.answer(200, shape(found))

    async def list(self, asked: Asked) -> Response:
        name = asked.query.get("FunctionName", "")
        found = await self._triggers.list_triggers(
            triggers_pb2.ListTriggersRequest(
                function_name=names.function_named(name).asked if name else "",
                source=asked.query.get("EventSourceArn", ""),
                marker=asked.query.get("Marker", ""),
                max_items=asked.max_items(),
            )
        )
        return shapes.page("EventSourceMappings", map(shape, found.triggers), found.next_marker)

    async def update(self, asked: Asked) -> Response:
        body = bodies.read(asked, bodies.UpdateEventSourceMapping)
        request = triggers_pb2.UpdateTriggerRequest(
            id=asked.path["UUID"],
            function_name=names.function_named(body.FunctionName).asked if body.FunctionName else "",
            settings=_settings(asked, body),
        )
        return shapes.answer(202, shape(await self._triggers.update_trigger(request)))

    async def delete(self, asked: Asked) -> Response:
        request = triggers_pb2.DeleteTriggerRequest(id=asked.path["UUID"])
        return shapes.answer(202, shape(await self._triggers.delete_trigger(request)))


def _only(what: str, values: list[str] | None) -> str:
    if values and len(values) > 1:
        raise invalid(f"{what} has one entry")
    return values[0] if values else ""


def _servers(asked: Asked, body: bodies.CreateEventSourceMapping) -> list[str]:
    """Of Kafka."""
    if body.Queues and body.Topics:
        raise invalid("Queues are RabbitMQ's, and Topics are Kafka's: one of them says enough")
    if body.SelfManagedEventSource is None:
        return []
    endpoints = body.SelfManagedEventSource.Endpoints or {}
    if set(endpoints) - {_SERVERS}:
        raise not_there(asked.operation, f"Of SelfManagedEventSource's Endpoints there are {_SERVERS} alone.")
    if not endpoints.get(_SERVERS):
        raise invalid(f"SelfManagedEventSource needs Endpoints with {_SERVERS}")
    return endpoints[_SERVERS]


def _settings(asked: Asked, body: bodies.EventSourceMapping) -> triggers_pb2.TriggerSettings:
    """Raises AccessDenied for a function as destination that the caller may not invoke."""
    settings = _read(asked, body)
    for action, function in sending_to(settings.on_failure):
        asked.permit(action, function)
    return settings


def _read(asked: Asked, body: bodies.EventSourceMapping) -> triggers_pb2.TriggerSettings:
    settings = triggers_pb2.TriggerSettings()
    for field, value in (
        ("enabled", body.Enabled),
        ("batch_size", body.BatchSize),
        ("window_s", body.MaximumBatchingWindowInSeconds),
        ("parallelization", body.ParallelizationFactor),
        ("max_retries", body.MaximumRetryAttempts),
        ("max_age_s", body.MaximumRecordAgeInSeconds),
        ("bisect", body.BisectBatchOnFunctionError),
    ):
        if value is not None:
            setattr(settings, field, value)
    if body.BatchSize == 0:
        raise invalid("BatchSize is 0; allowed: 1 to 10,000")
    if body.FilterCriteria is not None:
        settings.filters.patterns.extend(it.Pattern or "" for it in body.FilterCriteria.Filters or ())
        settings.filters.SetInParent()
    if body.ScalingConfig is not None:
        settings.max_concurrency = body.ScalingConfig.MaximumConcurrency or 0
    if body.FunctionResponseTypes is not None:
        if set(body.FunctionResponseTypes) - {_PARTIAL}:
            raise invalid(f"FunctionResponseTypes can be [{_PARTIAL}] alone")
        settings.partial = bool(body.FunctionResponseTypes)
    if body.DestinationConfig is not None:
        if (success := body.DestinationConfig.OnSuccess) is not None and success.Destination:
            raise not_there(asked.operation, "A destination of successes is not there for event sources.")
        failure = body.DestinationConfig.OnFailure
        settings.on_failure = (failure.Destination if failure else None) or ""
    return settings


def shape(it: triggers_pb2.Trigger) -> dict[str, Any]:
    """As Lambda shows one: what its kind does not have is left out."""
    settings = it.settings
    told: dict[str, Any] = {
        "UUID": it.id,
        "EventSourceMappingArn": names.trigger_arn(it.id),
        "FunctionArn": names.function_arn(it.function_name, it.qualifier),
        "BatchSize": settings.batch_size,
        "MaximumBatchingWindowInSeconds": settings.window_s,
        "LastModified": it.last_modified.ToNanoseconds() / 1e9,
        "State": it.state,
        "StateTransitionReason": it.last_error or "USER_INITIATED",
        "LastProcessingResult": it.last_result,
        "FunctionResponseTypes": [_PARTIAL] if settings.partial else [],
    }
    if settings.window_s == int(settings.window_s):
        told["MaximumBatchingWindowInSeconds"] = int(settings.window_s)
    if settings.filters.patterns:
        told["FilterCriteria"] = {"Filters": [{"Pattern": text} for text in settings.filters.patterns]}
    if settings.on_failure:
        told["DestinationConfig"] = {"OnFailure": {"Destination": settings.on_failure}}
    if it.kind in STREAMS:
        told |= _stream(it)
    elif settings.max_concurrency:
        told["ScalingConfig"] = {"MaximumConcurrency": settings.max_concurrency}
    if it.kind in OBJECTS:
        told["StartingPosition"] = it.starting_position
    return told | _source(it)


def _stream(it: triggers_pb2.Trigger) -> dict[str, Any]:
    told: dict[str, Any] = {
        "StartingPosition": it.starting_position,
        "MaximumRetryAttempts": it.settings.max_retries,
        "MaximumRecordAgeInSeconds": it.settings.max_age_s,
        "BisectBatchOnFunctionError": it.settings.bisect,
    }
    if it.kind == "kinesis":
        told["ParallelizationFactor"] = it.settings.parallelization
    return told | ({"StartingPositionTimestamp": it.starting_at} if it.starting_at else {})


def _source(it: triggers_pb2.Trigger) -> dict[str, Any]:
    told: dict[str, Any] = {}
    if it.servers:
        told["SelfManagedEventSource"] = {"Endpoints": {_SERVERS: list(it.servers)}}
    else:
        told["EventSourceArn"] = it.source
    if it.kind == "kafka":
        told["Topics"] = [it.queue]
        told["SelfManagedKafkaEventSourceConfig"] = {"ConsumerGroupId": it.consumer_group}
    elif it.queue:
        told["Queues"] = [it.queue]
    if it.access:
        told["SourceAccessConfigurations"] = [{"Type": each.type, "URI": each.uri} for each in it.access]
    return told
