"""What `lambent simulate` keeps over time, and the plots of it."""

import re
import xml.etree.ElementTree as ElementTree

import pytest

from lambent.simulate.over_time import OverTime, step_s
from lambent.simulate.page import page
from lambent.simulate.plots import Panel, bars, round_up, side_by_side, span
from lambent.simulate.policies import POLICIES, Plan, simulate
from lambent.simulate.trace import Invocation, Trace, TracedFunction

ONE = Trace([TracedFunction("f", 1024, [])])


def over_time(policy: str, calls: list[Invocation], **plan: float) -> OverTime:
    """On one node that has room for one instance, whose start takes half a second, in steps of a second."""
    settled = {"cold_s": 0.5, "keep_alive_s": 4.0, "warm_up_s": 0.0, "seed": 1, "step_s": 1.0}
    settled |= {"nodes": 1, "node_mb": 1024} | plan
    return simulate(policy, ONE, calls, Plan(**settled), lambda _: None).over_time  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("since", "until", "busy"),
    [
        pytest.param(1.25, 1.75, [0, 0.5], id="within a step"),
        pytest.param(0.5, 3.25, [0.5, 1, 1, 0.25], id="over several"),
        pytest.param(1.0, 1.0, [], id="no time at all"),
    ],
)
def test_a_span_is_shared_out_over_the_steps(since: float, until: float, busy: list[float]) -> None:
    kept = OverTime(1.0, 0.0)
    kept.ran(since, until)
    assert kept.busy() == busy


@pytest.mark.parametrize(
    ("value", "said"), [(0.01234, "0.0123"), (12.3456, "12.3"), (999.7, "1,000"), (12345.6, "12,346")]
)
def test_a_bar_says_its_value_as_a_person_would(value: float, said: str) -> None:
    assert f">{said}</text>" in bars([("of it", value)])


@pytest.mark.parametrize("policy", POLICIES)
def test_what_is_kept_over_time(policy: str) -> None:
    """One cold call of two seconds, beside which a second one waits for its instance."""
    kept = over_time(policy, [Invocation(0.0, 0, 2.0), Invocation(0.5, 0, 2.0)])
    assert kept.cold_a_minute()[:5] == pytest.approx([60, 0, 0, 0, 0])
    assert kept.busy()[:5] == pytest.approx([0.5, 1, 1, 1, 0.5])
    assert kept.waiting()[:3] == pytest.approx([1.0, 1.0, 0.5])
    assert sum(kept.idle()[:4]) == pytest.approx(0.0, abs=1e-6)


def test_the_scheduler_keeps_an_idle_instance_for_its_time() -> None:
    """Forty seconds, and a hundredth longer at the most."""
    kept = over_time("fixed", [Invocation(0.0, 0, 1.5)], keep_alive_s=40.0)
    assert kept.idle()[:42] == pytest.approx([0, 0, *[1] * 40])
    assert 40.0 <= sum(kept.idle()) <= 40.5


def test_steps_grow_with_the_trace() -> None:
    assert [step_s(minutes) for minutes in (5, 60, 480, 1000, 1001, 43_200)] == [1, 60, 60, 60, 120, 2640]


def test_panels_share_their_scale() -> None:
    """That of what counts: before it a peak is cut off."""
    low, high = Panel("a", [[1.0, 2.0]], 60.0), Panel("b", [[900.0, 3.0], [0.0, 1.0]], 60.0, from_s=60.0)
    drawn = side_by_side([low, high])
    assert re.findall(r"text-anchor=end>(\d+)<", drawn) == ["4", "0", "4", "0"]
    assert "mean 4, peak 4" in drawn
    assert drawn.count("class=mark") == 1


def test_a_plot_is_made_of_steps_to_scale() -> None:
    """Half of the height for half of the scale, and over the whole width."""
    (path,) = re.findall(r"class=bar d='([^']*)'", side_by_side([Panel("a", [[1.0, 2.0]], 1.0)]))
    assert path == "M44 136V71.0H194.0V6.0H344.0V136Z"


def test_names_are_shown_as_they_are() -> None:
    """And never as HTML."""
    drawn = side_by_side([Panel("<b>'", [[1.0]], 1.0)], names=["<i>"])
    assert "<b>'" not in drawn
    assert "<i>" not in drawn


@pytest.mark.parametrize(("value", "top"), [(0, 1), (0.3, 0.3), (1.2, 1.5), (17, 20), (88, 90), (951, 1000)])
def test_scales_end_in_round_numbers(value: float, top: float) -> None:
    assert round_up(value) == pytest.approx(top)


def test_spans_are_said_in_their_unit() -> None:
    assert [span(seconds) for seconds in (30, 1800, 28_860)] == ["30 s", "30 min", "8.0 h"]


def test_the_page_has_a_plot_over_time_of_each_policy() -> None:
    """Of cold starts, instances and waiting calls, well-formed and with nothing from elsewhere."""
    calls = [Invocation(float(at), 0, 0.5) for at in range(10)]
    plan = Plan(1, 1024, 0.5, 4.0, 0.0, 1, 1.0)
    html = page(
        "a page", [simulate(policy, ONE, calls, plan, lambda _: None) for policy in ("lru", "random")]
    )
    drawn = re.findall(r"<svg.*?</svg>", html)
    assert sum("aria-label='lru: mean" in svg for svg in drawn) == 3
    for svg in drawn:
        ElementTree.fromstring(re.sub(r"=([^'\s>/]+)", r"='\1'", svg))
    assert "http" not in html
    assert "prefers-color-scheme: dark" in html
