"""The gRPC services in front of what does the work: requests in, answers or a status out, and nothing
else."""

from collections.abc import AsyncIterator
from typing import Any

import grpc.aio

from lambent_frontend.async_invocations import AsyncInvocations
from lambent_frontend.event_invokes import EventInvokes
from lambent_frontend.function_urls import FunctionUrls
from lambent_frontend.functions import Functions
from lambent_frontend.layers import Layers
from lambent_frontend.limits import Limits
from lambent_frontend.policies import Policies
from lambent_frontend.schedules.door import Schedules
from lambent_frontend.triggers.triggers import Triggers
from lambent_frontend.versions import Versions
from lambent_proto.status import errors_as_status
from lambent_proto.v1 import (
    async_invocations_pb2,
    async_invocations_pb2_grpc,
    functions_pb2,
    functions_pb2_grpc,
    layers_pb2,
    layers_pb2_grpc,
    limits_pb2,
    limits_pb2_grpc,
    policies_pb2,
    policies_pb2_grpc,
    schedules_pb2,
    schedules_pb2_grpc,
    triggers_pb2,
    triggers_pb2_grpc,
    urls_pb2,
    urls_pb2_grpc,
    versions_pb2,
    versions_pb2_grpc,
)

Context = grpc.aio.ServicerContext[Any, Any]


async def _write(parts: AsyncIterator[bytes], context: Context) -> None:
    async for part in parts:
        await context.write(functions_pb2.CodePart(data=part))


class FunctionsService(functions_pb2_grpc.FunctionsServicer):
    def __init__(self, functions: Functions) -> None:
        self._functions = functions

    @errors_as_status
    async def CreateFunction(
        self, request: functions_pb2.CreateFunctionRequest, context: Context
    ) -> functions_pb2.Function:
        return await self._functions.create_function(request)

    @errors_as_status
    async def UpdateFunction(
        self, request: functions_pb2.UpdateFunctionRequest, context: Context
    ) -> functions_pb2.Function:
        return await self._functions.update_function(request)

    @errors_as_status
    async def GetFunction(
        self, request: functions_pb2.GetFunctionRequest, context: Context
    ) -> functions_pb2.Function:
        return await self._functions.get_function(request)

    # grpc.aio also takes a coroutine that writes by itself, which the generated types do not know.
    @errors_as_status
    async def GetCode(self, request: functions_pb2.GetFunctionRequest, context: Context) -> None:  # type: ignore[override]
        await _write(await self._functions.get_code(request), context)

    @errors_as_status
    async def ListFunctions(
        self, request: functions_pb2.ListFunctionsRequest, context: Context
    ) -> functions_pb2.ListFunctionsResponse:
        return await self._functions.list_functions(request)

    @errors_as_status
    async def DeleteFunction(
        self, request: functions_pb2.DeleteFunctionRequest, context: Context
    ) -> functions_pb2.DeleteFunctionResponse:
        return await self._functions.delete_function(request)


class VersionsService(versions_pb2_grpc.VersionsServicer):
    def __init__(self, versions: Versions) -> None:
        self._versions = versions

    @errors_as_status
    async def PublishVersion(
        self, request: versions_pb2.PublishVersionRequest, context: Context
    ) -> functions_pb2.Function:
        return await self._versions.publish_version(request)

    @errors_as_status
    async def ListVersions(
        self, request: versions_pb2.ListVersionsRequest, context: Context
    ) -> versions_pb2.ListVersionsResponse:
        return await self._versions.list_versions(request)

    @errors_as_status
    async def DeleteVersion(
        self, request: versions_pb2.DeleteVersionRequest, context: Context
    ) -> versions_pb2.DeleteVersionResponse:
        return await self._versions.delete_version(request)

    @errors_as_status
    async def CreateAlias(
        self, request: versions_pb2.CreateAliasRequest, context: Context
    ) -> versions_pb2.Alias:
        return await self._versions.create_alias(request)

    @errors_as_status
    async def UpdateAlias(
        self, request: versions_pb2.UpdateAliasRequest, context: Context
    ) -> versions_pb2.Alias:
        return await self._versions.update_alias(request)

    @errors_as_status
    async def GetAlias(self, request: versions_pb2.GetAliasRequest, context: Context) -> versions_pb2.Alias:
        return await self._versions.get_alias(request)

    @errors_as_status
    async def ListAliases(
        self, request: versions_pb2.ListAliasesRequest, context: Context
    ) -> versions_pb2.ListAliasesResponse:
        return await self._versions.list_aliases(request)

    @errors_as_status
    async def DeleteAlias(
        self, request: versions_pb2.DeleteAliasRequest, context: Context
    ) -> versions_pb2.DeleteAliasResponse:
        return await self._versions.delete_alias(request)

    @errors_as_status
    async def PutProvisioned(
        self, request: versions_pb2.PutProvisionedRequest, context: Context
    ) -> versions_pb2.Provisioned:
        return await self._versions.put_provisioned(request)

    @errors_as_status
    async def GetProvisioned(
        self, request: versions_pb2.GetProvisionedRequest, context: Context
    ) -> versions_pb2.Provisioned:
        return await self._versions.get_provisioned(request)

    @errors_as_status
    async def ListProvisioned(
        self, request: versions_pb2.ListProvisionedRequest, context: Context
    ) -> versions_pb2.ListProvisionedResponse:
        return await self._versions.list_provisioned(request)

    @errors_as_status
    async def DeleteProvisioned(
        self, request: versions_pb2.DeleteProvisionedRequest, context: Context
    ) -> versions_pb2.DeleteProvisionedResponse:
        return await self._versions.delete_provisioned(request)


