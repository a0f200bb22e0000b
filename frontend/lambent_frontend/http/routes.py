"""Which operation of Lambda's API a request asks for. All of them are known, also those that are not
there."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple
from urllib.parse import parse_qsl, unquote

# fmt: off
OPERATIONS: Final = {
    "AddLayerVersionPermission": ("POST", "/2018-10-31/layers/{LayerName}/versions/{VersionNumber}/policy"),
    "AddPermission": ("POST", "/2015-03-31/functions/{FunctionName}/policy"),
    "CheckpointDurableExecution": ("POST", "/2025-12-01/durable-executions/{DurableExecutionArn}/checkpoint"),
    "CreateAlias": ("POST", "/2015-03-31/functions/{FunctionName}/aliases"),
    "CreateCapacityProvider": ("POST", "/2025-11-30/capacity-providers"),
    "CreateCodeSigningConfig": ("POST", "/2020-04-22/code-signing-configs"),
    "CreateEventSourceMapping": ("POST", "/2015-03-31/event-source-mappings"),
    "CreateFunction": ("POST", "/2015-03-31/functions"),
    "CreateFunctionUrlConfig": ("POST", "/2021-10-31/functions/{FunctionName}/url"),
    "DeleteAlias": ("DELETE", "/2015-03-31/functions/{FunctionName}/aliases/{Name}"),
    "DeleteCapacityProvider": ("DELETE", "/2025-11-30/capacity-providers/{CapacityProviderName}"),
    "DeleteCodeSigningConfig": ("DELETE", "/2020-04-22/code-signing-configs/{CodeSigningConfigArn}"),
    "DeleteDurableExecution": ("DELETE", "/2025-12-01/durable-executions/{DurableExecutionArn}"),
    "DeleteEventSourceMapping": ("DELETE", "/2015-03-31/event-source-mappings/{UUID}"),
    "DeleteFunction": ("DELETE", "/2015-03-31/functions/{FunctionName}"),
    "DeleteFunctionCodeSigningConfig": ("DELETE", "/2020-06-30/functions/{FunctionName}/code-signing-config"),
    "DeleteFunctionConcurrency": ("DELETE", "/2017-10-31/functions/{FunctionName}/concurrency"),
    "DeleteFunctionEventInvokeConfig": ("DELETE", "/2019-09-25/functions/{FunctionName}/event-invoke-config"),
    "DeleteFunctionUrlConfig": ("DELETE", "/2021-10-31/functions/{FunctionName}/url"),
    "DeleteLayerVersion": ("DELETE", "/2018-10-31/layers/{LayerName}/versions/{VersionNumber}"),
    "DeleteProvisionedConcurrencyConfig": (
        "DELETE",
        "/2019-09-30/functions/{FunctionName}/provisioned-concurrency",
    ),
    "DeleteResourcePolicy": ("DELETE", "/2026-07-09/resource-policy/{ResourceArn}"),
    "GetAccountSettings": ("GET", "/2016-08-19/account-settings"),
    "GetAlias": ("GET", "/2015-03-31/functions/{FunctionName}/aliases/{Name}"),
    "GetCapacityProvider": ("GET", "/2025-11-30/capacity-providers/{CapacityProviderName}"),
    "GetCodeSigningConfig": ("GET", "/2020-04-22/code-signing-configs/{CodeSigningConfigArn}"),
    "GetDurableExecution": ("GET", "/2025-12-01/durable-executions/{DurableExecutionArn}"),
    "GetDurableExecutionHistory": ("GET", "/2025-12-01/durable-executions/{DurableExecutionArn}/history"),
    "GetDurableExecutionState": ("GET", "/2025-12-01/durable-executions/{DurableExecutionArn}/state"),
    "GetEventSourceMapping": ("GET", "/2015-03-31/event-source-mappings/{UUID}"),
    "GetFunction": ("GET", "/2015-03-31/functions/{FunctionName}"),
    "GetFunctionCodeSigningConfig": ("GET", "/2020-06-30/functions/{FunctionName}/code-signing-config"),
    "GetFunctionConcurrency": ("GET", "/2019-09-30/functions/{FunctionName}/concurrency"),
    "GetFunctionConfiguration": ("GET", "/2015-03-31/functions/{FunctionName}/configuration"),
    "GetFunctionEventInvokeConfig": ("GET", "/2019-09-25/functions/{FunctionName}/event-invoke-config"),
    "GetFunctionRecursionConfig": ("GET", "/2024-08-31/functions/{FunctionName}/recursion-config"),
    "GetFunctionScalingConfig": ("GET", "/2025-11-30/functions/{FunctionName}/function-scaling-config"),
    "GetFunctionUrlConfig": ("GET", "/2021-10-31/functions/{FunctionName}/url"),
    "GetLayerVersion": ("GET", "/2018-10-31/layers/{LayerName}/versions/{VersionNumber}"),
    "GetLayerVersionByArn": ("GET", "/2018-10-31/layers?find=LayerVersion"),
    "GetLayerVersionPolicy": ("GET", "/2018-10-31/layers/{LayerName}/versions/{VersionNumber}/policy"),
    "GetPolicy": ("GET", "/2015-03-31/functions/{FunctionName}/policy"),
    "GetProvisionedConcurrencyConfig": (
        "GET",
        "/2019-09-30/functions/{FunctionName}/provisioned-concurrency",
    ),
    "GetResourcePolicy": ("GET", "/2026-07-09/resource-policy/{ResourceArn}"),
    "GetRuntimeManagementConfig": ("GET", "/2021-07-20/functions/{FunctionName}/runtime-management-config"),
    "Invoke": ("POST", "/2015-03-31/functions/{FunctionName}/invocations"),
    "InvokeAsync": ("POST", "/2014-11-13/functions/{FunctionName}/invoke-async"),
    "InvokeWithResponseStream": (
        "POST",
        "/2021-11-15/functions/{FunctionName}/response-streaming-invocations",
    ),
    "ListAliases": ("GET", "/2015-03-31/functions/{FunctionName}/aliases"),
    "ListCapacityProviders": ("GET", "/2025-11-30/capacity-providers"),
    "ListCodeSigningConfigs": ("GET", "/2020-04-22/code-signing-configs"),
    "ListDurableExecutionsByFunction": ("GET", "/2025-12-01/functions/{FunctionName}/durable-executions"),
    "ListEventSourceMappings": ("GET", "/2015-03-31/event-source-mappings"),
    "ListFunctionEventInvokeConfigs": (
        "GET",
        "/2019-09-25/functions/{FunctionName}/event-invoke-config/list",
    ),
    "ListFunctionUrlConfigs": ("GET", "/2021-10-31/functions/{FunctionName}/urls"),
    "ListFunctionVersionsByCapacityProvider": (
        "GET",
        "/2025-11-30/capacity-providers/{CapacityProviderName}/function-versions",
    ),
    "ListFunctions": ("GET", "/2015-03-31/functions"),
    "ListFunctionsByCodeSigningConfig": (
        "GET",
        "/2020-04-22/code-signing-configs/{CodeSigningConfigArn}/functions",
    ),
    "ListLayerVersions": ("GET", "/2018-10-31/layers/{LayerName}/versions"),
    "ListLayers": ("GET", "/2018-10-31/layers"),
    "ListProvisionedConcurrencyConfigs": (
        "GET",
        "/2019-09-30/functions/{FunctionName}/provisioned-concurrency?List=ALL",
    ),
    "ListTags": ("GET", "/2017-03-31/tags/{Resource}"),
    "ListVersionsByFunction": ("GET", "/2015-03-31/functions/{FunctionName}/versions"),
    "PauseDurableExecution": ("POST", "/2025-12-01/durable-executions/{DurableExecutionArn}/pause"),
    "PublishLayerVersion": ("POST", "/2018-10-31/layers/{LayerName}/versions"),
    "PublishVersion": ("POST", "/2015-03-31/functions/{FunctionName}/versions"),
    "PutFunctionCodeSigningConfig": ("PUT", "/2020-06-30/functions/{FunctionName}/code-signing-config"),
    "PutFunctionConcurrency": ("PUT", "/2017-10-31/functions/{FunctionName}/concurrency"),
    "PutFunctionEventInvokeConfig": ("PUT", "/2019-09-25/functions/{FunctionName}/event-invoke-config"),
    "PutFunctionRecursionConfig": ("PUT", "/2024-08-31/functions/{FunctionName}/recursion-config"),
    "PutFunctionScalingConfig": ("PUT", "/2025-11-30/functions/{FunctionName}/function-scaling-config"),
    "PutProvisionedConcurrencyConfig": (
        "PUT",
        "/2019-09-30/functions/{FunctionName}/provisioned-concurrency",
    ),
    "PutResourcePolicy": ("PUT", "/2026-07-09/resource-policy/{ResourceArn}"),
    "PutRuntimeManagementConfig": ("PUT", "/2021-07-20/functions/{FunctionName}/runtime-management-config"),
    "RemoveLayerVersionPermission": (
        "DELETE",
        "/2018-10-31/layers/{LayerName}/versions/{VersionNumber}/policy/{StatementId}",
    ),
    "RemovePermission": ("DELETE", "/2015-03-31/functions/{FunctionName}/policy/{StatementId}"),
    "ResumeDurableExecution": ("POST", "/2025-12-01/durable-executions/{DurableExecutionArn}/resume"),
    "SendDurableExecutionCallbackFailure": (
        "POST",
        "/2025-12-01/durable-execution-callbacks/{CallbackId}/fail",
    ),
    "SendDurableExecutionCallbackHeartbeat": (
        "POST",
        "/2025-12-01/durable-execution-callbacks/{CallbackId}/heartbeat",
    ),
    "SendDurableExecutionCallbackSuccess": (
        "POST",
        "/2025-12-01/durable-execution-callbacks/{CallbackId}/succeed",
    ),
    "StopDurableExecution": ("POST", "/2025-12-01/durable-executions/{DurableExecutionArn}/stop"),
    "TagResource": ("POST", "/2017-03-31/tags/{Resource}"),
    "UntagResource": ("DELETE", "/2017-03-31/tags/{Resource}"),
    "UpdateAlias": ("PUT", "/2015-03-31/functions/{FunctionName}/aliases/{Name}"),
    "UpdateCapacityProvider": ("PUT", "/2025-11-30/capacity-providers/{CapacityProviderName}"),
    "UpdateCodeSigningConfig": ("PUT", "/2020-04-22/code-signing-configs/{CodeSigningConfigArn}"),
    "UpdateEventSourceMapping": ("PUT", "/2015-03-31/event-source-mappings/{UUID}"),
    "UpdateFunctionCode": ("PUT", "/2015-03-31/functions/{FunctionName}/code"),
    "UpdateFunctionConfiguration": ("PUT", "/2015-03-31/functions/{FunctionName}/configuration"),
    "UpdateFunctionEventInvokeConfig": ("POST", "/2019-09-25/functions/{FunctionName}/event-invoke-config"),
    "UpdateFunctionUrlConfig": ("PUT", "/2021-10-31/functions/{FunctionName}/url"),
}
# fmt: on
"""Method and path of each, as AWS's own model has them; the paths of some differ by what their query says."""

