"""All operations that are there, over what does their work."""

from collections.abc import Mapping

from lambent_frontend.catalogue import Catalogue
from lambent_frontend.functions import Functions
from lambent_frontend.http.absent import AbsentOperations
from lambent_frontend.http.account import GetAccountSettings
from lambent_frontend.http.api import Operation
from lambent_frontend.http.functions import FunctionOperations
from lambent_frontend.http.invoke import Invoke
from lambent_frontend.http.layers import LayerOperations
from lambent_frontend.http.triggers import TriggerOperations
from lambent_frontend.http.versions import VersionOperations
from lambent_frontend.invoker import Invoker
from lambent_frontend.layers import Layers
from lambent_frontend.limits import Limits
from lambent_frontend.triggers.triggers import Triggers
from lambent_frontend.versions import Versions


def operations(
    invoker: Invoker,
    catalogue: Catalogue,
    functions: Functions,
    versions: Versions,
    layers: Layers,
    limits: Limits,
    triggers: Triggers,
) -> Mapping[str, Operation]:
    """By their names in AWS's model."""
    return {
        "Invoke": Invoke(invoker),
        "GetAccountSettings": GetAccountSettings(catalogue, limits),
        **FunctionOperations(functions, versions).operations(),
        **VersionOperations(versions).operations(),
        **LayerOperations(layers).operations(),
        **TriggerOperations(triggers).operations(),
        **AbsentOperations(functions).operations(),
    }
