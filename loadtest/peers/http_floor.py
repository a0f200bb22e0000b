"""A bare application of Starlette on uvicorn that answers with what it was sent."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from loadtest.peers.peer import HTTP_CALLER, HTTP_WITH, Path, Peer
from loadtest.peers.serving import free_port, run, started, until_listening

PEER: Final = Peer(
    name="http-floor",
    title="bare Starlette on uvicorn",
    paths=(Path(kind="HTTP", name="", caller=HTTP_CALLER, called_with=HTTP_WITH),),
    pip=("uvicorn[standard]==0.54.0", "starlette==1.10.0"),
    environment="uvicorn",
    runs="`uvicorn --no-access-log`, one process whatever N is",
    gives="nothing: it is here for scale",
    lacks="everything: no function is behind it",
    floor=True,
)


def application() -> Any:
    from starlette.applications import Starlette
    from starlette.responses import Response
    from starlette.routing import Route

    async def echo(request: Any) -> Response:
        return Response(await request.body(), media_type="application/json")

    return Starlette(routes=[Route("/", echo, methods=["POST"])])


@contextmanager
def serve(processes: int) -> Iterator[dict[str, str]]:
    port = free_port()
    served = ("--factory", "loadtest.peers.http_floor:application", "--no-access-log", "--port", str(port))
    with started([sys.executable, "-m", "uvicorn", *served, "--log-level", "warning"]) as process:
        yield {"": until_listening(port, process)}


if __name__ == "__main__":
    run(serve)
