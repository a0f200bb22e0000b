"""All operations that are there, over what does their work."""

from collections.abc import Mapping

from lambent_frontend.async_invocations import AsyncInvocations
from lambent_frontend.calling import Calling
from lambent_frontend.event_invokes import EventInvokes
from lambent_frontend.function_urls import FunctionUrls
from lambent_frontend.functions import Functions
from lambent_frontend.http.absent import AbsentOperations
from lambent_frontend.http.account import GetAccountSettings
from lambent_frontend.http.api import Operation
from lambent_frontend.http.async_invocations import AsyncInvocationOperations
from lambent_frontend.http.downloads import Location
from lambent_frontend.http.event_invokes import EventInvokeOperations
from lambent_frontend.http.functions import FunctionOperations
from lambent_frontend.http.invoke import Invoke, InvokeAsync
from lambent_frontend.http.invoke_stream import InvokeWithResponseStream
from lambent_frontend.http.layers import LayerOperations
from lambent_frontend.http.policies import PolicyOperations
from lambent_frontend.http.urls import UrlOperations
from lambent_frontend.http.versions import VersionOperations
from lambent_frontend.layers import Layers
from lambent_frontend.limits import Limits
from lambent_frontend.policies import Policies
from lambent_frontend.versions import Versions


def operations(
    calling: Calling,
    functions: Functions,
    versions: Versions,
    layers: Layers,
    limits: Limits,
    policies: Policies,
    urls: FunctionUrls,
    invocations: AsyncInvocations,
    configs: EventInvokes,
    location: Location,
) -> Mapping[str, Operation]:
    """By their names in AWS's model."""
    return {
        "Invoke": Invoke(calling),
        "InvokeAsync": InvokeAsync(calling),
        "InvokeWithResponseStream": InvokeWithResponseStream(calling.invoker),
        "GetAccountSettings": GetAccountSettings(limits),
        **FunctionOperations(functions, versions, location).operations(),
        **VersionOperations(versions).operations(),
        **LayerOperations(layers, location).operations(),
        **PolicyOperations(policies).operations(),
        **UrlOperations(urls).operations(),
        **AsyncInvocationOperations(invocations).operations(),
        **EventInvokeOperations(configs).operations(),
        **AbsentOperations(functions).operations(),
    }
