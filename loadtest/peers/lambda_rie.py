"""AWS's Runtime Interface Emulator, which lies in the package of its command line for SAM."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path as File
from typing import Final

from loadtest.peers.peer import HTTP_CALLER, HTTP_WITH, Path, Peer
from loadtest.peers.serving import free_port, run, started, until_listening

SOURCE: Final = "def handler(event, context):\n    return event\n"

PEER: Final = Peer(
    name="lambda-rie",
    title="Lambda's emulator (RIE)",
    paths=(
        Path(
            kind="HTTP",
            name="HTTP",
            caller=(*HTTP_CALLER, "/2015-03-31/functions/function/invocations"),
            in_flight=(1,),
            called_with=HTTP_WITH,
        ),
    ),
    pip=("aws-sam-cli==1.170.0", "awslambdaric==4.2.2"),
    no_dependencies=True,
    environment="rie",
    runs="`aws-lambda-rie python -m awslambdaric echo.handler`, one process whatever N is",
    gives="nothing; it is AWS's own code for one function on one developer's machine",
    lacks="a second call at a time, a fleet, isolation, more than one function",
)


@contextmanager
def serve(processes: int) -> Iterator[dict[str, str]]:
    import samcli

    work, port, control = os.environ["PEER_WORK"], free_port(), free_port()
    File(work, "echo.py").write_text(SOURCE)
    emulator = (
        File(samcli.__file__).parent / "local" / "rapid" / f"aws-lambda-rie-{MACHINES[os.uname().machine]}"
    )
    listening = ("--runtime-interface-emulator-address", f"127.0.0.1:{port}")
    runtime = ("--runtime-api-address", f"127.0.0.1:{control}", "--log-level", "error")
    function = (sys.executable, "-m", "awslambdaric", "echo.handler")
    with started([emulator, *listening, *runtime, *function], LAMBDA_TASK_ROOT=work) as process:
        yield {"HTTP": until_listening(port, process)}


MACHINES: Final = {"x86_64": "x86_64", "aarch64": "arm64"}

if __name__ == "__main__":
    run(serve)