class LayersService(layers_pb2_grpc.LayersServicer):
    def __init__(self, layers: Layers) -> None:
        self._layers = layers

    @errors_as_status
    async def PublishLayerVersion(
        self, request: layers_pb2.PublishLayerVersionRequest, context: Context
    ) -> layers_pb2.LayerVersion:
        return await self._layers.publish_layer_version(request)

    @errors_as_status
    async def GetLayerVersion(
        self, request: layers_pb2.GetLayerVersionRequest, context: Context
    ) -> layers_pb2.LayerVersion:
        return await self._layers.get_layer_version(request)

    @errors_as_status
    async def GetLayerCode(self, request: layers_pb2.GetLayerVersionRequest, context: Context) -> None:  # type: ignore[override]
        await _write(await self._layers.get_layer_code(request), context)

    @errors_as_status
    async def ListLayers(
        self, request: layers_pb2.ListLayersRequest, context: Context
    ) -> layers_pb2.ListLayersResponse:
        return await self._layers.list_layers(request)

    @errors_as_status
    async def ListLayerVersions(
        self, request: layers_pb2.ListLayerVersionsRequest, context: Context
    ) -> layers_pb2.ListLayerVersionsResponse:
        return await self._layers.list_layer_versions(request)

    @errors_as_status
    async def DeleteLayerVersion(
        self, request: layers_pb2.DeleteLayerVersionRequest, context: Context
    ) -> layers_pb2.DeleteLayerVersionResponse:
        return await self._layers.delete_layer_version(request)


class LimitsService(limits_pb2_grpc.LimitsServicer):
    def __init__(self, limits: Limits) -> None:
        self._limits = limits

    @errors_as_status
    async def GetConcurrency(
        self, request: limits_pb2.GetConcurrencyRequest, context: Context
    ) -> limits_pb2.FleetConcurrency:
        return await self._limits.get_concurrency(request)

    @errors_as_status
    async def SetConcurrency(
        self, request: limits_pb2.SetConcurrencyRequest, context: Context
    ) -> limits_pb2.FleetConcurrency:
        return await self._limits.set_concurrency(request)


class PoliciesService(policies_pb2_grpc.PoliciesServicer):
    def __init__(self, policies: Policies) -> None:
        self._policies = policies

    @errors_as_status
    async def AddPermission(
        self, request: policies_pb2.AddPermissionRequest, context: Context
    ) -> policies_pb2.AddPermissionResponse:
        return await self._policies.add_permission(request)

    @errors_as_status
    async def GetPolicy(
        self, request: policies_pb2.GetPolicyRequest, context: Context
    ) -> policies_pb2.GetPolicyResponse:
        return await self._policies.get_policy(request)

    @errors_as_status
    async def RemovePermission(
        self, request: policies_pb2.RemovePermissionRequest, context: Context
    ) -> policies_pb2.RemovePermissionResponse:
        return await self._policies.remove_permission(request)


class FunctionUrlsService(urls_pb2_grpc.FunctionUrlsServicer):
    def __init__(self, urls: FunctionUrls) -> None:
        self._urls = urls

    @errors_as_status
    async def CreateFunctionUrl(
        self, request: urls_pb2.CreateFunctionUrlRequest, context: Context
    ) -> urls_pb2.FunctionUrl:
        return await self._urls.create(request)

    @errors_as_status
    async def GetFunctionUrl(
        self, request: urls_pb2.GetFunctionUrlRequest, context: Context
    ) -> urls_pb2.FunctionUrl:
        return await self._urls.get(request)

    @errors_as_status
    async def UpdateFunctionUrl(
        self, request: urls_pb2.UpdateFunctionUrlRequest, context: Context
    ) -> urls_pb2.FunctionUrl:
        return await self._urls.update(request)

    @errors_as_status
    async def ListFunctionUrls(
        self, request: urls_pb2.ListFunctionUrlsRequest, context: Context
    ) -> urls_pb2.ListFunctionUrlsResponse:
        return await self._urls.list_urls(request)

    @errors_as_status
    async def DeleteFunctionUrl(
        self, request: urls_pb2.DeleteFunctionUrlRequest, context: Context
    ) -> urls_pb2.DeleteFunctionUrlResponse:
        return await self._urls.delete(request)