_ASYNC: Final = "/lambent/functions/{FunctionName}/async-invocations"

OURS: Final = {
    "ListAsyncInvocations": ("GET", _ASYNC),
    "GetAsyncInvocation": ("GET", _ASYNC + "/{RequestId}"),
    "CancelAsyncInvocation": ("DELETE", _ASYNC + "/{RequestId}"),
    "RedriveAsyncInvocation": ("POST", _ASYNC + "/{RequestId}/redrive"),
}
"""The same of what Lambda does not have."""

MOST_QUERY_FIELDS: Final = 50
_ANY: Final = "{}"


class Found(NamedTuple):
    operation: str
    path: Mapping[str, str]
    """What stands in the path for the names in braces, percent-decoded."""
    query: Mapping[str, str]


class UnknownPath(Exception):
    """Nothing is there."""


class WrongMethod(Exception):
    """Something is there, for other methods: `allowed`."""

    def __init__(self, allowed: list[str]) -> None:
        super().__init__(", ".join(allowed))
        self.allowed = allowed


@dataclass(slots=True)
class _Place:
    """A segment of a path: what may follow it, and what is asked for by ending here."""

    below: dict[str, "_Place"] = field(default_factory=dict)
    asked: dict[str, list[tuple[str, list[str], Mapping[str, str]]]] = field(default_factory=dict)
    """By method: operation, names in its path, and what its query has to say; the most particular first."""


