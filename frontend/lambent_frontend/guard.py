"""Stands before the gRPC services: who may call which method, and a line in the log for each change.

A servicer is guarded as a whole: a method without a row in `_NEEDS` cannot be called, and a test holds the
table to the services. Invocations are not logged, and where nobody is asked who they are their methods are
left as they are: the warm path pays nothing.
"""

import functools
from collections.abc import Callable, Coroutine, Iterable
from contextvars import ContextVar
from types import SimpleNamespace
from typing import Any, Final, NamedTuple

import grpc.aio
import structlog
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor

from lambent_frontend.access import AccessKeys, permit
from lambent_frontend.call_log import CALLER
from lambent_frontend.needs import Need, creating, sending_to, updating
from lambent_proto.access import INVOKE, LAYER, READ_LOGS, SCHEDULE
from lambent_proto.errors import LambentError
from lambent_proto.status import abort

Context = grpc.aio.ServicerContext[Any, Any]
Method = Callable[[Any, Context], Coroutine[Any, Any, Any]]

_log = structlog.get_logger()


class _Caller(NamedTuple):
    keys: AccessKeys
    key_id: str


_CALLER: Final[ContextVar[_Caller | None]] = ContextVar("caller", default=None)
"""Whom this task serves; None where nobody is asked."""


def permit_invocation(function_name: str) -> None:
    """Whether the caller that this task serves may invoke it, as things are now: a stream may be old.

    Raises AccessDenied, and UnknownKey if the key is no longer there.
    """
    _permit_still(INVOKE, function_name)


def permit_reading(function_name: str) -> None:
    """Whether the caller may read on in its log, as things are now. Raises as permit_invocation."""
    _permit_still(READ_LOGS, function_name)


def _permit_still(action: str, function_name: str) -> None:
    if (caller := _CALLER.get()) is not None:
        permit(caller.keys.get(caller.key_id), action, _function(function_name))


def _function(name: str) -> str:
    """Without the qualifier."""
    return name.partition(":")[0]


def _of_function(action: str) -> Callable[[Any], Iterable[Need]]:
    return lambda request: [(action, _function(request.function_name))]


def _of_named(action: str) -> Callable[[Any], Iterable[Need]]:
    return lambda request: [(action, _function(request.name))]


def _of_layer(action: str) -> Callable[[Any], Iterable[Need]]:
    return lambda request: [(action, LAYER + request.name)]


def _of_schedule(action: str) -> Callable[[Any], Iterable[Need]]:
    """Who makes or changes one also needs to be allowed to invoke its function: permit_invocation."""
    return lambda request: [(action, SCHEDULE + request.name)]


def _of_none(action: str) -> Callable[[Any], Iterable[Need]]:
    return lambda request: [(action, "")]


def _configuring(action: str) -> Callable[[Any], Iterable[Need]]:
    return lambda request: [
        (action, _function(request.function_name)),
        *sending_to(request.settings.on_success, request.settings.on_failure),
    ]


def _creating_trigger(request: Any) -> Iterable[Need]:
    yield "CreateEventSourceMapping", _function(request.function_name)
    yield from _telling(request)


def _updating_trigger(request: Any) -> Iterable[Need]:
    yield "UpdateEventSourceMapping", ""
    yield from _telling(request)


def _telling(request: Any) -> Iterable[Need]:
    """A trigger's destination that is a function is called too."""
    return sending_to(request.settings.on_failure)


