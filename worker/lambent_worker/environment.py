"""The command and the environment that an instance of a function is started with. Names are Lambda's."""

import sys
from datetime import UTC, datetime
from typing import Final

from lambent_proto.definition import Definition
from lambent_proto.ids import InstanceId
from lambent_worker.sandbox.api import CHANNEL_FD, View

REGION: Final = "us-east-1"
"""What AWS's SDKs are told where a function does not say otherwise; without a region they refuse to start."""

RUNTIME_PACKAGE: Final = "lambent_bootstrap"
"""Name of the folder in LAMBDA_RUNTIME_DIR that holds a copy of `lambent_worker.bootstrap`."""


def command(view: View) -> tuple[str, ...]:
    """Python without anything of this host's: no site-packages, no settings, no files written beside code."""
    start = f"{view.runtime_dir}/{RUNTIME_PACKAGE}/__main__.py"
    return (sys.executable, "-I", "-S", "-B", "-X", "utf8", start, str(CHANNEL_FD))


def environment(definition: Definition, view: View, instance: InstanceId, at: float) -> dict[str, str]:
    """`at` is the start in Unix seconds; it is part of the log stream's name."""
    day = datetime.fromtimestamp(at, UTC).strftime("%Y/%m/%d")
    defaults = {
        "LANG": "en_US.UTF-8",
        "TZ": ":UTC",
        "PATH": "/usr/local/bin:/usr/bin:/bin:/opt/bin",
        "LD_LIBRARY_PATH": f"{view.task_root}:{view.task_root}/lib:/opt/lib",
        "HOME": view.tmp,
        "TMPDIR": view.tmp,
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
    }
    reserved = {
        "_HANDLER": definition.handler,
        "LAMBDA_TASK_ROOT": view.task_root,
        "LAMBDA_RUNTIME_DIR": view.runtime_dir,
        "AWS_EXECUTION_ENV": f"AWS_Lambda_{definition.runtime}",
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_LAMBDA_FUNCTION_NAME": definition.name,
        "AWS_LAMBDA_FUNCTION_VERSION": definition.version,
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(definition.memory_mb),
        "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{definition.name}",
        "AWS_LAMBDA_LOG_STREAM_NAME": f"{day}/[{definition.version}]{instance}",
    }
    return defaults | definition.environment | reserved
