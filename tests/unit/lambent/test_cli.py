"""The command line without a fleet: what it says of mistakes, and that it is quick. Real processes."""

import asyncio
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from lambent.cli.failures import FailedCommand, explained
from lambent.cli.up import up
from lambent.up import Plan
from lambent_frontend.calls import Counted, Explained
from lambent_frontend.core.call import Priority
from lambent_frontend.fleet import Fleet
from lambent_frontend.remembered import Remembered
from lambent_proto.errors import UnknownAlias
from lambent_proto.ids import RequestId
from tests.unit.scripted import FRONTEND, NoStore, ScriptedDispatcher, serving


def lambent(
    *arguments: str, stdin: str = "", environment: dict[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "lambent", *arguments],
        capture_output=True,
        text=True,
        input=stdin,
        timeout=50,
        env=os.environ | (environment or {}),
        check=False,
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        pytest.param(["invok"], "No such command 'invok'", id="unknown command"),
        pytest.param(["invoke"], "Missing argument 'NAME'", id="no name"),
        pytest.param(["invoke", "f", "-", "-d", "{}"], "Give the event once", id="two events"),
        pytest.param(["invoke", "f", "--priority", "urgent"], "'urgent' is not one of", id="priority"),
        pytest.param(["ps", "--endpoint", "http://x:1"], "'http://x:1' is not HOST:PORT", id="endpoint"),
        pytest.param(["ps", "--endpoint", "x:99999"], "'x:99999' is not HOST:PORT", id="port"),
        pytest.param(["deploy", "/nowhere", "--name", "f"], "'/nowhere' does not exist", id="no such folder"),
        pytest.param(["deploy", "--name", "f"], "either DIR_OR_ZIP or --stored", id="no code at all"),
        pytest.param(
            ["deploy", ".", "--stored", "uploads/f.zip", "--name", "f"],
            "either DIR_OR_ZIP or --stored",
            id="two codes",
        ),
        pytest.param(
            ["function", "update", "f", "--env", "A"],
            "'A' is neither KEY=VALUE nor",
            id="variable of nobody",
        ),
        pytest.param(
            ["function", "update", "f", "--concurrency", "many"], "neither a number of instances", id="limit"
        ),
        pytest.param(
            ["function", "update", "f", "--layer", "deps"], "'deps' is neither NAME:VERSION", id="layer"
        ),
        pytest.param(
            ["function", "update", "f", "--layer", "a:1", "--layer", "none"],
            "'none' is neither NAME:VERSION",
            id="layers and none",
        ),
        pytest.param(["layer", "get", "deps"], "'deps' is neither NAME:VERSION", id="layer's version"),
        pytest.param(["layer", "publish", "."], "Missing option '--name'", id="layer without a name"),
        pytest.param(["worker", "--config", "/nowhere.toml"], "/nowhere.toml cannot be read", id="no config"),
        pytest.param(["worker", "--sandbox", "magic"], "'magic' is not one of 'namespaces',", id="sandbox"),
        pytest.param(["up", "--require-isolation", "much"], "'much' is not one of 'none',", id="level"),
        pytest.param(["worker", "nurse"], "No such command 'nurse'", id="no such command of worker"),
        pytest.param(["up", "--workers", "0"], "Invalid value for '--workers'", id="no workers"),
    ],
)
def test_wrong_usage(arguments: list[str], expected: str) -> None:
    """Exit code 2 and a sentence that names what is wrong."""
    done = lambent(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert expected in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["invoke", "f"],
        ["ps"],
        ["runtimes"],
        ["logs", "f"],
        ["function", "ls"],
        ["layer", "ls"],
        ["layer", "delete", "deps:1"],
        ["explain", "x"],
        ["shadow"],
    ],
)
def test_nobody_there(arguments: list[str]) -> None:
    """Exit code 3; it says where it called, and how to start a fleet."""
    endpoint = f"127.0.0.1:{free_port()}"
    done = lambent(*arguments, environment={"LAMBENT_ENDPOINT": endpoint})
    assert (done.returncode, done.stdout) == (3, "")
    assert endpoint in done.stderr
    assert "`lambent up` starts one" in done.stderr
    assert len(done.stderr.splitlines()) == 2


