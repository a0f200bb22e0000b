"""Operations on what is configured for asynchronous calls."""

from collections.abc import Mapping
from typing import Any

from lambent_frontend.event_invokes import EventInvokes
from lambent_frontend.http import bodies, shapes
from lambent_frontend.http.api import Operation
from lambent_frontend.http.asked import Asked
from lambent_frontend.http.errors import constraint
from lambent_frontend.http.messages import Response
from lambent_frontend.http.names import function_arn
from lambent_frontend.needs import sending_to
from lambent_proto.definition import LATEST
from lambent_proto.v1 import async_invocations_pb2 as pb

MOST_RETRIES = 2
"""That Lambda's API takes; gRPC takes more."""


class EventInvokeOperations:
    def __init__(self, configs: EventInvokes) -> None:
        self._configs = configs

    def operations(self) -> Mapping[str, Operation]:
        return {
            "PutFunctionEventInvokeConfig": self.put,
            "UpdateFunctionEventInvokeConfig": self.update,
            "GetFunctionEventInvokeConfig": self.get,
            "DeleteFunctionEventInvokeConfig": self.delete,
            "ListFunctionEventInvokeConfigs": self.list,
        }

    async def put(self, asked: Asked) -> Response:
        name, qualifier = _named(asked)
        request = pb.PutEventInvokeConfigRequest(
            function_name=name, qualifier=qualifier, settings=_settings(asked)
        )
        return shapes.answer(200, _shape(await self._configs.put(request)))

    async def update(self, asked: Asked) -> Response:
        name, qualifier = _named(asked)
        request = pb.UpdateEventInvokeConfigRequest(
            function_name=name, qualifier=qualifier, settings=_settings(asked)
        )
        return shapes.answer(200, _shape(await self._configs.update(request)))

    async def get(self, asked: Asked) -> Response:
        name, qualifier = _named(asked)
        request = pb.GetEventInvokeConfigRequest(function_name=name, qualifier=qualifier)
        return shapes.answer(200, _shape(await self._configs.get(request)))

    async def delete(self, asked: Asked) -> Response:
        name, qualifier = _named(asked)
        await self._configs.delete(pb.DeleteEventInvokeConfigRequest(function_name=name, qualifier=qualifier))
        return Response(204)

    async def list(self, asked: Asked) -> Response:
        asked.max_items()
        request = pb.ListEventInvokeConfigsRequest(function_name=asked.function().name)
        found = await self._configs.list(request)
        return shapes.page("FunctionEventInvokeConfigs", map(_shape, found.configs), "")


def _named(asked: Asked) -> tuple[str, str]:
    """Function and qualifier, by which errors call it too."""
    named = asked.function()
    qualifier = named.qualifier or LATEST
    asked.subject = function_arn(named.name, qualifier)
    return named.name, qualifier


def _settings(asked: Asked) -> pb.EventInvoke:
    """Raises Refused, and AccessDenied for a function as destination that the caller may not invoke."""
    body = bodies.read(asked, bodies.FunctionEventInvokeConfig)
    retries, destinations = body.MaximumRetryAttempts, body.DestinationConfig
    if retries is not None and not 0 <= retries <= MOST_RETRIES:
        rule = f"Member must have value less than or equal to {MOST_RETRIES}"
        raise constraint(retries, "maximumRetryAttempts", rule)
    settings = pb.EventInvoke(retries=retries, most_age_s=body.MaximumEventAgeInSeconds)
    if destinations is not None:
        for field, given in (("on_success", destinations.OnSuccess), ("on_failure", destinations.OnFailure)):
            if given is not None:
                setattr(settings, field, given.Destination or "")
    for action, function in sending_to(settings.on_success, settings.on_failure):
        asked.permit(action, function)
    return settings


def _shape(config: pb.EventInvokeConfig) -> dict[str, Any]:
    settings = config.settings
    shape: dict[str, Any] = {
        "LastModified": config.last_modified.ToNanoseconds() / 1e9,
        "FunctionArn": function_arn(config.function_name, config.qualifier),
        "DestinationConfig": {
            name: {"Destination": destination} if destination else {}
            for name, destination in (("OnSuccess", settings.on_success), ("OnFailure", settings.on_failure))
        },
    }
    if settings.HasField("retries"):
        shape["MaximumRetryAttempts"] = settings.retries
    if settings.HasField("most_age_s"):
        shape["MaximumEventAgeInSeconds"] = settings.most_age_s
    return shape
