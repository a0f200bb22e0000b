"""Versions, aliases and what is kept ready, on a real fleet: which code runs, and how it was started."""

import json
from collections import Counter
from typing import Any, Final

import pytest

from lambent.client import Client
from lambent_proto.errors import UnknownFunction
from tests.e2e.evidence import APP, Evidence, deploy, package
from tests.e2e.fleet import Fleet
from tests.e2e.load import calling, eventually

pytestmark = pytest.mark.e2e

SECOND: Final = {"app.py": APP.replace('"first"', '"second"')}


async def answer(client: Client, target: str) -> str:
    done = await client.invoke(target, {})
    assert isinstance(done.json(), dict)
    return f"{done.executed_version} {done.json()['answer']}"


async def published(client: Client, name: str, evidence: Evidence) -> None:
    """Version 1 answers `first`, `$LATEST` answers `second`."""
    await deploy(client, name, evidence)
    assert (await client.versions.publish(name)).version == "1"
    await client.update_function(name, package(SECOND))


async def test_a_version_stays_as_it_was(client: Client, name: str, evidence: Evidence) -> None:
    """Both run beside each other, each warm the second time; once deleted it is gone."""
    await published(client, name, evidence)
    for _ in range(2):
        assert await answer(client, f"{name}:1") == "1 first"
        assert await answer(client, name) == "$LATEST second"
    starts = [(await client.invoke(target, {})).explanation.start for target in (name, f"{name}:1")]
    assert starts == ["warm", "warm"]
    await client.versions.delete(name, "1")
    with pytest.raises(UnknownFunction, match="no version or alias '1'"):
        await client.invoke(f"{name}:1", {})
    assert await answer(client, name) == "$LATEST second"


async def test_an_alias_is_moved_under_load(client: Client, name: str, evidence: Evidence) -> None:
    """No call fails, and those begun after the change run what it points to now."""
    await published(client, name, evidence)
    await client.versions.publish(name)
    await client.versions.create_alias(name, "live", "1")
    async with calling(client, f"{name}:live", callers=3, sleep=0.01) as load:
        await load.more(10)
        await client.versions.update_alias(name, "live", version="2")
        assert await answer(client, f"{name}:live") == "2 second"
        await load.more(10)
    assert load.errors == []


async def test_an_alias_of_two_versions(client: Client, name: str, evidence: Evidence) -> None:
    """By chance: of 200 calls at a half each, neither gets fewer than 50, but once in 10 to the 13."""
    await published(client, name, evidence)
    await client.versions.publish(name)
    await client.versions.create_alias(name, "live", "1", weights={"2": 0.5})
    counts = Counter([await answer(client, f"{name}:live") for _ in range(200)])
    assert set(counts) == {"1 first", "2 second"}
    assert min(counts.values()) >= 50


async def test_what_is_ready_needs_no_start(client: Client, name: str, evidence: Evidence) -> None:
    """Two instances are born before anybody calls, the first call finds one; a third call starts its own."""
    await published(client, name, evidence)
    await client.versions.put_provisioned(name, "1", 2)

    async def ready() -> bool:
        return (await client.versions.get_provisioned(name, "1")).status == "READY"

    await eventually(ready, "two are ready")
    assert (len(evidence.births()), evidence.runs()) == (2, [])
    done = await client.invoke(f"{name}:1", {})
    assert (done.explanation.start, done.explanation.reason) == ("warm", "provisioned")
    await client.versions.delete_provisioned(name, "1")
    assert await client.versions.list_provisioned(name) == []


def said(fleet: Fleet, *arguments: str) -> str:
    done = fleet.lambent(*arguments)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


def told(fleet: Fleet, *arguments: str) -> Any:
    return json.loads(said(fleet, *arguments))


async def test_on_the_command_line(shared: Fleet, client: Client, name: str, evidence: Evidence) -> None:
    """As the page about versions has it."""
    await deploy(client, name, evidence)
    one = told(shared, "version", "publish", name, "--json")
    assert one["version"] == "1"
    await client.update_function(name, package(SECOND))
    said(shared, "version", "publish", name)
    made = told(shared, "alias", "create", name, "live", "1", "--weight", "2=0.1", "--json")
    assert (made["version"], made["weights"]) == ("1", {"2": 0.1})
    assert "2=0.1" in said(shared, "alias", "ls", name)
    said(shared, "alias", "update", name, "live", "--version", "2", "--weight", "none")
    assert told(shared, "alias", "get", name, "live", "--json")["version"] == "2"
    said(shared, "provisioned", "set", name, "live", "1")
    assert "live" in said(shared, "provisioned", "ls", name)
    assert told(shared, "invoke", f"{name}:live", "-d", "{}")["answer"] == "second"
    said(shared, "provisioned", "delete", name, "live")
    said(shared, "alias", "delete", name, "live")
    said(shared, "version", "delete", name, "1")
    listed = told(shared, "version", "ls", name, "--json")
    assert [it["version"] for it in listed] == ["$LATEST", "2"]
    assert told(shared, "function", "get", f"{name}:2", "--json")["version"] == "2"
