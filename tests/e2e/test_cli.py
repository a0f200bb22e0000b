"""Every command against a real fleet: its standard output, its standard error, and its exit code."""

import json
import signal
import subprocess
import sys
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.fleet import Fleet, up

pytestmark = pytest.mark.e2e

FAILING = """
def handler(event, context):
    print("about to fail")
    raise ValueError("planted")
"""


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory, echo: Path) -> Iterator[Fleet]:
    """A fleet with `echo`, and with `failing`, deployed from a ZIP."""
    folder = tmp_path_factory.mktemp("cli")
    package = folder / "failing.zip"
    with zipfile.ZipFile(package, "w") as archive:
        archive.writestr("failing.py", FAILING)
    with up(folder / "data", "--workers", "1") as running:
        for name, source, handler in (
            ("echo", echo, "echo.handler"),
            ("failing", package, "failing.handler"),
        ):
            done = running.lambent("deploy", str(source), "--name", name, "--handler", handler)
            assert done.returncode == 0, done.stderr
        yield running
        assert running.stop() == 0


def said(done: "subprocess.CompletedProcess[bytes]", code: int = 0) -> Any:
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout)


def failure(done: "subprocess.CompletedProcess[bytes]", code: int) -> str:
    text = done.stderr.decode()
    assert (done.returncode, done.stdout) == (code, b"")
    assert "Traceback" not in text
    return text


def test_deploy_creates_and_updates(fleet: Fleet, echo: Path) -> None:
    """A new function gets Lambda's defaults and this Python; another deploy changes only what is given."""
    created = said(
        fleet.lambent(
            "deploy", str(echo), "--name", "new", "--handler", "echo.handler", "--env", "AA=1", "--json"
        )
    )
    major, minor = sys.version_info[:2]
    assert (created["runtime"], created["memory_mb"], created["timeout_s"]) == (
        f"python{major}.{minor}",
        128,
        3.0,
    )
    assert created["concurrency"] is None
    updated = said(fleet.lambent("deploy", str(echo), "--name", "new", "--concurrency", "4", "--json"))
    assert (updated["handler"], updated["environment"], updated["concurrency"]) == (
        "echo.handler",
        {"AA": "1"},
        4,
    )
    assert updated["code_sha256"] == created["code_sha256"]


def test_all_that_the_http_api_can_give_a_function(fleet: Fleet, echo: Path, tmp_path: Path) -> None:
    """Role, tags, versions with a change, dry runs, code to download."""
    named = "--name", "whole", "--handler", "echo.handler"
    given = "--role", "arn:any", "--tag", "team=a", "--tag", "b=", "--publish", "--json"
    made = said(fleet.lambent("deploy", str(echo), *named, *given))
    assert (made["version"], made["role"], made["tags"]) == ("1", "arn:any", {"team": "a", "b": ""})
    again = said(fleet.lambent("deploy", str(echo), "--name", "whole", "--tag", "c=d", "--json"))
    assert again["tags"] == {"team": "a", "b": "", "c": "d"}
    assert said(fleet.lambent("function", "untag", "whole", "team", "b", "--json"))["tags"] == {"c": "d"}
    assert said(fleet.lambent("function", "tag", "whole", "c=e", "f=g", "--json"))["tags"] == {
        "c": "e",
        "f": "g",
    }
    assert "not KEY=VALUE" in failure(fleet.lambent("function", "tag", "whole", "c"), 2)
    dry = said(fleet.lambent("function", "update", "whole", "--timeout", "9", "--dry-run", "--json"))
    assert (dry["timeout_s"], said(fleet.lambent("function", "get", "whole", "--json"))["timeout_s"]) == (
        9,
        3,
    )
    second = said(fleet.lambent("function", "update", "whole", "--timeout", "9", "--publish", "--json"))
    assert second["version"] == "2"
    listed = fleet.lambent("function", "ls", "--versions").stdout.decode()
    assert [it for it in listed.split() if it.startswith("whole:")] == ["whole:$LATEST", "whole:1", "whole:2"]
    for target in ("whole", "whole:1"):
        done = fleet.lambent("function", "code", target, "-o", str(tmp_path / "code.zip"))
        assert done.returncode == 0, done.stderr
        with zipfile.ZipFile(tmp_path / "code.zip") as archive:
            assert archive.namelist() == ["echo.py"]
    assert "no function" in failure(fleet.lambent("function", "code", "none", "-o", str(tmp_path / "n")), 3)
    layer = said(fleet.lambent("layer", "publish", str(echo), "--name", "whole", "--json"))
    assert layer["version"] == 1
    assert fleet.lambent("layer", "code", "whole:1", "-o", str(tmp_path / "layer.zip")).returncode == 0
    assert (tmp_path / "layer.zip").read_bytes() == (tmp_path / "code.zip").read_bytes()
    assert sorted(it.name for it in tmp_path.iterdir()) == ["code.zip", "layer.zip"]
    for command in (("layer", "delete", "whole:1"), ("function", "delete", "whole")):
        assert fleet.lambent(*command).returncode == 0


