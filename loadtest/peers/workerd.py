"""Cloudflare's workerd, with a worker in JavaScript."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path as File
from typing import Final

from loadtest.peers.peer import HTTP_CALLER, HTTP_WITH, Path, Peer
from loadtest.peers.serving import free_port, node_modules, run, started, until_listening

CONFIGURATION: Final = """\
using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [(name = "echo", worker = .echo)],
  sockets = [(name = "http", address = "127.0.0.1:PORT", http = (), service = "echo")],
);
const echo :Workerd.Worker = (
  modules = [(name = "echo.js", esModule = embed "echo.js")],
  compatibilityDate = "2026-01-01",
);
"""
SOURCE: Final = "export default { async fetch(request) { return Response.json(await request.json()); } };\n"

PEER: Final = Peer(
    name="workerd",
    title="workerd",
    paths=(Path(kind="HTTP", name="HTTP", caller=HTTP_CALLER, called_with=HTTP_WITH),),
    npm=("workerd@1.20261117.1",),
    programs=("node",),
    runs="`workerd serve config.capnp`, one process whatever N is, the function inside of it",
    gives="isolates of V8 that start in a millisecond, many calls at a time in one, the APIs of a browser, "
    "no hop",
    lacks="a process of its own for a function (its makers say that it is no sandbox by itself), any "
    "language but those of V8, limits, a fleet",
)


@contextmanager
def serve(processes: int) -> Iterator[dict[str, str]]:
    work, port = File(os.environ["PEER_WORK"]), free_port()
    (work / "config.capnp").write_text(CONFIGURATION.replace("PORT", str(port)))
    (work / "echo.js").write_text(SOURCE)
    # The package's `workerd` is a script of Node.js that starts this one.
    binary = node_modules("@cloudflare", f"workerd-linux-{MACHINES[os.uname().machine]}", "bin", "workerd")
    with started([binary, "serve", str(work / "config.capnp")]) as process:
        yield {"HTTP": until_listening(port, process)}


MACHINES: Final = {"x86_64": "64", "aarch64": "arm64"}

if __name__ == "__main__":
    run(serve)