class AsyncInvocationsService(async_invocations_pb2_grpc.AsyncInvocationsServicer):
    def __init__(self, invocations: AsyncInvocations, configs: EventInvokes) -> None:
        self._invocations = invocations
        self._configs = configs

    @errors_as_status
    async def GetAsyncInvocation(
        self, request: async_invocations_pb2.GetAsyncInvocationRequest, context: Context
    ) -> async_invocations_pb2.AsyncInvocation:
        return await self._invocations.get(request)

    @errors_as_status
    async def ListAsyncInvocations(
        self, request: async_invocations_pb2.ListAsyncInvocationsRequest, context: Context
    ) -> async_invocations_pb2.ListAsyncInvocationsResponse:
        return await self._invocations.list(request)

    @errors_as_status
    async def CancelAsyncInvocation(
        self, request: async_invocations_pb2.CancelAsyncInvocationRequest, context: Context
    ) -> async_invocations_pb2.AsyncInvocation:
        return await self._invocations.cancel(request)

    @errors_as_status
    async def RedriveAsyncInvocation(
        self, request: async_invocations_pb2.RedriveAsyncInvocationRequest, context: Context
    ) -> async_invocations_pb2.AsyncInvocation:
        return await self._invocations.redrive(request)

    @errors_as_status
    async def GetQueue(
        self, request: async_invocations_pb2.GetQueueRequest, context: Context
    ) -> async_invocations_pb2.Queue:
        return await self._invocations.queue(request)

    @errors_as_status
    async def PutEventInvokeConfig(
        self, request: async_invocations_pb2.PutEventInvokeConfigRequest, context: Context
    ) -> async_invocations_pb2.EventInvokeConfig:
        return await self._configs.put(request)

    @errors_as_status
    async def UpdateEventInvokeConfig(
        self, request: async_invocations_pb2.UpdateEventInvokeConfigRequest, context: Context
    ) -> async_invocations_pb2.EventInvokeConfig:
        return await self._configs.update(request)

    @errors_as_status
    async def GetEventInvokeConfig(
        self, request: async_invocations_pb2.GetEventInvokeConfigRequest, context: Context
    ) -> async_invocations_pb2.EventInvokeConfig:
        return await self._configs.get(request)

    @errors_as_status
    async def DeleteEventInvokeConfig(
        self, request: async_invocations_pb2.DeleteEventInvokeConfigRequest, context: Context
    ) -> async_invocations_pb2.DeleteEventInvokeConfigResponse:
        return await self._configs.delete(request)

    @errors_as_status
    async def ListEventInvokeConfigs(
        self, request: async_invocations_pb2.ListEventInvokeConfigsRequest, context: Context
    ) -> async_invocations_pb2.ListEventInvokeConfigsResponse:
        return await self._configs.list(request)


class SchedulesService(schedules_pb2_grpc.SchedulesServicer):
    def __init__(self, schedules: Schedules) -> None:
        self._schedules = schedules

    @errors_as_status
    async def CreateSchedule(
        self, request: schedules_pb2.CreateScheduleRequest, context: Context
    ) -> schedules_pb2.Schedule:
        return await self._schedules.create(request)

    @errors_as_status
    async def UpdateSchedule(
        self, request: schedules_pb2.UpdateScheduleRequest, context: Context
    ) -> schedules_pb2.Schedule:
        return await self._schedules.update(request)

    @errors_as_status
    async def GetSchedule(
        self, request: schedules_pb2.GetScheduleRequest, context: Context
    ) -> schedules_pb2.Schedule:
        return await self._schedules.get(request)

    @errors_as_status
    async def ListSchedules(
        self, request: schedules_pb2.ListSchedulesRequest, context: Context
    ) -> schedules_pb2.ListSchedulesResponse:
        return await self._schedules.list(request)

    @errors_as_status
    async def DeleteSchedule(
        self, request: schedules_pb2.DeleteScheduleRequest, context: Context
    ) -> schedules_pb2.DeleteScheduleResponse:
        return await self._schedules.delete(request)


class TriggersService(triggers_pb2_grpc.TriggersServicer):
    def __init__(self, triggers: Triggers) -> None:
        self._triggers = triggers

    @errors_as_status
    async def CreateTrigger(
        self, request: triggers_pb2.CreateTriggerRequest, context: Context
    ) -> triggers_pb2.Trigger:
        return await self._triggers.create_trigger(request)

    @errors_as_status
    async def UpdateTrigger(
        self, request: triggers_pb2.UpdateTriggerRequest, context: Context
    ) -> triggers_pb2.Trigger:
        return await self._triggers.update_trigger(request)

    @errors_as_status
    async def GetTrigger(
        self, request: triggers_pb2.GetTriggerRequest, context: Context
    ) -> triggers_pb2.Trigger:
        return await self._triggers.get_trigger(request)

    @errors_as_status
    async def ListTriggers(
        self, request: triggers_pb2.ListTriggersRequest, context: Context
    ) -> triggers_pb2.ListTriggersResponse:
        return await self._triggers.list_triggers(request)

    @errors_as_status
    async def DeleteTrigger(
        self, request: triggers_pb2.DeleteTriggerRequest, context: Context
    ) -> triggers_pb2.Trigger:
        return await self._triggers.delete_trigger(request)