def test_a_new_function_needs_a_handler(fleet: Fleet, echo: Path) -> None:
    """It cannot be guessed; nothing is created."""
    assert "A new function needs --handler" in failure(
        fleet.lambent("deploy", str(echo), "--name", "none"), 2
    )
    assert fleet.lambent("function", "get", "none").returncode == 3


def test_a_runtime_that_no_node_has(fleet: Fleet, echo: Path) -> None:
    """It is deployed, with a warning; a call waits, and is told what for."""
    deploy = ("deploy", str(echo), "--name", "ahead", "--handler", "echo.handler", "--runtime", "python3.99")
    done = fleet.lambent(*deploy)
    assert done.returncode == 0
    assert "no node of the fleet has the runtime python3.99 now" in done.stderr.decode()
    text = failure(fleet.lambent("invoke", "ahead", "--timeout", "0.5"), 3)
    assert "no worker of the fleet has the runtime python3.99" in text
    here = f"python3.{sys.version_info.minor}"
    assert fleet.lambent("function", "update", "ahead", "--runtime", here).stderr == b""
    assert said(fleet.lambent("invoke", "ahead", "-d", "7")) == 7


def test_runtimes(fleet: Fleet) -> None:
    """Those of each node, as a table and as JSON."""
    here = f"python3.{sys.version_info.minor}"
    (node,) = said(fleet.lambent("runtimes", "--json"))
    assert (node["name"], node["state"]) == ("worker-1", "connected")
    assert {here, "python"} <= set(node["runtimes"])
    table = fleet.lambent("runtimes").stdout.decode().splitlines()
    assert table[0].split() == ["NODE", "STATE", "RUNTIMES"]
    assert f" {here}," in table[1]


def test_a_broken_package(fleet: Fleet, tmp_path: Path) -> None:
    """The service refuses it: exit code 3, and whose fault it is."""
    package = tmp_path / "broken.zip"
    package.write_bytes(b"this is no ZIP")
    text = failure(fleet.lambent("deploy", str(package), "--name", "broken", "--handler", "a.b"), 3)
    assert "Nothing was deployed" in text


def test_functions(fleet: Fleet) -> None:
    """They are listed, changed and deleted; --json has the names of lambent.v1."""
    names = {function["name"] for function in said(fleet.lambent("function", "ls", "--json"))}
    assert {"echo", "failing"} <= names
    table = fleet.lambent("function", "ls").stdout.decode().splitlines()
    assert table[0].split()[:3] == ["NAME", "RUNTIME", "HANDLER"]
    revision = said(fleet.lambent("function", "get", "failing", "--json"))["revision_id"]
    changed = said(
        fleet.lambent("function", "update", "failing", "--memory", "256", "--revision", revision, "--json")
    )
    assert changed["memory_mb"] == 256
    stale = fleet.lambent("function", "update", "failing", "--memory", "512", "--revision", revision)
    assert "Nothing was changed" in failure(stale, 3)


def test_deleting(fleet: Fleet, echo: Path) -> None:
    """What is deleted is unknown from then on."""
    fleet.lambent("deploy", str(echo), "--name", "short-lived", "--handler", "echo.handler")
    assert fleet.lambent("function", "delete", "short-lived").returncode == 0
    assert "`lambent function ls`" in failure(fleet.lambent("invoke", "short-lived"), 3)