def find(method: str, path: str, query: str) -> Found:
    """Raises UnknownPath or WrongMethod. A slash at the end says nothing, as old clients send one."""
    segments = path.removeprefix("/").removesuffix("/").split("/")
    place, given = _ROOT, []
    for segment in segments:
        below = place.below.get(segment)
        if below is None:
            below = place.below.get(_ANY)
            if below is None or not segment:
                raise UnknownPath(path)
            given.append(unquote(segment))
        place = below
    if not place.asked:
        raise UnknownPath(path)
    if method not in place.asked:
        raise WrongMethod(sorted(place.asked))
    said = _fields(query) if query else {}
    for operation, names, needed in place.asked[method]:
        if all(said.get(name) == value for name, value in needed.items()):
            return Found(operation, dict(zip(names, given, strict=True)), said)
    raise UnknownPath(path)


def _fields(query: str) -> dict[str, str]:
    try:
        return dict(parse_qsl(query, keep_blank_values=True, max_num_fields=MOST_QUERY_FIELDS))
    except ValueError:
        raise UnknownPath(query) from None


def _tree() -> _Place:
    root = _Place()
    for operation, (method, uri) in (OPERATIONS | OURS).items():
        path, _, query = uri.partition("?")
        place, names = root, []
        for segment in path.removeprefix("/").split("/"):
            if segment.startswith("{"):
                names.append(segment.strip("{}"))
                segment = _ANY
            place = place.below.setdefault(segment, _Place())
        here = place.asked.setdefault(method, [])
        here.append((operation, names, dict(parse_qsl(query))))
        here.sort(key=lambda it: -len(it[2]))
    return root


_ROOT: Final = _tree()
