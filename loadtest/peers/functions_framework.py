"""Google's functions-framework for Python, on its own gunicorn."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path as File
from typing import Final

from loadtest.peers.peer import HTTP_CALLER, HTTP_WITH, Path, Peer
from loadtest.peers.serving import beside_python, free_port, run, started, until_listening

SOURCE: Final = "def handler(request):\n    return request.get_json()\n"

PEER: Final = Peer(
    name="functions-framework",
    title="functions-framework",
    paths=(Path(kind="HTTP", name="HTTP", caller=HTTP_CALLER, called_with=HTTP_WITH),),
    pip=("functions-framework==3.10.2",),
    runs="`functions-framework --target handler` with `WORKERS=N` and `THREADS=4`",
    gives="Google's signature of functions, CloudEvents, whatever Flask can do",
    lacks="a fleet, isolation, more than one function, a line for the calls above a limit",
)


@contextmanager
def serve(processes: int) -> Iterator[dict[str, str]]:
    source, port = File(os.environ["PEER_WORK"], "main.py"), free_port()
    source.write_text(SOURCE)
    of_function = ("--target", "handler", "--source", str(source))
    command = [beside_python("functions-framework"), *of_function, "--host", "127.0.0.1", "--port", str(port)]
    with started(command, WORKERS=str(processes), THREADS="4") as process:
        yield {"HTTP": until_listening(port, process)}


if __name__ == "__main__":
    run(serve)
