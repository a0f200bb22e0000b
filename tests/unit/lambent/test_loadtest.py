"""The load test without a fleet: when calls are due, what is counted, what voids a run, what is judged."""

import asyncio
import random
import time
from collections.abc import Callable
from itertools import islice, pairwise
from math import inf
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambent.loadtest.engine import Engine, Progress
from lambent.loadtest.generators import run_in_processes
from lambent.loadtest.histogram import Histogram
from lambent.loadtest.load import AtRate, Closed, Part, Replayed
from lambent.loadtest.page import Rate, page
from lambent.loadtest.report import as_csv, as_json
from lambent.loadtest.results import Results, threshold, with_errors
from lambent.loadtest.run import Calls
from lambent.loadtest.schedule import (
    Send,
    Tried,
    at_rate,
    constant,
    next_rate,
    of_trace,
    poisson,
    verdicts,
)
from lambent.loadtest.transports import Done
from lambent.simulate.trace import Invocation
from lambent_proto.errors import Internal

microseconds = st.lists(st.integers(0, 10**9), min_size=1, max_size=200)


def of(values: list[int]) -> Histogram:
    histogram = Histogram()
    for value in values:
        histogram.record(value)
    return histogram


@given(microseconds, st.sampled_from([0.001, 0.5, 0.9, 0.99, 1.0]))
def test_a_percentile_is_what_sorting_says(values: list[int], share: float) -> None:
    """Never below, and at most 0.2 % above."""
    wanted = -(-share * len(values) // 1)
    exact = sorted(values)[int(wanted) - 1]
    assert exact <= of(values).at(share) <= exact * 1.002


@given(microseconds, microseconds)
def test_merged_is_as_if_recorded_in_one(first: list[int], second: list[int]) -> None:
    merged = of(first)
    merged.merge(of(second))
    assert merged == of(first + second)


def test_a_percentile_of_a_threshold_is_the_one_that_is_shown() -> None:
    """99.9 / 100 is a little more than 0.999 in floating point, and one call more."""
    assert of(list(range(1, 1001))).at(99.9 / 100) == 999


def test_a_stall_counts_for_the_calls_that_it_kept_from_being_made() -> None:
    """A caller of a call each 10 ms that once waited 100 ms left out nine, which would have waited too."""
    measured = of([10_000] * 90 + [100_000])
    corrected = measured.corrected(10_000)
    assert (measured.total, corrected.total) == (91, 100)
    assert measured.at(0.95) < 11_000
    assert corrected.at(0.95) > 50_000
    assert corrected.most_us == measured.most_us


def test_a_constant_rate() -> None:
    sends = list(at_rate(100, 100, 2.0, constant(), 3))
    assert len(sends) == 199
    assert all(b.at - a.at == pytest.approx(0.01) for a, b in pairwise(sends))
    assert [send.target for send in sends[:5]] == [0, 1, 2, 0, 1]


@pytest.mark.parametrize(("first", "last"), [(100, 500), (500, 100)])
def test_a_ramp_has_its_rates_at_both_ends(first: float, last: float) -> None:
    sends = list(at_rate(first, last, 10.0, constant(), 1))
    assert len(sends) == pytest.approx(3000, abs=1)
    assert sum(send.at < 1 for send in sends) == pytest.approx(first + (last - first) / 20, abs=2)
    assert sum(send.at >= 9 for send in sends) == pytest.approx(last - (last - first) / 20, abs=2)


def test_poisson_has_the_rate_and_the_spread() -> None:
    """Distances of a Poisson process spread as much as they are long, and a seed gives the same ones."""
    sends = list(at_rate(1000, 1000, 10.0, poisson(random.Random(1)), 1))
    gaps = [b.at - a.at for a, b in pairwise(sends)]
    mean = sum(gaps) / len(gaps)
    spread = (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5
    assert len(sends) == pytest.approx(10_000, rel=0.05)
    assert spread == pytest.approx(mean, rel=0.05)
    assert sends == list(at_rate(1000, 1000, 10.0, poisson(random.Random(1)), 1))


def test_a_trace_is_compressed_and_shared_out() -> None:
    trace = [Invocation(0.0, 0, 1.0), Invocation(60.0, 5, 1.0), Invocation(90.0, 3, 1.0)]
    assert list(of_trace(trace, 60.0, 2)) == [Send(0.0, 0), Send(1.0, 1), Send(1.5, 1)]


@pytest.mark.parametrize("load", [AtRate(50, 90, 1.0, 2.0, False, 7), Replayed([Send(0.1, 0)] * 9, 0, 1)])
def test_processes_make_each_call_once(load: AtRate | Replayed) -> None:
    """And at the times at which one alone would."""
    parts = [islice(load.sends(3), number, None, 4) for number in range(4)]
    together = sorted((send for part in parts for send in part), key=lambda it: it.at)
    assert together == list(load.sends(3))


def test_processes_share_callers_out() -> None:
    callers = [it for number in range(4) for it in Closed(10, 1.0).callers(Part(number, 4))]
    assert sorted(callers) == list(range(10))


def test_a_ramp_begins_after_the_warm_up() -> None:
    sends = [send.at for send in AtRate(100, 500, 5.0, 10.0, True, 1).sends(1)]
    assert sum(at < 5 for at in sends) == pytest.approx(500, abs=1)
    assert sum(5 <= at < 6 for at in sends) == pytest.approx(120, abs=2)
    assert sum(at >= 14 for at in sends) == pytest.approx(480, abs=2)


@given(st.floats(1, 1e5), st.floats(1, 1e5))
def test_the_knee_is_found(first: float, knee: float) -> None:
    """Within a tenth below it, in a few tries; where it is far below the first rate, that is given up."""
    tried: list[Tried] = []
    while (rate := next_rate(first, tried)) is not None:
        tried.append(Tried(rate, rate <= knee))
        assert len(tried) < 60
    held = [it.rate for it in tried if it.held]
    assert max(held) >= 0.9 * knee if held else knee < first / 16


@given(st.floats(1, 1e3), st.floats(1e3, 1e5), st.integers(0, 30), st.booleans())
def test_one_try_that_was_disturbed_moves_no_knee(first: float, knee: float, which: int, held: bool) -> None:
    """Whichever of them it was, and whether it held that should not have, or the other way round."""
    tried: list[Tried] = []
    while (rate := next_rate(first, tried)) is not None:
        disturbed = len(tried) == which
        tried.append(Tried(rate, held if disturbed else rate <= knee))
        assert len(tried) < 60
    found = max(rate for rate, holds in verdicts(tried).items() if holds)
    assert found <= knee
    assert found >= 0.8 * knee


def filled(sent: int, late: int, latency_s: float = 0.02) -> Results:
    results = Results(0.0, 0.01, seconds=1.0)
    for number in range(sent):
        due = number / sent
        sent_at = due + (0.011 if number < late else 0.0)
        results.was_sent(due, sent_at)
        results.was_answered(due, sent_at, due + latency_s, "cold" if number % 10 == 0 else "warm", "")
    return results


@pytest.mark.parametrize(("late", "void"), [(0, False), (10, False), (11, True)])
def test_more_than_one_in_a_hundred_late_sends_void_it(late: int, void: bool) -> None:
    assert filled(1000, late).void is void


def test_latency_counts_from_when_it_was_due() -> None:
    results = Results(0.0, 0.01)
    results.was_sent(1.0, 3.0)
    results.was_answered(1.0, 3.0, 3.5, "warm", "")
    assert results.latency.most_us == 2_500_000
    assert results.from_send.most_us == 500_000


def test_the_warm_up_is_not_counted() -> None:
    results = Results(1.0, 0.01)
    for due in (0.5, 1.5):
        results.was_sent(due, due)
        results.was_answered(due, due, due + 0.1, "warm", "THROTTLED")
    assert (results.sent, dict(results.errors)) == (1, {"THROTTLED": 1})
    assert sum(step.offered for step in results.steps) == 2


@pytest.mark.parametrize(
    ("said", "crossed"),
    [
        ("p99>19ms", True),
        ("p99>25ms", False),
        ("p50 > 0.019s", True),
        ("max<100us", False),
        ("cold>9%", True),
        ("cold>11%", False),
        ("errors>0%", False),
        ("rate<999", False),
        ("rate<1001", True),
    ],
)
def test_thresholds(said: str, crossed: bool) -> None:
    assert threshold(said).is_crossed(filled(1000, 0)) is crossed


def test_what_fails_is_not_quick() -> None:
    """A threshold of latencies alone holds for no run with many failures, unless it says how many may be."""
    results = filled(50, 0)
    for number in range(50):
        results.was_sent(0.5 + number / 100, 0.5)
        results.was_answered(0.5, 0.5, 0.5, "", "THROTTLED")
    quick, many = threshold("p99>25ms"), threshold("errors>60%")
    assert [it.said for it in with_errors([quick]) if it.is_crossed(results)] == ["errors>1%"]
    assert [*with_errors([quick, many])] == [quick, many]
    assert [*with_errors([])] == []


def test_merged_results_are_as_if_counted_in_one() -> None:
    """Of calls that were shared out among two."""
    one, parts = Results(0.5, 0.01), [Results(0.5, 0.01), Results(0.5, 0.01)]
    for number in range(300):
        due, error = number / 100, "THROTTLED" if number % 7 == 0 else ""
        start = "cold" if number < 99 else "warm"
        for counted in (one, parts[number % 2]):
            counted.was_sent(due, due + number / 10_000)
            counted.was_answered(due, due, due + 0.02 + number / 5_000, start, error)
    for counted in (one, *parts):
        counted.end(3.0)
    whole = Results(0.5, 0.01)
    for part in parts:
        whole.merge(part)
    assert whole == one
    assert as_csv(whole) == as_csv(one)


@pytest.mark.parametrize(("late", "surely"), [(10, False), (11, True)])
def test_a_run_is_surely_void_once_too_many_of_all_its_calls_were_late(late: int, surely: bool) -> None:
    """Of those that are still to come as well."""
    load = AtRate(100, 100, 5.0, 10.0, True, 1)
    assert Results(5.0, 0.01, load.due).surely_void(late) is surely
    assert not Results(5.0, 0.01).surely_void(10**6)


@pytest.mark.parametrize("said", ["p99", "p99>50", "p99>50%", "errors>1ms", "p100>1ms", "rate<5%", "late>1"])
def test_a_threshold_that_is_none_is_refused(said: str) -> None:
    with pytest.raises(ValueError, match=said.split(">")[0][:2]):
        threshold(said)


class Instant:
    """Answers at the loop's next turn, after `work` has kept the loop busy, as a generator that is slow."""

    def __init__(self, work: Callable[[], None] = lambda: None, error: str = "") -> None:
        self._work = work
        self._error = error
        self.begun = 0

    def begin(self, target: int, done: Done) -> None:
        self.begun += 1
        self._work()
        asyncio.get_running_loop().call_soon(done, "warm", self._error)

    async def close(self) -> None: ...


async def test_a_generator_that_is_too_slow_voids_its_run() -> None:
    """It wants 1,000 a second and each costs it 3 ms; what is late counts as the calls' latency too."""
    engine = Engine(Instant(lambda: time.sleep(0.003)), Results(0.0, 0.01), 5.0)
    await engine.open_loop(islice(at_rate(1000, 1000, 1.0, constant(), 1), 100), 0.1)
    assert engine.results.void
    assert engine.results.latency.most_us > 150_000
    assert engine.results.latency.total == engine.results.sent == 100


async def test_every_call_of_an_open_loop_is_made_and_counted() -> None:
    transport = Instant(error="THROTTLED")
    engine = Engine(transport, Results(0.0, 60.0), 5.0)
    await engine.open_loop(at_rate(5000, 5000, 0.1, constant(), 1), 0.1)
    assert transport.begun == engine.results.sent == engine.results.errors["THROTTLED"] == 499


async def test_a_closed_loop_has_so_many_in_flight() -> None:
    class Held(Instant):
        most = 0

        def begin(self, target: int, done: Done) -> None:
            self.begun += 1
            self.most = max(self.most, engine.in_flight)
            asyncio.get_running_loop().call_later(0.005, done, "warm", "")

    transport = Held()
    engine = Engine(transport, Results(0.0, 60.0), 5.0)
    await engine.closed_loop(range(7), 0.1, 1)
    assert transport.most == 7
    assert 7 < transport.begun == engine.results.latency.total


@pytest.mark.parametrize(("busy", "due", "void"), [(0.91, inf, True), (0.9, inf, False), (1.0, 9.0, False)])
def test_a_closed_loop_that_its_generator_holds_up_is_void(busy: float, due: float, void: bool) -> None:
    """As none of its calls is due, none can be late: what tells is that the generator is never idle."""
    assert Results(0.0, 0.01, due, busy_share=busy).void is void


@pytest.mark.parametrize(("work_s", "busy"), [(0.003, True), (0.0, False)])
async def test_how_busy_a_generator_was(work_s: float, busy: bool) -> None:
    class Answering(Instant):
        def begin(self, target: int, done: Done) -> None:
            end = time.thread_time() + work_s
            while time.thread_time() < end:
                pass
            asyncio.get_running_loop().call_later(0.0 if work_s else 0.05, done, "warm", "")

    engine = Engine(Answering(), Results(0.0, 0.01), 5.0)
    await engine.closed_loop(range(4), 0.2, 1)
    assert (engine.results.busy_share > 0.5) is busy


async def test_a_process_that_dies_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing is left of the others."""
    started: list[asyncio.subprocess.Process] = []
    real = asyncio.create_subprocess_exec

    async def start(*command: str, **options: Any) -> asyncio.subprocess.Process:
        started.append(await real(*command, **options))
        return started[-1]

    monkeypatch.setattr(asyncio, "create_subprocess_exec", start)
    monkeypatch.setenv("LAMBENT_CA", "/nowhere/ca.pem")  # each of them finds that it cannot begin
    calls, load = Calls(["echo"], b"{}", "http", "127.0.0.1:1", "127.0.0.1:1", ""), Closed(2, 600.0)
    with pytest.raises(Internal, match="ended without its results"):
        await run_in_processes(calls, load, Results(0.0, 0.01), 1.0, lambda _: False, 2)
    monkeypatch.delenv("LAMBENT_CA")

    def tick(_: Progress) -> bool:
        started[-1].kill()
        return False

    with pytest.raises(Internal, match="ended without its results"):
        await run_in_processes(calls, load, Results(0.0, 0.01), 1.0, tick, 2)
    assert [it.returncode is None for it in started] == [False] * 4


async def test_what_is_never_answered_is_told() -> None:
    class Silent(Instant):
        def begin(self, target: int, done: Done) -> None: ...

    engine = Engine(Silent(), Results(0.0, 60.0), 0.01)
    await engine.open_loop([Send(0.0, 0), Send(0.001, 0)], 0.01)
    assert engine.results.figures()["unanswered"] == 2
    assert not engine.results.holds(1000.0)


async def test_what_is_answered_after_the_end_is_in_no_rate() -> None:
    """A fleet that is too slow for what is offered would else be said to have kept up."""

    class Slow(Instant):
        def begin(self, target: int, done: Done) -> None:
            asyncio.get_running_loop().call_later(0.1, done, "warm", "")

    engine = Engine(Slow(), Results(0.0, 60.0), 60.0)
    await engine.open_loop([Send(0.0, 0), Send(0.001, 0)], 0.002)
    figures = engine.results.figures()
    assert (figures["succeeded"], figures["succeeded_per_s"]) == (2, 0.0)
    assert threshold("rate<1").is_crossed(engine.results)


async def test_a_timer_that_is_early_takes_nothing_off_a_latency(monkeypatch: pytest.MonkeyPatch) -> None:
    real = asyncio.sleep
    monkeypatch.setattr(asyncio, "sleep", lambda _: real(0))
    engine = Engine(Instant(lambda: time.sleep(0.003)), Results(0.0, 60.0), 60.0)
    await engine.open_loop([Send(60.0, 0)], 60.0)
    assert engine.results.latency.most_us == engine.results.from_send.most_us >= 3000


def test_a_second_in_which_nobody_was_asked_has_as_many_instances_as_before() -> None:
    """A page of it is the same as one where somebody was asked and nothing had changed."""

    def drawn(*leased: int | None) -> str:
        results = filled(1000, 0)
        for number, count in enumerate(leased):
            results.step(number).leased = results.step(number).other = count
        return page("of it", [], results, closed=False, rates=[])

    assert drawn(3, None, 2) == drawn(3, 3, 2) != drawn(3, 0, 2)


def test_the_page_stands_alone() -> None:
    rates = [Rate(100.0, 99.0, 20.0, True), Rate(200.0, 120.0, 900.0, False)]
    html = page("of <a>", ["said & done"], filled(1000, 0), closed=False, rates=rates)
    assert "of &lt;a&gt;" in html
    assert "said &amp; done" in html
    assert "prefers-color-scheme: dark" in html
    assert "too much" in html
    assert "http" not in html
    assert "src=" not in html


def test_the_rows_of_the_csv_add_up() -> None:
    results = filled(1000, 0)
    head, *lines = as_csv(results).splitlines()
    column = head.split(",").index("succeeded")
    assert sum(int(line.split(",")[column]) for line in lines) == 1000
    assert as_json(results, closed=False)["cold_percent"] == 10.0
