"""What is true of runtimes that functions and layers bring."""

import json

import pytest

from tests.integration.worker.scene import Scene

pytestmark = pytest.mark.integration

BOOTSTRAP = """#!/bin/bash
ask() { # method path body
    exec 5<>"/dev/tcp/${AWS_LAMBDA_RUNTIME_API/://}"
    printf '%s /2018-06-01/runtime/%s HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n' "$1" "$2" >&5
    printf 'Content-Length: %d\\r\\n\\r\\n%s' "${#3}" "$3" >&5
    cat <&5
}
while true; do
    id=$(ask GET invocation/next | tr -d '\\r' | sed -n 's/^Lambda-Runtime-Aws-Request-Id: //p')
    ask POST "invocation/$id/response" '"WHO '"$_HANDLER ${AWS_EXECUTION_ENV:-none}"'"' >/dev/null
done
"""


def bootstrap(who: str) -> str:
    return BOOTSTRAP.replace("WHO", who)


@pytest.mark.parametrize("runtime", ["provided", "provided.al2", "provided.al2023"])
async def test_a_functions_bootstrap_is_its_runtime(stage: Scene, runtime: str) -> None:
    """It goes before a layer's, and it is not told what it runs in."""
    layer = await stage.layer({"bootstrap": bootstrap("layer")})
    files = {"bootstrap": bootstrap("function")}
    it = await stage.started(files, runtime=runtime, layers=(layer,), mode=0o755)
    assert (await stage.call(it)).json == "function app.handler none"


async def test_a_layer_brings_the_runtime(stage: Scene) -> None:
    """Where a function has no bootstrap, that of its layers runs."""
    layer = await stage.layer({"bootstrap": bootstrap("layer")})
    it = await stage.started({"x": ""}, runtime="provided.al2023", layers=(layer,))
    assert (await stage.call(it)).json == "layer app.handler none"


@pytest.mark.parametrize(
    "files", [{"x": ""}, {"bootstrap": bootstrap("function")}], ids=["none", "not executable"]
)
async def test_no_bootstrap(stage: Scene, files: dict[str, str]) -> None:
    """The error says where one was looked for."""
    said = await stage.failed_init(files, runtime="provided.al2023")
    error = json.loads(said.error)
    assert error["errorType"] == "Runtime.InvalidEntrypoint"
    assert "/bootstrap /opt/bootstrap]" in error["errorMessage"]
