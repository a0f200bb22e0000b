"""The results as rows, as CSV and as what JSON takes."""

import csv
import io
from collections.abc import Sequence
from typing import Any

from lambent.loadtest.histogram import Histogram
from lambent.loadtest.results import PERCENTILES, Results

SHARES = (0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 0.9999, 1.0)

COLUMNS = ("calls", *(f"p{100 * share:g} ms" for share in PERCENTILES), "max ms")


def latencies(results: Results, *, closed: bool) -> list[tuple[str, Histogram]]:
    """What has a row. That of a closed loop comes corrected as well: its median is the interval."""
    if closed:
        corrected = results.latency.corrected(results.latency.at(0.5))
        shown = [("as measured", results.latency), ("corrected for omission", corrected)]
    else:
        shown = [("from when due", results.latency), ("from when sent", results.from_send)]
    return [*shown, ("warm", results.warm), ("cold", results.cold)]


def rows(results: Results, *, closed: bool) -> list[Sequence[str]]:
    return [
        (
            name,
            f"{it.total:,}",
            *(f"{it.at(share) / 1000:,.2f}" for share in PERCENTILES),
            f"{it.most_us / 1000:,.2f}",
        )
        for name, it in latencies(results, closed=closed)
        if it.total
    ]


def as_json(results: Results, *, closed: bool) -> dict[str, Any]:
    curves = {
        name: {f"p{100 * share:g}": it.at(share) / 1000 for share in SHARES}
        for name, it in latencies(results, closed=closed)
    }
    return {
        **results.figures(),
        "void": results.void,
        "stopped": results.stopped,
        "interrupted": results.interrupted,
        "errors": dict(results.errors.most_common()),
        "latency_ms": curves,
        "latency_ms_counts": {name: it.total for name, it in latencies(results, closed=closed)},
        "over_time": [dict(zip(STEP_COLUMNS, row, strict=True)) for row in _steps(results)],
    }


STEP_COLUMNS = (
    "second",
    "offered",
    "succeeded",
    "failed",
    "cold",
    "p50_ms",
    "p99_ms",
    "instances_leased",
    "instances_other",
)


def as_csv(results: Results) -> str:
    """A row for each second; the first ones may be the warm-up."""
    written = io.StringIO()
    csv.writer(written, lineterminator="\n").writerows([STEP_COLUMNS, *_steps(results)])
    return written.getvalue()


def _steps(results: Results) -> list[tuple[float | None, ...]]:
    return [
        (
            number,
            it.offered,
            it.answered,
            it.failed,
            it.cold,
            it.latency.at(0.5) / 1000,
            it.latency.at(0.99) / 1000,
            it.leased,
            it.other,
        )
        for number, it in enumerate(results.steps)
    ]