@pytest.mark.parametrize(
    ("arguments", "stdin", "expected"),
    [
        (["-d", '{"a": [1, "ä"]}'], b"", {"a": [1, "ä"]}),
        (["-"], b'"from standard input"', "from standard input"),
        (["-f", "{file}"], b"", "from a file"),
        ([], b"", {}),
        (["-d", "1", "--qualifier", "$LATEST"], b"", 1),
    ],
)
def test_invoke(fleet: Fleet, tmp_path: Path, arguments: list[str], stdin: bytes, expected: object) -> None:
    """The event comes from where it is said to, the answer goes to standard output and nothing else does."""
    file = tmp_path / "event.json"
    file.write_text('"from a file"')
    done = fleet.lambent(
        "invoke", "echo", *(word.replace("{file}", str(file)) for word in arguments), stdin=stdin
    )
    assert said(done) == expected
    assert done.stderr == b""


def test_a_dry_run(fleet: Fleet) -> None:
    done = fleet.lambent("invoke", "echo", "--dry-run")
    assert (done.returncode, done.stdout) == (0, b"$LATEST\n")
    assert said(fleet.lambent("invoke", "echo", "--dry-run", "--json")) == {"executed_version": "$LATEST"}
    assert "no function" in failure(fleet.lambent("invoke", "nobody", "--dry-run"), 3)
    assert "--dry-run runs nothing" in failure(fleet.lambent("invoke", "echo", "--dry-run", "--async"), 2)


def test_invoke_says_more(fleet: Fleet) -> None:
    """--tail and -v speak on standard error; --json has everything in one object."""
    done = fleet.lambent("invoke", "echo", "-d", "1", "--tail", "-v")
    assert done.stdout == b"1\n"
    text = done.stderr.decode()
    assert "event of 1 characters" in text
    assert "on worker-1, instance" in text
    assert ", isolation none: " in text
    answer = said(fleet.lambent("invoke", "echo", "-d", "1", "--json"))
    assert (answer["payload"], answer["function_error"]) == (1, "")
    assert answer["explanation"]["node"] == "worker-1"
    assert "event of 1 characters" in answer["log_tail"]


def test_layers(fleet: Fleet, echo: Path, tmp_path: Path) -> None:
    """Published from a folder, listed, used, taken away, and deleted though a function used it."""
    (tmp_path / "python").mkdir()
    (tmp_path / "python" / "deps.py").write_text("x = 1")
    runtime = f"python3.{sys.version_info.minor}"
    publish = ("layer", "publish", str(tmp_path), "--name", "deps", "--runtime", runtime)
    first = said(fleet.lambent(*publish, "--description", "shared", "--json"))
    assert (first["name"], first["version"], first["compatible_runtimes"]) == ("deps", 1, [runtime])
    assert "layer     deps:2" in fleet.lambent(*publish).stdout.decode()
    assert [it["version"] for it in said(fleet.lambent("layer", "ls", "--json"))] == [2]
    assert [it["version"] for it in said(fleet.lambent("layer", "ls", "deps", "--json"))] == [2, 1]
    assert said(fleet.lambent("layer", "get", "deps:1", "--json")) == first
    table = fleet.lambent("layer", "ls", "deps").stdout.decode().splitlines()
    assert [line.split()[0] for line in table] == ["LAYER", "deps:2", "deps:1"]

    deploy = ("deploy", str(echo), "--name", "layered", "--handler", "echo.handler")
    isolation = ("--tmp", "1024", "--network", "--snapstart")
    assert fleet.lambent(*deploy, "--layer", "deps:1", *isolation).returncode == 0
    shown = fleet.lambent("function", "get", "layered").stdout.decode()
    for fact in ("layers       deps:1", "tmp          1024 MB", "network      yes", "snapstart    yes"):
        assert fact in shown.splitlines()
    assert fleet.lambent("layer", "delete", "deps:1").returncode == 0
    text = failure(fleet.lambent("function", "update", "layered", "--layer", "deps:1"), 3)
    assert "there is no version 1 of a layer 'deps'" in text
    assert "`lambent layer ls`" in text
    update = ("function", "update", "layered", "--json")
    changed = said(fleet.lambent(*update, "--no-network", "--no-snapstart"))
    assert (changed["network"], changed["snapstart"], changed["tmp_mb"]) == (False, False, 1024)
    assert [layer["name"] for layer in changed["layers"]] == ["deps"]
    assert said(fleet.lambent(*update, "--layer", "none"))["layers"] == []


def test_function_error(fleet: Fleet) -> None:
    """Exit code 1: Lambda's error document on standard output, one line for people beside it."""
    done = fleet.lambent("invoke", "failing")
    assert said(done, 1)["errorType"] == "ValueError"
    assert done.stderr.decode() == "lambent: the function failed: ValueError: planted\n"


