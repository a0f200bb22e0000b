"""The plugin serverless-offline of the Serverless Framework, with a handler in JavaScript."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path as File
from typing import Final

from loadtest.peers.peer import HTTP_CALLER, HTTP_WITH, Path, Peer
from loadtest.peers.serving import free_port, node_modules, run, started, until_listening

CONFIGURATION: Final = """\
service: peers
provider: {name: aws, runtime: nodejs20.x, region: us-east-1}
plugins: [serverless-offline]
custom:
  serverless-offline: {host: 127.0.0.1, noPrependStageInUrl: true}
functions:
  echo:
    handler: echo.handler
    timeout: 60
    events: [{httpApi: 'POST /echo'}]
"""
SOURCE: Final = "exports.handler = async (event) => JSON.parse(event.body);\n"

PEER: Final = Peer(
    name="serverless-offline",
    title="serverless-offline",
    paths=(Path(kind="HTTP", name="HTTP", caller=(*HTTP_CALLER, "/echo"), called_with=HTTP_WITH),),
    npm=("serverless@3.40.0", "serverless-offline@13.9.0"),
    programs=("node",),
    runs="`serverless offline`, one process with a thread for each call in flight, whatever N is",
    gives="API Gateway with its authorizers and WebSockets from one file, a reload when the code changes",
    lacks="isolation, limits of memory, a fleet; it is for development. Version 14 needs version 4 of the "
    "framework, which wants an account",
)


@contextmanager
def serve(processes: int) -> Iterator[dict[str, str]]:
    work, port = File(os.environ["PEER_WORK"]), free_port()
    (work / "serverless.yml").write_text(CONFIGURATION)
    (work / "echo.js").write_text(SOURCE)
    (work / "node_modules").symlink_to(node_modules())
    ports = ("--httpPort", str(port), "--lambdaPort", str(free_port()), "--websocketPort", str(free_port()))
    command = ["node", node_modules(".bin", "serverless"), "offline", *ports]
    quiet = {"SLS_TELEMETRY_DISABLED": "1", "SLS_NOTIFICATIONS_MODE": "off"}
    with started(command, **quiet) as process:
        yield {"HTTP": until_listening(port, process)}


if __name__ == "__main__":
    run(serve)
