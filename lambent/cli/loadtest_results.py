"""What `lambent loadtest` says while it runs and at its end, and the exit code that it comes to."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from lambent.cli.failures import SERVICE, USAGE, FailedCommand
from lambent.cli.output import print_json, print_table
from lambent.loadtest import report
from lambent.loadtest.engine import Progress
from lambent.loadtest.page import Rate, page
from lambent.loadtest.results import Results, with_errors

if TYPE_CHECKING:
    from lambent.cli.loadtest import Asked

CROSSED: Final = 1
VOID: Final = 4
INTERRUPTED: Final = 130

LINE_S: Final = 5.0
"""Between lines of progress where there is no terminal."""


class Shown:
    """On a terminal one line that changes, elsewhere a line every few seconds; to standard error."""

    def __init__(self, live: bool) -> None:
        self._live = live
        self._next = LINE_S

    def tick(self, progress: Progress) -> None:
        now, last = progress.at, progress.step
        if last is None or (not self._live and now < self._next):
            return
        self._next = now + LINE_S
        cold = 100 * last.cold / last.answered if last.answered else 0.0
        line = (
            f"{now:6.1f} s  {last.answered:,}/s of {last.offered:,}  in flight {progress.in_flight:,}  "
            f"p50 {last.latency.at(0.5) / 1000:.2f} ms  p99 {last.latency.at(0.99) / 1000:.2f} ms  "
            f"errors {progress.errors:,}  cold {cold:.1f} %"
        )
        click.echo(f"\r\x1b[K{line}" if self._live else line, err=True, nl=not self._live)

    def end(self) -> None:
        if self._live:
            click.echo("\r\x1b[K", err=True, nl=False)


def tell(results: Results, rates: list[Rate], asked: "Asked", as_json: bool, what: str) -> None:
    closed = asked.concurrency is not None
    facts = _facts(results, rates)
    if as_json:
        print_json({**report.as_json(results, closed=closed), "rates": [asdict(rate) for rate in rates]})
    else:
        _print(results, facts, closed)
    if asked.csv_file:
        _write(asked.csv_file, report.as_csv(results))
    if asked.html:
        said = [*facts, _void_said(asked)] if results.void else facts
        _write(asked.html, page(f"Load test of {what}", said, results, closed=closed, rates=rates))


def _write(file: Path, text: str) -> None:
    try:
        file.write_text(text)
    except OSError as error:
        raise FailedCommand(f"{file} cannot be written: {error.strerror}", USAGE) from error


def _print(results: Results, facts: list[str], closed: bool) -> None:
    for fact in facts:
        click.echo(fact)
    click.echo()
    if results.latency.total:
        print_table(("latency", *report.COLUMNS), report.rows(results, closed=closed), "")
    if results.errors:
        click.echo()
        print_table(("error", "calls"), results.errors.most_common(), "")


def _void_said(asked: "Asked") -> str:
    what = (
        "the generator was busy all the time" if asked.concurrency else "more than 1 % of the calls were late"
    )
    less = "fewer callers" if asked.concurrency else "a lower rate"
    return (
        f"VOID: {what}, so it is the generator that was measured. Give it CPUs of its own, more --processes, "
        f"or {less}."
    )


def _facts(results: Results, rates: list[Rate]) -> list[str]:
    it = results.figures()
    called = (
        f"{it['sent']:,} calls in {it['seconds']:.1f} s: {it['offered_per_s']:,.1f} a second offered, "
        f"{it['succeeded_per_s']:,.1f} succeeded; {it['failed']:,} failed, {it['unanswered']:,} unanswered; "
        f"{it['cold_percent']:.2f} % cold."
    )
    generator = (
        f"The generator used {it['generator_cpu_percent']:.0f} % of one CPU, busy for "
        f"{it['generator_busy_percent']:.0f} % of the time; it sent {it['late_percent']:.2f} % of the calls "
        f"late, p99 {it['late_p99_ms']:.2f} ms after they were due."
    )
    said = [called, generator]
    if results.stopped:
        said.append("It was stopped before its end, as it was void already: --even-if-void lets it go on.")
    held = [rate for rate in rates if rate.held]
    if held:
        best = max(held, key=lambda rate: rate.offered)
        said.insert(0, f"The knee: {best.offered:,.1f} calls a second held; what is below is of that rate.")
        broke = min((it for it in rates if not it.held), key=lambda it: it.offered, default=None)
        if broke and broke.void:
            said.insert(1, f"The generator was late at {broke.offered:,.1f}: the fleet may hold more.")
    elif rates:
        said.insert(0, "No rate held; what is below is of the lowest that was tried.")
    return said


def judged(results: Results, asked: "Asked") -> int:
    if results.void:
        click.echo(f"lambent: {_void_said(asked)}", err=True)
        return VOID
    if results.interrupted:
        return INTERRUPTED
    if not results.latency.total:
        raise FailedCommand(f"No call succeeded: {_why_none(results)}.", SERVICE)
    crossed = [it for it in with_errors(asked.thresholds) if it.is_crossed(results)]
    for it in crossed:
        click.echo(f"lambent: {it.said} is so", err=True)
    return CROSSED if crossed else 0


def _why_none(results: Results) -> str:
    if results.errors:
        (code, count), *_ = results.errors.most_common(1)
        return f"{count:,} ended with {code}"
    return f"{results.sent:,} were not answered" if results.sent else "none was due after the warm-up"
