"""The environment that a function's processes are started with. Names are Lambda's."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from lambent_proto.definition import Definition
from lambent_proto.ids import REGION, InstanceId
from lambent_worker.runtimes.api import Runtime, Start
from lambent_worker.sandbox.api import View

WITHOUT_EXECUTION_ENV: Final = "provided"
"""Family whose functions do not learn what they run in, as on Lambda."""


def start_of(definition: Definition, view: View) -> Start:
    return Start(
        runtime_dir=view.runtime_dir,
        task_root=view.task_root,
        opt=view.opt,
        handler=definition.handler,
        memory_mb=definition.memory_mb,
    )


def environment(
    definition: Definition,
    runtime: Runtime,
    view: View,
    api_address: str,
    instance: InstanceId,
    at: float,
    *,
    initialization: str = "on-demand",
) -> dict[str, str]:
    """`at` is the start in Unix seconds; it is part of the log stream's name. `initialization` is
    Lambda's word for how it comes about: `snap-start` of a snapshot and what is forked of one.

    Of three layers the later wins: what every instance gets and what its runtime adds, the function's own
    variables, and the reserved ones. `api_address` is empty where the Runtime API is not served.
    """
    day = datetime.fromtimestamp(at, UTC).strftime("%Y/%m/%d")
    start = start_of(definition, view)
    defaults = start.environment | {
        "HOME": view.tmp,
        "TMPDIR": view.tmp,
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
    }
    reserved = {
        "_HANDLER": definition.handler,
        "LAMBDA_TASK_ROOT": view.task_root,
        "LAMBDA_RUNTIME_DIR": view.runtime_dir,
        "AWS_EXECUTION_ENV": f"AWS_Lambda_{runtime.name}",
        "AWS_LAMBDA_INITIALIZATION_TYPE": initialization,
        "AWS_LAMBDA_FUNCTION_NAME": definition.name,
        "AWS_LAMBDA_FUNCTION_VERSION": definition.version,
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(definition.memory_mb),
        "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{definition.name}",
        "AWS_LAMBDA_LOG_STREAM_NAME": f"{day}/[{definition.version}]{instance}",
    }
    if runtime.family == WITHOUT_EXECUTION_ENV:
        del reserved["AWS_EXECUTION_ENV"]
    if api_address:
        reserved["AWS_LAMBDA_RUNTIME_API"] = api_address
    of_runtime: Mapping[str, str] = runtime.environment(start)
    return defaults | dict(of_runtime) | definition.environment | reserved