_NEEDS: Final[dict[str, Callable[[Any], Iterable[Need]]]] = {
    "Invoke": lambda _: (),  # permit_invocation, for each invocation of a stream as well
    "InvokeStream": lambda _: (),
    "InvokeWithResponseStream": lambda _: (),
    "CreateFunction": creating,
    "UpdateFunction": updating,
    "GetFunction": _of_named("GetFunction"),
    "GetCode": _of_named("GetFunction"),
    "ListFunctions": _of_none("ListFunctions"),
    "DeleteFunction": _of_named("DeleteFunction"),
    "PublishVersion": _of_function("PublishVersion"),
    "ListVersions": _of_function("ListVersionsByFunction"),
    "DeleteVersion": _of_function("DeleteFunction"),
    "CreateAlias": _of_function("CreateAlias"),
    "UpdateAlias": _of_function("UpdateAlias"),
    "GetAlias": _of_function("GetAlias"),
    "ListAliases": _of_function("ListAliases"),
    "DeleteAlias": _of_function("DeleteAlias"),
    "PutProvisioned": _of_function("PutProvisionedConcurrencyConfig"),
    "GetProvisioned": _of_function("GetProvisionedConcurrencyConfig"),
    "ListProvisioned": _of_function("ListProvisionedConcurrencyConfigs"),
    "DeleteProvisioned": _of_function("DeleteProvisionedConcurrencyConfig"),
    "AddPermission": _of_function("AddPermission"),
    "GetPolicy": _of_function("GetPolicy"),
    "RemovePermission": _of_function("RemovePermission"),
    "CreateFunctionUrl": _of_function("CreateFunctionUrlConfig"),
    "GetFunctionUrl": _of_function("GetFunctionUrlConfig"),
    "UpdateFunctionUrl": _of_function("UpdateFunctionUrlConfig"),
    "ListFunctionUrls": _of_function("ListFunctionUrlConfigs"),
    "DeleteFunctionUrl": _of_function("DeleteFunctionUrlConfig"),
    "PublishLayerVersion": _of_layer("PublishLayerVersion"),
    "GetLayerVersion": _of_layer("GetLayerVersion"),
    "GetLayerCode": _of_layer("GetLayerVersion"),
    "ListLayers": _of_none("ListLayers"),
    "ListLayerVersions": _of_layer("ListLayerVersions"),
    "DeleteLayerVersion": _of_layer("DeleteLayerVersion"),
    "GetAsyncInvocation": _of_function("GetAsyncInvocation"),
    "ListAsyncInvocations": _of_function("ListAsyncInvocations"),
    "CancelAsyncInvocation": _of_function("CancelAsyncInvocation"),
    "RedriveAsyncInvocation": _of_function("RedriveAsyncInvocation"),
    "GetQueue": _of_none("GetQueue"),
    "PutEventInvokeConfig": _configuring("PutFunctionEventInvokeConfig"),
    "UpdateEventInvokeConfig": _configuring("UpdateFunctionEventInvokeConfig"),
    "GetEventInvokeConfig": _of_function("GetFunctionEventInvokeConfig"),
    "DeleteEventInvokeConfig": _of_function("DeleteFunctionEventInvokeConfig"),
    "ListEventInvokeConfigs": _of_function("ListFunctionEventInvokeConfigs"),
    "CreateSchedule": _of_schedule("CreateSchedule"),
    "UpdateSchedule": _of_schedule("UpdateSchedule"),
    "GetSchedule": _of_schedule("GetSchedule"),
    "ListSchedules": _of_none("ListSchedules"),
    "DeleteSchedule": _of_schedule("DeleteSchedule"),
    "CreateTrigger": _creating_trigger,
    "UpdateTrigger": _updating_trigger,
    "GetTrigger": _of_none("GetEventSourceMapping"),
    "ListTriggers": _of_none("ListEventSourceMappings"),
    "DeleteTrigger": _of_none("DeleteEventSourceMapping"),
    "GetConcurrency": _of_none("GetAccountSettings"),
    "SetConcurrency": _of_none("SetConcurrency"),
    "ListInstances": _of_function("ListInstances"),
    "ListNodes": _of_none("ListNodes"),
    "DrainNode": _of_none("DrainNode"),
    "Explain": _of_none("Explain"),
    "CountReasons": _of_none("CountReasons"),
    "GetShadow": _of_none("GetShadow"),
    "GetActivity": _of_none("GetActivity"),
    "ReadLogs": _of_function(READ_LOGS),
}
"""By the method's name, which is one service's alone."""

MAX_LOGGED: Final = 160
"""Characters of a resource in the log, more than any has: who has no key may send a name of megabytes."""

_INVOKES: Final = frozenset({"Invoke", "InvokeStream", "InvokeWithResponseStream"})
_READS: Final = ("Get", "List", "Explain", "Count", "Read")


class Guard:
    """`keys` is None where nobody is asked who they are."""

    def __init__(self, keys: AccessKeys | None) -> None:
        self._keys = keys

    @property
    def asks(self) -> bool:
        return self._keys is not None

    def caller(self, context: Context) -> str:
        """The id of the access key that a call carries, whatever it may do; empty where nobody is asked.

        Raises NoCredentials, UnknownKey.
        """
        return "" if self._keys is None else self._keys.bearer(_authorization(context)).id

    def over(self, servicer: Any, service: ServiceDescriptor) -> Any:
        """What is registered in the servicer's place."""
        return SimpleNamespace(
            **{method.name: self._over(getattr(servicer, method.name), method) for method in service.methods}
        )

    def _over(self, method: Method, described: MethodDescriptor) -> Method:
        needs = _NEEDS[described.name]
        guarded = method if self._keys is None else _asking(self._keys, method, needs)
        if described.name in _INVOKES or described.name.startswith(_READS):
            return guarded
        return _noting(guarded, needs)


def _asking(keys: AccessKeys, method: Method, needs: Callable[[Any], Iterable[Need]]) -> Method:
    @functools.wraps(method)
    async def asking(request: Any, context: Context) -> Any:
        try:
            key = keys.bearer(_authorization(context))
            _CALLER.set(_Caller(keys, key.id))
            CALLER.set(key.id)
            for action, resource in needs(request):
                permit(key, action, resource)
        except LambentError as error:
            await abort(context, error)
        return await method(request, context)

    return asking


def _noting(method: Method, needs: Callable[[Any], Iterable[Need]]) -> Method:
    """A line for each management call that changes something, or was to, whatever came of it."""

    @functools.wraps(method)
    async def noting(request: Any, context: Context) -> Any:
        outcome = "failed"
        try:
            answer = await method(request, context)
            outcome = "done"
            return answer
        finally:
            caller = _CALLER.get()
            for action, resource in needs(request):
                if action == INVOKE or action.startswith(_READS):  # what is attached is not changed
                    continue
                _log.info(
                    "audit",
                    action=action,
                    resource=resource[:MAX_LOGGED],
                    access_key=caller.key_id if caller else None,
                    peer=context.peer(),
                    outcome=outcome,
                )

    return noting


def _authorization(context: Context) -> str:
    for name, value in context.invocation_metadata() or ():
        if name == "authorization":
            return value if isinstance(value, str) else value.decode(errors="replace")
    return ""