async def test_a_call_with_priority_and_tenant() -> None:
    """`invoke` gives them on, `explain` shows them; that a call is a normal one of nobody goes unsaid."""
    dispatcher = ScriptedDispatcher()
    what = "f", "succeeded", "", "warm", "idle", "n1", "i-1", 1, 0, 0, 2, "", "none", ()
    for request, priority, tenant in (("r-1", Priority.HIGH, "team a"), ("r-2", Priority.NORMAL, "")):
        explained = Explained(RequestId(request), *what, priority, tenant)
        dispatcher.explained[explained.request_id] = explained
    fleet = Fleet(lambda: [""], Remembered(dispatcher, FRONTEND), NoStore())
    async with serving(dispatcher, fleet=fleet) as address:
        where = {"LAMBENT_ENDPOINT": address}

        async def told(*arguments: str) -> str:
            done = await asyncio.to_thread(lambent, *arguments, environment=where)
            assert done.returncode == 0, done.stderr
            return done.stdout

        await told("invoke", "echo", "--priority", "low", "--tenant", "team b")
        special, usual = await told("explain", "r-1"), await told("explain", "r-2")
        as_json = json.loads(await told("explain", "r-1", "--json"))
    (call,) = dispatcher.calls
    assert (call.priority, call.tenant) == (Priority.LOW, "team b")
    shown = dict(line.split(maxsplit=1) for line in special.splitlines())
    assert (shown["priority"], shown["tenant"]) == ("high", "team a")
    assert "priority" not in usual
    assert "tenant" not in usual
    assert (as_json["priority"], as_json["tenant"]) == ("PRIORITY_HIGH", "team a")


async def test_reasons() -> None:
    """By what was counted, the most frequent first."""
    dispatcher = ScriptedDispatcher()
    for what, reason, count in (
        ("refused", "line_full", 2),
        ("warm", "idle_lease", 5),
        ("warm", "sticky_node", 7),
    ):
        dispatcher.counts[Counted(what, reason)] = count
    fleet = Fleet(lambda: [""], Remembered(dispatcher, FRONTEND), NoStore())
    async with serving(dispatcher, fleet=fleet) as address:
        where = {"LAMBENT_ENDPOINT": address}
        table = await asyncio.to_thread(lambent, "reasons", environment=where)
        as_json = await asyncio.to_thread(lambent, "reasons", "--json", environment=where)
    assert [line.split() for line in table.stdout.splitlines()[1:]] == [
        ["warm", "sticky_node", "7"],
        ["warm", "idle_lease", "5"],
        ["refused", "line_full", "2"],
    ]
    assert json.loads(as_json.stdout)["counts"][2] == {"what": "refused", "reason": "line_full", "count": 2}


async def test_a_refusal_is_explained() -> None:
    """By its reason and what its line waited for; it never started."""
    dispatcher = ScriptedDispatcher()
    what = "f", "throttled", "full", "", "line_full", "", "", 0, 0, 0, 0, "limit_reached", ""
    dispatcher.explained[RequestId("r-1")] = Explained(RequestId("r-1"), *what)
    fleet = Fleet(lambda: [""], Remembered(dispatcher, FRONTEND), NoStore())
    async with serving(dispatcher, fleet=fleet) as address:
        where = {"LAMBENT_ENDPOINT": address}
        done = await asyncio.to_thread(lambent, "explain", "r-1", environment=where)
    shown = [line.split(maxsplit=1) for line in done.stdout.splitlines()]
    assert ["refused", "line_full"] in shown
    assert "limit_reached" in done.stdout
    assert "start" not in dict(shown)


def test_who_names_no_alias_is_told_where_they_are() -> None:
    with pytest.raises(FailedCommand, match="has no alias 'a'\n`lambent alias ls NAME`"), explained():
        raise UnknownAlias("function 'f' has no alias 'a'")


def test_the_runtimes_of_this_host() -> None:
    """No fleet is needed; the Python that runs Lambent is among them."""
    nobody = {"LAMBENT_ENDPOINT": f"127.0.0.1:{free_port()}"}
    done = lambent("runtimes", "--here", "--json", environment=nobody)
    assert done.returncode == 0, done.stderr
    here = json.loads(done.stdout)
    names = {it["name"] for it in here["available"]}
    assert {"python", f"python3.{sys.version_info.minor}"} <= names
    assert all(it["why"] for it in here["unavailable"])
    table = lambent("runtimes", "--here", environment=nobody).stdout.splitlines()
    assert table[0].split()[:3] == ["RUNTIME", "RUNS", "AS"]
    assert {line.split()[0] for line in table[1:]} >= names


def test_part_with_bad_settings(tmp_path: Path) -> None:
    """All faults with their keys, exit code 2."""
    config = tmp_path / "frontend.toml"
    config.write_text("grpc_prot = 1\nlinger_s = -1\n")
    done = lambent("frontend", "--config", str(config))
    assert done.returncode == 2
    for key in ("grpc_prot", "linger_s", "etcd", "packages"):
        assert f"\n  {key}: " in done.stderr