def test_the_fleet(fleet: Fleet) -> None:
    """Instances and nodes are listed, as a table and as JSON."""
    assert fleet.lambent("invoke", "echo").returncode == 0
    instances = said(fleet.lambent("ps", "echo", "--json"))
    assert {(instance["function_name"], instance["node"]) for instance in instances} == {("echo", "worker-1")}
    assert instances[0]["id"] in fleet.lambent("ps").stdout.decode()
    nodes = said(fleet.lambent("nodes", "--json"))
    assert nodes["nodes"][0]["isolation"] == "none"
    assert nodes["epoch"] >= 1
    assert nodes["nodes"][0]["backend"] == "process"
    assert "files" in nodes["nodes"][0]["missing_protections"]
    assert f"python3.{sys.version_info.minor}" in nodes["nodes"][0]["runtimes"]
    row = fleet.lambent("nodes").stdout.decode().splitlines()[1]
    assert row.split()[:2] == ["worker-1", "connected"]
    assert "process  none       files, environment, memory," in row


def test_metrics(fleet: Fleet) -> None:
    """The worker's address for Prometheus is with its others, and a call leaves its trace there."""
    assert fleet.lambent("invoke", "echo").returncode == 0
    at = fleet.part("worker-1")["addresses"]["metrics"]
    with urllib.request.urlopen(f"http://{at}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    assert 'lambent_worker_isolation_level{backend="process",level="none"} 1.0' in lines
    assert 'lambent_worker_protection{name="files"} 0.0' in lines
    started = f'lambent_worker_starts_total{{kind="new",runtime="python3.{sys.version_info.minor}"}} '
    assert any(line.startswith(started) for line in lines)


def test_explain(fleet: Fleet) -> None:
    """A call can be asked about later; one that nobody knows is an error of the caller's."""
    request = said(fleet.lambent("invoke", "echo", "--json"))["request_id"]
    told = said(fleet.lambent("explain", request, "--json"))
    assert (told["function_name"], told["outcome"]) == ("echo", "succeeded")
    assert told["explanation"]["isolation"] == "none"
    assert "succeeded" in fleet.lambent("explain", request).stdout.decode()
    assert "no frontend that is there remembers" in failure(fleet.lambent("explain", "nothing"), 3)


def test_logs(fleet: Fleet) -> None:
    """What a function printed, with when and where; with --json an object a line."""
    request = said(fleet.lambent("invoke", "echo", "--json"))["request_id"]
    assert f"request {request}" in fleet.lambent("logs", "echo").stdout.decode()
    lines = [json.loads(line) for line in fleet.lambent("logs", "echo", "--json").stdout.splitlines()]
    assert any(line["request_id"] == request and line["node"] == "worker-1" for line in lines)


def test_logs_of_what_has_none(fleet: Fleet, echo: Path) -> None:
    """A name that is no function's is the caller's mistake; a function that was not called has no lines."""
    assert "nosuch" in failure(fleet.lambent("logs", "nosuch"), 3)
    assert fleet.lambent("deploy", str(echo), "--name", "quiet", "--handler", "echo.handler").returncode == 0
    assert "has written nothing" in failure(fleet.lambent("logs", "quiet"), 0)


def test_logs_follow_until_interrupted(fleet: Fleet) -> None:
    """A new call's lines arrive while it follows; Ctrl-C ends it with 130 and without a word."""
    command = [sys.executable, "-m", "lambent", "logs", "-f", "failing", "--endpoint", fleet.endpoint]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as following:
        assert following.stdout is not None
        assert following.stderr is not None
        fleet.lambent("invoke", "failing")
        while "about to fail" not in (line := following.stdout.readline()):
            assert line, following.stderr.read()
        following.send_signal(signal.SIGINT)
        assert following.wait(20) == 130
        assert following.stderr.read().strip() == ""


def test_a_reader_that_leaves(fleet: Fleet) -> None:
    """`lambent ... | head -1` ends without a complaint."""
    command = [sys.executable, "-m", "lambent", "logs", "-f", "echo", "--endpoint", fleet.endpoint]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as reading:
        assert reading.stdout is not None
        assert reading.stderr is not None
        fleet.lambent("invoke", "echo")
        assert reading.stdout.readline()
        reading.stdout.close()
        while reading.poll() is None:
            fleet.lambent("invoke", "echo")
        assert reading.returncode == 1
        assert reading.stderr.read() == ""
