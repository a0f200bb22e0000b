"""The function of most measurements: it answers with its event."""

import sys
import zipfile
from io import BytesIO
from typing import Final

import grpc

from lambent_chassis import grpc_options
from lambent_proto.v1 import functions_pb2, functions_pb2_grpc

NAME: Final = "echo"
SOURCE: Final = "def handler(event, context):\n    return event\n"


def package() -> bytes:
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("echo.py", SOURCE)
    return packed.getvalue()


def configuration(instances: int = 0) -> functions_pb2.Configuration:
    """With a limit of so many instances, if any."""
    it = functions_pb2.Configuration(
        runtime=f"python{sys.version_info.major}.{sys.version_info.minor}",
        handler="echo.handler",
        timeout_s=30,
    )
    if instances:
        it.concurrency.limit = instances
    return it


def deploy(endpoint: str, instances: int = 0, name: str = NAME) -> None:
    request = functions_pb2.CreateFunctionRequest(
        name=name, zip_file=package(), configuration=configuration(instances)
    )
    with grpc.insecure_channel(endpoint, options=grpc_options.CHANNEL) as channel:
        functions_pb2_grpc.FunctionsStub(channel).CreateFunction(request)