def test_up_refuses_variables_of_one_part(tmp_path: Path) -> None:
    """A name for one worker would become the name of all."""
    environment = {"LAMBENT_NAME": "w1", "LAMBENT_COLOUR": "blue"}
    done = lambent("up", "--data", str(tmp_path / "data"), environment=environment)
    assert done.returncode == 1
    assert "LAMBENT_NAME: is of one part" in done.stderr
    assert "LAMBENT_COLOUR: no such setting" in done.stderr


@pytest.mark.parametrize(
    ("variable", "options", "auth"),
    [
        ({"LAMBENT_AUTH": "true"}, (), True),
        ({"LAMBENT_AUTH": "false"}, ("--grpc-host", "0.0.0.0"), False),
        ({"LAMBENT_AUTH": "true"}, ("--no-auth",), False),
        ({"LAMBENT_AUTH": ""}, (), None),
    ],
)
def test_up_takes_the_variable_that_says_whether_it_asks(
    monkeypatch: pytest.MonkeyPatch, variable: dict[str, str], options: tuple[str, ...], auth: bool | None
) -> None:
    """As `--auth` and `--no-auth`, which come first."""
    plans = []

    async def run(plan: Plan, *, json_ready: bool) -> int:
        plans.append(plan)
        return 0

    monkeypatch.setattr(sys.modules["lambent.cli.up"], "_run", run)
    done = CliRunner().invoke(up, list(options), env=variable)
    assert (done.exception, [plan.auth for plan in plans]) == (None, [auth])


@pytest.mark.parametrize(
    ("option", "other"), [("--grpc-port", "--http-port"), ("--http-port", "--grpc-port")]
)
def test_up_on_a_port_in_use(tmp_path: Path, option: str, other: str) -> None:
    """It says which port and what to do, and has started nothing."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = lambent("up", "--data", str(tmp_path / "data"), option, port, other, "0")
    assert done.returncode == 1
    assert f"127.0.0.1:{port} cannot be listened on" in done.stderr
    assert option in done.stderr
    assert not (tmp_path / "data" / "etcd").exists()


def test_deploying_a_folder_that_cannot_be_packed(tmp_path: Path) -> None:
    """The mistake is the caller's: exit code 2, no traceback, nothing was deployed."""
    (tmp_path / "away").symlink_to("/etc/hostname")
    done = lambent("deploy", str(tmp_path), "--name", "f")
    assert done.returncode == 2
    assert "outside of the folder" in done.stderr
    assert "Nothing was deployed" in done.stderr


@pytest.mark.parametrize(
    ("part", "files"),
    [
        ("worker", ("fleet_ca", "fleet_cert", "fleet_key")),
        ("placement", ("fleet_ca", "fleet_cert", "fleet_key")),
        ("frontend", ("fleet_ca", "fleet_cert", "fleet_key")),
        ("frontend", ("tls_cert", "tls_key")),
        ("frontend", ("environment_public_key",)),
        ("worker", ("environment_key",)),
        ("placement", ("etcd_ca",)),
    ],
    ids=lambda it: it if isinstance(it, str) else it[0],
)
@pytest.mark.parametrize("there", [False, True], ids=["missing", "broken"])
def test_files_that_cannot_be_used(tmp_path: Path, part: str, files: tuple[str, ...], there: bool) -> None:
    """The setting and the file are named, without a traceback; the exit code is that of wrong settings."""
    named = {it: tmp_path / it for it in files}
    for path in named.values() if there else ():
        path.write_text("nothing of the kind")
    config = tmp_path / "part.toml"
    folders = {} if part == "placement" else {it: tmp_path / it for it in ("data", "packages")}
    settings = {"etcd": "127.0.0.1:1", **folders, **named}
    config.write_text("".join(f'{key} = "{value}"\n' for key, value in settings.items()))
    done = lambent(part, "--config", str(config))
    assert (done.returncode, "Traceback" in done.stderr) == (2, False), done.stderr
    assert files[0] in done.stderr
    assert str(tmp_path) in done.stderr


def test_help_is_quick() -> None:
    """Help needs neither gRPC nor rich nor any part of the fleet."""
    program = (
        "import sys\nfrom lambent.cli import lambent\n"
        "lambent.main(['--help'], standalone_mode=False)\n"
        "heavy = {'grpc', 'rich', 'pydantic', 'structlog', 'google', 'lambent_frontend', 'lambent_worker'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "Usage:" in done.stdout
    assert done.returncode == 0, done.stderr


def test_clients_load_no_server() -> None:
    """A machine that only calls functions needs no part of the fleet in memory."""
    program = (
        "import sys\nfrom lambent.cli import _run\n"
        f"sys.argv = ['lambent', 'invoke', 'f', '--endpoint', '127.0.0.1:{free_port()}']\n"
        "assert _run() == 3\n"
        "servers = {'lambent_frontend', 'lambent_placement', 'lambent_worker'}\n"
        "sys.exit(', '.join(servers & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
