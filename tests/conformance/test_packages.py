"""Functions as people package them run unchanged: a web framework behind an adapter, powertools, a layer."""

import base64
import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.conftest import package
from tests.conformance.test_functions import create

pytestmark = [pytest.mark.conformance, pytest.mark.timeout(180)]

WEB = """
from mangum import Mangum
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

async def greet(request: Request) -> JSONResponse:
    sent = await request.json()
    said = {"hello": request.path_params["who"], "times": request.query_params["times"], "sent": sent}
    return JSONResponse(said, status_code=201, headers={"x-agent": request.headers["user-agent"]})

handler = Mangum(Starlette(routes=[Route("/greet/{who}", greet, methods=["POST"])]), lifespan="off")
"""

POWERTOOLS = """
from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.event_handler import APIGatewayHttpResolver
from aws_lambda_powertools.metrics import MetricUnit

logger = Logger(service="orders")
metrics = Metrics(namespace="shop", service="orders")
app = APIGatewayHttpResolver()

@app.get("/orders/<number>")
def order(number: str):
    metrics.add_metric(name="looked_at", unit=MetricUnit.Count, value=1)
    logger.info("looked at", extra={"number": number})
    return {"number": number, "by": app.current_event.request_context.http.method}

@logger.inject_lambda_context(log_event=False)
@metrics.log_metrics(capture_cold_start_metric=True)
def handler(event, context):
    return app.resolve(event, context)
"""


def installed(folder: Path, *requirements: str) -> Path:
    """What `pip install --target` makes of them, as the documentation of Lambda says to package."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target"]
    done = subprocess.run(
        [*pip, str(folder), *requirements], capture_output=True, text=True, timeout=150, check=False
    )
    if done.returncode:
        pytest.skip(f"pip could not install {', '.join(requirements)}: {done.stderr.strip()[-200:]}")
    return folder


def zipped(folder: Path, source: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("app.py", source)
        for path in sorted(folder.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                archive.write(path, path.relative_to(folder))
    return buffer.getvalue()


def request(method: str, path: str, query: str = "", body: bytes = b"") -> dict[str, Any]:
    """An event as API Gateway and function URLs send it, payload format 2.0."""
    return {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": query,
        "headers": {"content-type": "application/json", "user-agent": "tests/1", "host": "example.org"},
        "requestContext": {
            "accountId": "000000000000",
            "apiId": "api",
            "domainName": "example.org",
            "domainPrefix": "example",
            "http": {
                "method": method,
                "path": path,
                "protocol": "HTTP/1.1",
                "sourceIp": "192.0.2.1",
                "userAgent": "tests/1",
            },
            "requestId": "id",
            "routeKey": "$default",
            "stage": "$default",
            "time": "26/Nov/2026:10:00:00 +0000",
            "timeEpoch": 1795687200000,
        },
        "body": base64.b64encode(body).decode(),
        "isBase64Encoded": True,
    }


def answer(aws: Any, function: str, event: object) -> tuple[Any, str]:
    """The function's answer and the end of its log."""
    told = aws.invoke(FunctionName=function, Payload=json.dumps(event).encode(), LogType="Tail")
    log = base64.b64decode(told["LogResult"]).decode()
    assert "FunctionError" not in told, log
    return json.loads(told["Payload"].read()), log


def test_a_web_framework_behind_an_adapter(aws: Any, name: str, tmp_path: Path) -> None:
    code = zipped(installed(tmp_path, "starlette>=0.40,<2", "mangum>=0.19,<1"), WEB)
    create(aws, name, Code={"ZipFile": code}, MemorySize=256, Timeout=30)
    for times in ("1", "2"):
        said, _ = answer(aws, name, request("POST", "/greet/ann", f"times={times}", b'{"a": "\xc3\xa4"}'))
        assert (said["statusCode"], said["headers"]["x-agent"]) == (201, "tests/1")
        assert json.loads(said["body"]) == {"hello": "ann", "times": times, "sent": {"a": "ä"}}
    assert answer(aws, name, request("GET", "/nowhere"))[0]["statusCode"] == 404


def test_powertools(aws: Any, name: str, tmp_path: Path) -> None:
    """Its logger finds the context, its metrics the log, its router the event."""
    code = zipped(installed(tmp_path, "aws-lambda-powertools>=3,<4"), POWERTOOLS)
    create(aws, name, Code={"ZipFile": code}, MemorySize=256, Timeout=30)
    said, log = answer(aws, name, request("GET", "/orders/17"))
    assert (said["statusCode"], json.loads(said["body"])) == (200, {"number": "17", "by": "GET"})
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    logged = next(line for line in lines if line.get("message") == "looked at")
    assert (logged["number"], logged["function_name"], logged["cold_start"]) == ("17", name, True)
    assert logged["function_memory_size"] == "256"
    assert any(line.get("looked_at") == [1.0] for line in lines)
    assert answer(aws, name, request("GET", "/orders"))[0]["statusCode"] == 404


def test_libraries_in_a_layer(aws: Any, name: str) -> None:
    """What a layer has under python/ is imported as if it were in the package."""
    library = package("def shout(text):\n    return text.upper()\n", "python/shouting.py")
    layer = aws.publish_layer_version(LayerName=name, Content={"ZipFile": library})["LayerVersionArn"]
    source = "from shouting import shout\ndef handler(event, context):\n    return shout(event)\n"
    create(aws, name, Code={"ZipFile": package(source)}, Layers=[layer])
    assert answer(aws, name, "hello")[0] == "HELLO"
