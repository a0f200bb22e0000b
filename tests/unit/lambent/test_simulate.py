"""`lambent simulate`: traces, and what the policies make of them."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from lambent.cli import lambent
from lambent.simulate.figures import Figures
from lambent.simulate.policies import POLICIES, Plan, simulate
from lambent.simulate.trace import BrokenTrace, Invocation, Trace, TracedFunction, generated, read

MINUTES = 60


def function(name: str, memory_mb: int, per_minute: list[int]) -> TracedFunction:
    return TracedFunction(name, memory_mb, per_minute)


def run(policy: str, trace: Trace, invocations: list[Invocation], **plan: float) -> Figures:
    settled = {
        "nodes": 2,
        "node_mb": 1024,
        "cold_s": 0.25,
        "keep_alive_s": 600.0,
        "warm_up_s": 0.0,
        "seed": 1,
    }
    return simulate(policy, trace, invocations, Plan(**(settled | plan)), lambda _: None)  # type: ignore[arg-type]


def each(seconds: float, times: int, function: int = 0, duration_s: float = 0.1) -> list[Invocation]:
    return [Invocation(number * seconds, function, duration_s) for number in range(times)]


def idle_gb_h(figures: Figures) -> float:
    assert figures.idle_gb_h is not None, "it is known of what was simulated"
    return figures.idle_gb_h


ONE = Trace([function("f", 128, [])])


@pytest.mark.parametrize(
    ("policy", "seconds", "cold"),
    [
        pytest.param("fixed", 60.0, 1, id="within the time it is kept: the first alone"),
        pytest.param("fixed", 700.0, 10, id="beyond it: each"),
        pytest.param("lru", 700.0, 1, id="until the memory is needed: the first alone"),
    ],
)
def test_how_long_an_instance_is_kept(policy: str, seconds: float, cold: int) -> None:
    assert run(policy, ONE, each(seconds, 10)).cold == cold


def test_memory_that_is_needed_is_taken_from_the_least_recently_used() -> None:
    """Two functions of which one fits at a time, on one node: each call is cold, under any policy."""
    trace = Trace([function("a", 600, []), function("b", 600, [])])
    calls = [Invocation(10.0 * number, number % 2, 0.1) for number in range(20)]
    for policy in POLICIES:
        assert run(policy, trace, calls, nodes=1).cold == 20, policy


@pytest.mark.parametrize(
    ("policy", "cold"),
    [
        pytest.param("fixed", 10, id="kept for less than it is idle: each"),
        pytest.param("histogram", 4, id="started ahead, once three idle times are known"),
    ],
)
def test_a_function_that_is_called_at_intervals(policy: str, cold: int) -> None:
    """Every 20 minutes, with instances kept for 10 where nothing better is known."""
    figures = run(policy, ONE, each(1200.0, 10))
    assert (figures.cold, figures.starts) == (cold, 10)


def test_what_starts_ahead_costs_less_memory_than_what_is_kept() -> None:
    """For as many warm calls."""
    calls = each(1200.0, 30)
    kept, ahead = (run(policy, ONE, calls, keep_alive_s=3600.0) for policy in ("fixed", "histogram"))
    assert (kept.cold, ahead.cold) == (1, 1)
    assert idle_gb_h(ahead) < idle_gb_h(kept) / 2


def test_under_pressure_greedy_dual_keeps_what_is_called_often() -> None:
    """Three of four functions fit; one was called often before all take turns."""
    trace = Trace([function(name, 256, []) for name in "abcd"])
    often = [Invocation(float(number), 0, 0.1) for number in range(20)]
    rounds = [Invocation(20.0 + 10 * number, (1, 2, 3, 0)[number % 4], 0.1) for number in range(40)]
    lru, dual = (
        run(it, trace, often + rounds, nodes=1, node_mb=768, keep_alive_s=1e6)
        for it in ("lru", "greedy-dual")
    )
    assert (lru.cold, dual.cold) == (41, 31)


def test_after_a_quiet_time_leases_are_given_up_as_soon_as_ever() -> None:
    """The second function gets the memory of the first once that has been idle for a moment."""
    trace = Trace([function("a", 600, []), function("b", 600, [])])
    figures = run("lru", trace, [Invocation(5.0, 0, 0.1), Invocation(6.0, 1, 0.1)], nodes=1)
    assert figures.cold == 2
    assert figures.wait_p99_ms == pytest.approx(250.0)


def test_each_start_takes_what_is_said_of_it() -> None:
    """Further ones take the usual time."""
    calls = [Invocation(10.0 * number, number, 0.1) for number in range(3)]
    trace = Trace([function(name, 100, []) for name in "abc"])
    plan = Plan(1, 1024, 0.25, 600.0, 0.0, 1, starts_s=(1.5, 0.5))
    waits = simulate("fixed", trace, calls, plan, lambda _: None).over_time.waiting_s
    assert waits[0] == pytest.approx(1.5 + 0.5 + 0.25)


def test_two_calls_at_once_need_two_instances() -> None:
    """And both are warm from then on."""
    calls = [Invocation(at, 0, 1.0) for at in (0.0, 0.0, 10.0, 10.0, 20.0, 20.0)]
    assert run("lru", ONE, calls).cold == 2


def test_who_waits_takes_what_is_free_first() -> None:
    """A call that came while one was starting is warm if another instance was free before."""
    calls = [Invocation(0.0, 0, 0.2), Invocation(0.30, 0, 0.2)]
    figures = run("lru", ONE, calls)
    assert (figures.cold, figures.calls) == (1, 2)


def test_idle_memory_is_counted() -> None:
    """128 MB while it waits for the next call or for its end, and nothing while it runs."""
    calls = [Invocation(0.0, 0, 10.0), Invocation(500.0, 0, 0.1), Invocation(9000.0, 0, 0.1)]
    idle_s = 490 + 600 + 60  # the run ends a minute after the last call
    assert run("fixed", ONE, calls).idle_gb_h == pytest.approx(0.125 * idle_s / 3600, rel=0.03)


def test_the_warm_index_beats_routing_that_does_not_know_it() -> None:
    """On a trace of the shape of the published one, as on that one itself."""
    trace = generated(functions=60, minutes=MINUTES * 2, seed=7)
    invocations = trace.invocations(seed=7)
    figures = {
        policy: run(policy, trace, invocations, nodes=8, node_mb=2048, warm_up_s=3600.0)
        for policy in ("lru", "fixed", "random", "least-loaded")
    }
    warm = {policy: it.warm_percent for policy, it in figures.items()}
    assert warm["lru"] >= warm["fixed"] > max(warm["random"], warm["least-loaded"]), warm
    assert idle_gb_h(figures["lru"]) < idle_gb_h(figures["random"])


def test_the_same_seed_is_the_same_trace() -> None:
    assert generated(20, 30, 3).invocations(5) == generated(20, 30, 3).invocations(5)
    assert generated(20, 30, 3).invocations(5) != generated(20, 30, 4).invocations(5)


def write(folder: Path, **files: str) -> Path:
    texts = {
        "invocations": "HashOwner,HashApp,HashFunction,Trigger,480,481\no,a,f,timer,2,1\n",
        "durations": "HashFunction,"
        + ",".join(f"percentile_Average_{p}" for p in (0, 1, 25, 50, 75, 99, 100))
        + "\nf,100,100,100,100,100,100,100\n",
        "memory": "HashFunction,AverageAllocatedMb_pct50\nf,99.5\n",
    } | files
    for name, text in texts.items():
        (folder / f"{name}.csv").write_text(text)
    return folder


def test_a_trace_is_read_as_it_is_published(tmp_path: Path) -> None:
    """Counts a minute, durations along the percentiles, the median of memory."""
    trace = read(write(tmp_path))
    assert [(it.name, it.memory_mb, it.per_minute) for it in trace.functions] == [("f", 100, [2, 1])]
    invocations = trace.invocations(1)
    assert [int(it.at // 60) for it in invocations] == [0, 0, 1]
    assert {it.duration_s for it in invocations} == {0.1}


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"memory": "HashFunction\nf\n"}, "memory.csv has no column AverageAllocatedMb_pct50"),
        ({"invocations": "HashFunction,Trigger,480\nf,timer,many\n"}, "invocations.csv"),
        ({"invocations": "HashFunction,Trigger,480\n"}, "has no function"),
    ],
)
def test_a_broken_trace_is_refused(tmp_path: Path, files: dict[str, str], words: str) -> None:
    """With the file and what is wrong with it."""
    with pytest.raises(BrokenTrace, match=words):
        read(write(tmp_path, **files))


def test_the_command_prints_figures_and_writes_a_page(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    arguments = ["simulate", "--minutes", "70", "--functions", "10", "--policy", "lru", "--json"]
    arguments += ["--html", str(page)]
    done = CliRunner().invoke(lambent, arguments)
    assert done.exit_code == 0, done.output
    (figures,) = json.loads(done.stdout)
    assert (figures["policy"], figures["throttled"]) == ("lru", 0)
    assert "<svg" in page.read_text()
    assert "https:" not in page.read_text(), "nothing from elsewhere"


def test_a_policy_that_nobody_knows() -> None:
    done = CliRunner().invoke(lambent, ["simulate", "--policy", "best"])
    assert done.exit_code == 2
    assert "fixed, lru, greedy-dual, histogram, random, least-loaded" in done.output
