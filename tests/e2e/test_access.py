"""Access keys over the whole: made with the command, asked for by the frontend, deleted."""

import asyncio
import json
import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lambent.client import Client
from lambent_chassis.clock import monotonic_s
from lambent_proto.errors import UnknownKey
from tests.e2e.by_hand import running
from tests.e2e.fleet import WITHIN_S, Fleet

pytestmark = pytest.mark.e2e

ECHO = "def handler(event, context):\n    return event\n"


@pytest.fixture(scope="module")
def asking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with running(tmp_path_factory.mktemp("asking"), "--auth", "--workers", "1") as fleet:
        yield fleet


def run(fleet: Fleet, *arguments: str, token: str = "") -> "subprocess.CompletedProcess[bytes]":
    """`LAMBENT_KEY` is empty, which is none, unless a token is given."""
    before = os.environ.get("LAMBENT_KEY")
    os.environ["LAMBENT_KEY"] = token
    try:
        return fleet.lambent(*arguments)
    finally:
        del os.environ["LAMBENT_KEY"]
        if before is not None:
            os.environ["LAMBENT_KEY"] = before


def create(fleet: Fleet, *rules: str) -> dict[str, Any]:
    options = [it for rule in rules for it in ("--allow", rule)]
    done = run(fleet, "key", "create", "--etcd", ",".join(fleet.etcd), *options, "--json")
    assert done.returncode == 0, done.stderr
    made: dict[str, Any] = json.loads(done.stdout)
    return made


def operator(fleet: Fleet) -> str:
    return (fleet.data / "operator-key").read_text().strip()


def test_who_has_no_key_is_refused_and_the_operators_is_in_the_data_folder(
    asking: Fleet, tmp_path: Path
) -> None:
    (tmp_path / "echo.py").write_text(ECHO)
    deploy = "deploy", str(tmp_path), "--name", "kept-echo", "--handler", "echo.handler"
    refused = run(asking, *deploy)
    assert refused.returncode == 3
    assert b"LAMBENT_KEY" in refused.stderr
    assert run(asking, "function", "ls", "--json", token=operator(asking)).stdout.strip() == b"[]"
    assert run(asking, *deploy, token=operator(asking)).returncode == 0
    assert stat.S_IMODE((asking.data / "operator-key").stat().st_mode) == 0o600


def test_a_key_does_what_it_was_made_for_until_it_is_deleted(asking: Fleet, tmp_path: Path) -> None:
    (tmp_path / "echo.py").write_text(ECHO)
    deploy = "deploy", str(tmp_path), "--name", "mine", "--handler", "echo.handler"
    assert run(asking, *deploy, token=operator(asking)).returncode == 0
    made = create(asking, "InvokeFunction@mi*")
    soon = monotonic_s() + WITHIN_S
    while (done := run(asking, "invoke", "mine", "-d", "[1]", token=made["token"])).returncode:
        assert monotonic_s() < soon, done.stderr
    assert json.loads(done.stdout) == [1]
    refused = run(asking, "function", "delete", "mine", token=made["token"])
    assert refused.returncode == 3
    assert b"may not DeleteFunction" in refused.stderr

    listed = run(asking, "key", "ls", "--etcd", ",".join(asking.etcd), "--json").stdout
    assert made["id"] in {it["id"] for it in json.loads(listed)}
    assert made["secret"].encode() not in listed
    assert run(asking, "key", "delete", made["id"], "--etcd", ",".join(asking.etcd)).returncode == 0
    assert run(asking, "key", "delete", made["id"], "--etcd", ",".join(asking.etcd)).returncode == 2
    asyncio.run(refused_soon(asking, made["token"]))

    said = (asking.data / "logs" / "frontend.log").read_text()
    assert made["id"] in said
    assert made["secret"] not in said


async def refused_soon(fleet: Fleet, token: str) -> None:
    async with asyncio.timeout(WITHIN_S), Client(fleet.endpoint, access_key=token) as client:
        while True:
            try:
                await client.invoke("mine", {})
            except UnknownKey:
                return


def test_a_killed_frontend_asks_again_when_it_is_back(asking: Fleet) -> None:
    asking.runs_again("frontend", asking.kill("frontend"))
    assert run(asking, "nodes").returncode == 3
    assert run(asking, "nodes", token=operator(asking)).returncode == 0


@pytest.mark.parametrize("rule", ["InvokeFunctions@f", "InvokeFunction@", "@f"])
def test_a_rule_that_means_nothing_makes_no_key(asking: Fleet, rule: str) -> None:
    done = run(asking, "key", "create", "--etcd", ",".join(asking.etcd), "--allow", rule)
    assert done.returncode == 2


def test_where_is_etcd_is_asked_in_words(asking: Fleet) -> None:
    done = run(asking, "key", "ls")
    assert done.returncode == 2
    assert b"--etcd" in done.stderr
