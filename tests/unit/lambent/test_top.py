"""What `lambent top` makes of what it is told, and what fits on a screen."""

import dataclasses
import io

import pytest
from rich.console import Console

from lambent.cli.top import screen
from lambent.top import Told, facts, snapshot
from lambent_proto.v1.fleet_pb2 import FunctionActivity, Instance, Node


def fleet(functions: int = 2) -> Told:
    return Told(
        [
            Node(name="b", state="connected", memory_mb=1024, memory_used_mb=512, instances=2),
            Node(name="a", state="draining", memory_mb=1024),
        ],
        [
            Instance(id="1", function_name="f0", node="b", state="leased", memory_mb=256),
            Instance(id="2", function_name="idle", node="b", state="idle", memory_mb=256),
        ],
        [
            FunctionActivity(
                function_name=f"f{n}",
                calls_per_s=functions - n,
                calls=10,
                failed=n,
                ran=8,
                cold=2,
                waiting=n,
                p50_ms=5,
                p99_ms=9,
                took={1: 8},
            )
            for n in range(functions)
        ],
    )


def test_functions_with_the_most_calls_come_first() -> None:
    """With their instances; one that is only warm is there too, and no share of it is made up."""
    shot = snapshot(fleet())
    assert [it.function for it in shot.functions] == ["f0", "f1", "idle"]
    busiest, failing, idle = shot.functions
    assert (busiest.instances, busiest.busy, busiest.memory_mb, busiest.cold) == (1, 1, 256, 0.25)
    assert (failing.failed, failing.waiting) == (0.1, 1)
    assert (idle.instances, idle.failed, idle.cold, idle.p99_ms) == (1, None, None, None)


def test_nodes_have_their_functions() -> None:
    a, b = snapshot(fleet()).nodes
    assert (a.node, a.state, a.functions) == ("a", "draining", {})
    assert (b.node, b.busy, b.functions) == ("b", 1, {"f0": 1, "idle": 1})
    assert facts(snapshot(fleet()), 15)["nodes"][1]["functions"] == {"f0": 1, "idle": 1}


def shown(told: Told, height: int, away: str = "", width: int = 140) -> list[str]:
    console = Console(file=io.StringIO(), width=width, height=height)
    console.print(screen(snapshot(told), "127.0.0.1:1", (width, height), away))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_a_small_terminal_is_not_overrun() -> None:
    """What is left out is counted."""
    lines = shown(fleet(functions=50), height=20)
    assert len(lines) <= 20
    assert "more functions" in lines[-1]
    assert any("f0" in line for line in lines)


def test_it_says_that_it_is_not_fresh() -> None:
    lines = shown(fleet(), 30, away="nobody answers")
    assert any("Not fresh: nobody answers" in line for line in lines)


@pytest.mark.parametrize("width", [140, 100, 80, 60])
def test_a_narrow_terminal_shows_what_matters(width: int) -> None:
    """No line is wrapped and no column cut; rates, failures and waiting are there always."""
    lines = shown(fleet(), 30, width=width)
    heads = [line for line in lines if line.startswith(("node", "function"))]
    assert len(heads) == 2
    assert not any("…" in line for line in lines)
    assert {"calls/s", "failed", "waiting", "p99"} <= set(heads[1].split())
    assert ("memory" in heads[1]) == (width == 140)
    assert next(line for line in lines if line.startswith("f0")).split()[1] == "2.0"


def test_what_the_key_may_not_see_is_no_zero() -> None:
    """Of instances, or of calls: a dash on a screen and null for tools."""
    whole = fleet()
    blind = snapshot(dataclasses.replace(whole, instances=None))
    assert (blind.functions[0].calls_per_s, blind.functions[0].instances, blind.nodes[1].busy) == (
        2,
        None,
        None,
    )
    deaf = snapshot(dataclasses.replace(whole, functions=None))
    assert (deaf.calls_per_s, deaf.waiting, deaf.functions[0].calls_per_s) == (None, None, None)
    assert deaf.functions[0].instances == 1
    assert facts(deaf, 15)["calls_per_s"] is None
    assert any("- calls/s" in line for line in shown(dataclasses.replace(whole, functions=None), 30))


def test_names_are_not_markup() -> None:
    """What is in brackets is not taken for a colour."""
    told = Told(functions=[FunctionActivity(function_name="[red]x[/red]", calls=1)])
    assert any("[red]x[/red]" in line for line in shown(told, 20))
