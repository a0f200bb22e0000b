"""`lambent loadtest`: calls functions at a rate or with so many callers, and says how it went."""

import os
import random
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import click

from lambent.cli.connection import checked_endpoint
from lambent.cli.failures import SERVICE, USAGE, FailedCommand
from lambent.cli.options import json_option

if TYPE_CHECKING:
    from lambent.loadtest.engine import Engine
    from lambent.loadtest.page import Rate
    from lambent.loadtest.results import Results, Threshold
    from lambent.loadtest.run import Calls, Closed, Open

CROSSED: Final = 1
VOID: Final = 4
INTERRUPTED: Final = 130

LINE_S: Final = 5.0
"""Between lines of progress where there is no terminal."""

_DEFAULT_RATE: Final = 50.0
_DEFAULT_S: Final = 10.0


def _thresholds(_: click.Context, __: click.Parameter, given: tuple[str, ...]) -> "list[Threshold]":
    if not given:
        return []
    from lambent.loadtest.results import threshold

    try:
        return [threshold(said) for said in given]
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


_above_zero = click.FloatRange(min=0, min_open=True)


def _writable(_: click.Context, __: click.Parameter, path: Path | None) -> Path | None:
    """Said before the run and not after it."""
    if path is not None and not path.parent.is_dir():
        raise click.BadParameter(f"there is no folder {path.parent}")
    return path


_written = click.Path(dir_okay=False, writable=True, path_type=Path)


@click.command()
@click.argument("functions", nargs=-1, required=True, metavar="FUNCTION...")
@click.option("--rate", type=_above_zero, metavar="N", help="Calls a second; by default 50.")
@click.option("--to", type=_above_zero, metavar="N", help="Ramp evenly from --rate to this rate.")
@click.option(
    "--constant", is_flag=True, help="Calls at even distances; by default they are random (Poisson)."
)
@click.option(
    "--trace",
    type=click.Path(exists=True, path_type=Path),
    metavar="PATH",
    help="Replay a trace, of the forms that `lambent simulate` reads.",
)
@click.option("--made", type=click.IntRange(min=1), metavar="N", help="Replay a made trace of N functions.")
@click.option(
    "--speed", type=_above_zero, default=1.0, metavar="X", help="So many times as fast as the trace."
)
@click.option(
    "--concurrency", type=click.IntRange(min=1), metavar="N", help="Closed loop: N callers, no rate."
)
@click.option("--find-knee", is_flag=True, help="Raise the rate until calls fail, wait or are too slow.")
@click.option("--knee-p99", type=_above_zero, default=100.0, show_default=True, metavar="MS")
@click.option("--duration", type=_above_zero, metavar="S", help="By default 10, or as long as the trace.")
@click.option("--warm-up", type=click.FloatRange(min=0), default=0.0, metavar="S", help="First, not counted.")
@click.option("--via", type=click.Choice(["stream", "unary", "http"]), default="stream", show_default=True)
@click.option("-d", "--data", metavar="JSON", help="The event; by default `{}`.")
@click.option("-f", "--file", type=click.File("rb"), metavar="FILE", help="A file that holds the event.")
@click.option("--size", type=click.IntRange(min=2), metavar="BYTES", help="An event of so many bytes.")
@click.option("--priority", type=click.Choice(["high", "normal", "low"]), default="normal", show_default=True)
@click.option("--tenant", default="", metavar="NAME")
@click.option("--sticky-key", default="", metavar="KEY")
@click.option(
    "--late",
    "late_ms",
    type=click.FloatRange(min=0),
    default=10.0,
    show_default=True,
    metavar="MS",
    help="A call that is sent so much after it was due is late; with more than 1 % of them a run is void.",
)
@click.option(
    "--drain",
    type=click.FloatRange(min=0),
    default=30.0,
    show_default=True,
    metavar="S",
    help="How long answers are waited for at the end.",
)
@click.option(
    "--fail-if",
    "thresholds",
    multiple=True,
    callback=_thresholds,
    metavar="'p99>50ms'",
    help="Exit with 1 if so. Of p50 to p99.99, mean, max, errors (%), cold (%) and rate. May be repeated.",
)
@click.option("--seed", type=int, default=42, show_default=True)
@click.option(
    "--csv", "csv_file", type=_written, callback=_writable, metavar="FILE", help="Write a row a second."
)
@click.option("--html", type=_written, callback=_writable, metavar="FILE", help="Write a page with plots.")
@click.option(
    "--endpoint",
    envvar="LAMBENT_ENDPOINT",
    show_envvar=True,
    default="127.0.0.1:50051",
    show_default=True,
    metavar="HOST:PORT",
    callback=checked_endpoint,
)
@click.option(
    "--http-endpoint",
    default="127.0.0.1:9000",
    show_default=True,
    metavar="HOST:PORT",
    callback=checked_endpoint,
    help="With --via http.",
)
@json_option
def loadtest(functions: tuple[str, ...], as_json: bool, **given: Any) -> int:
    """Call functions at a rate, or with a number of callers, and say how long it took.

    Latency counts from when a call was due, so a fleet that stalls is not measured only where it does not.
    Exit codes: 1 if a --fail-if is so, 3 if no call succeeded, 4 if the run is void because more than 1 % of
    the calls were sent late, 130 after Ctrl-C, with the results so far.
    """
    import uvloop

    from lambent.rpc import checked_token

    asked = Asked(**given)
    asked.check()
    calls = _calls(functions, asked, checked_token(os.environ.get("LAMBENT_KEY") or ""))
    # All runs in one loop: gRPC does not take well to a second one.
    if asked.find_knee:
        results, rates = uvloop.run(_knee(calls, asked))
    else:
        results, rates = uvloop.run(_run(calls, asked, asked.load(len(functions)))), []
    _tell(results, rates, asked, as_json, ", ".join(functions))
    return _judged(results, asked)


@dataclass(slots=True)
class Asked:
    """The options."""

    rate: float | None
    to: float | None
    constant: bool
    trace: Path | None
    made: int | None
    speed: float
    concurrency: int | None
    find_knee: bool
    knee_p99: float
    duration: float | None
    warm_up: float
    via: str
    data: str | None
    file: BinaryIO | None
    size: int | None
    priority: Any
    tenant: str
    sticky_key: str
    late_ms: float
    drain: float
    thresholds: "list[Threshold]"
    seed: int
    csv_file: Path | None
    html: Path | None
    endpoint: str
    http_endpoint: str

    def check(self) -> None:
        """Raises click.UsageError for what does not go together."""
        traced = self.trace is not None or self.made is not None
        rated = self.rate is not None or self.to is not None or self.constant
        if (self.concurrency is not None) + traced + rated > 1 or (self.trace and self.made):
            raise click.UsageError("Give one load: a rate, a trace (--trace or --made), or --concurrency.")
        if self.find_knee and (traced or self.concurrency is not None or self.to is not None):
            raise click.UsageError("--find-knee raises a rate: it goes with --rate alone.")
        if sum(it is not None for it in (self.data, self.file, self.size)) > 1:
            raise click.UsageError("Give the event once: with -d, with -f, or with --size.")

    def payload(self) -> bytes:
        if self.size is not None:
            return b'"%s"' % (b"x" * (self.size - 2))
        return self.file.read() if self.file else (self.data or "{}").encode()

    def load(self, targets: int) -> "Open | Closed":
        from lambent.loadtest.run import Closed

        if self.concurrency is not None:
            return Closed(self.concurrency, self.seconds)
        if self.trace is not None or self.made is not None:
            return self._traced(targets)
        return self.at_rate(self.rate or _DEFAULT_RATE, targets)

    @property
    def seconds(self) -> float:
        return self.warm_up + (self.duration or _DEFAULT_S)

    def at_rate(self, rate: float, targets: int) -> "Open":
        from lambent.loadtest.run import Open
        from lambent.loadtest.schedule import at_rate, constant, poisson

        gaps = constant() if self.constant else poisson(random.Random(self.seed))
        return Open(at_rate(rate, self.to or rate, self.seconds, gaps, targets), self.seconds)

    def _traced(self, targets: int) -> "Open":
        from lambent.loadtest.run import Open
        from lambent.loadtest.schedule import of_trace
        from lambent.simulate.record import read
        from lambent.simulate.trace import BrokenTrace, generated

        minutes = -(-(self.warm_up + self.duration) * self.speed // 60) if self.duration else None
        try:
            wanted = int(minutes or 60)
            trace = read(self.trace) if self.trace else generated(self.made or 1, wanted, self.seed)
        except BrokenTrace as broken:
            raise click.BadParameter(str(broken), param_hint="--trace") from broken
        sends = list(
            of_trace(trace.invocations(self.seed, int(minutes) if minutes else None), self.speed, targets)
        )
        if self.duration:
            sends = [send for send in sends if send.at < self.seconds]
        if not sends:
            raise click.BadParameter("there is no call in that part of the trace", param_hint="--trace")
        return Open(sends, self.seconds if self.duration else sends[-1].at)


def _calls(functions: tuple[str, ...], asked: Asked, token: str) -> "Calls":
    from lambent.loadtest.run import Calls

    return Calls(
        functions,
        asked.payload(),
        asked.via,
        asked.endpoint,
        asked.http_endpoint,
        token,
        asked.priority,
        asked.tenant,
        asked.sticky_key,
    )


async def _run(calls: "Calls", asked: Asked, load: "Open | Closed") -> "Results":
    from lambent.loadtest.results import Results
    from lambent.loadtest.run import run

    results = Results(asked.warm_up, asked.late_ms / 1000)
    progress = _Progress(sys.stderr.isatty())
    await run(calls, load, results, asked.drain, progress.tick)
    progress.end()
    return results


async def _knee(calls: "Calls", asked: Asked) -> "tuple[Results, list[Rate]]":
    """The results at the highest rate that held, else at the lowest that was tried.

    A rate that Ctrl-C cut short was not tried; its results are told where there are no others.
    """
    from lambent.loadtest.page import Rate
    from lambent.loadtest.schedule import Tried, next_rate

    tried: list[tuple[Tried, Results]] = []
    rates: list[Rate] = []
    first = asked.rate or _DEFAULT_RATE
    while (rate := next_rate(first, [it for it, _ in tried])) is not None:
        results = await _run(calls, asked, asked.at_rate(rate, len(calls.functions)))
        if results.interrupted:
            break
        held = results.holds(asked.knee_p99)
        tried.append((Tried(rate, held), results))
        found = results.figures()
        rates.append(Rate(rate, found["succeeded_per_s"], found["p99_ms"], held, results.void))
        said = "held" if held else "too much" + (", and the generator was late" if results.void else "")
        click.echo(f"{rate:,.1f} calls a second: p99 {found['p99_ms']:.2f} ms, {said}", err=True)
    if not tried:
        return results, rates
    by_rate = sorted(tried, key=lambda it: (it[0].held, it[0].rate if it[0].held else -it[0].rate))
    best = by_rate[-1][1]
    best.interrupted = results.interrupted
    return best, rates


class _Progress:
    """On a terminal one line that changes, elsewhere a line every few seconds; to standard error."""

    def __init__(self, live: bool) -> None:
        self._live = live
        self._next = LINE_S

    def tick(self, engine: "Engine") -> None:
        now = engine.now()
        if not self._live and now < self._next:
            return
        self._next = now + LINE_S
        steps = engine.results.steps
        last = steps[max(0, min(len(steps) - 1, int(now)) - 1)] if steps else None
        if last is None:
            return
        cold = 100 * last.cold / last.answered if last.answered else 0.0
        line = (
            f"{now:6.1f} s  {last.answered:,}/s of {last.offered:,}  in flight {engine.in_flight:,}  "
            f"p50 {last.latency.at(0.5) / 1000:.2f} ms  p99 {last.latency.at(0.99) / 1000:.2f} ms  "
            f"errors {sum(engine.results.errors.values()):,}  cold {cold:.1f} %"
        )
        click.echo(f"\r\x1b[K{line}" if self._live else line, err=True, nl=not self._live)

    def end(self) -> None:
        if self._live:
            click.echo("\r\x1b[K", err=True, nl=False)


def _tell(results: "Results", rates: "list[Rate]", asked: Asked, as_json: bool, what: str) -> None:
    from dataclasses import asdict

    from lambent.cli.output import print_json
    from lambent.loadtest import report
    from lambent.loadtest.page import page

    closed = asked.concurrency is not None
    facts = _facts(results, rates)
    if as_json:
        print_json({**report.as_json(results, closed=closed), "rates": [asdict(rate) for rate in rates]})
    else:
        _print(results, facts, closed)
    if asked.csv_file:
        _write(asked.csv_file, report.as_csv(results))
    if asked.html:
        said = [*facts, VOID_SAID] if results.void else facts
        _write(asked.html, page(f"Load test of {what}", said, results, closed=closed, rates=rates))


def _write(file: Path, text: str) -> None:
    try:
        file.write_text(text)
    except OSError as error:
        raise FailedCommand(f"{file} cannot be written: {error.strerror}", USAGE) from error


def _print(results: "Results", facts: list[str], closed: bool) -> None:
    from lambent.cli.output import print_table
    from lambent.loadtest import report

    for fact in facts:
        click.echo(fact)
    click.echo()
    if results.latency.total:
        print_table(("latency", *report.COLUMNS), report.rows(results, closed=closed), "")
    if results.errors:
        click.echo()
        print_table(("error", "calls"), results.errors.most_common(), "")


VOID_SAID: Final = (
    "VOID: more than 1 % of the calls were sent late, so it is the generator that was measured. Give it a "
    "CPU of its own, or lower the rate."
)


def _facts(results: "Results", rates: "list[Rate]") -> list[str]:
    it = results.figures()
    called = (
        f"{it['sent']:,} calls in {it['seconds']:.1f} s: {it['offered_per_s']:,.1f} a second offered, "
        f"{it['succeeded_per_s']:,.1f} succeeded; {it['failed']:,} failed, {it['unanswered']:,} unanswered; "
        f"{it['cold_percent']:.2f} % cold."
    )
    generator = (
        f"The generator used {it['generator_cpu_percent']:.0f} % of one CPU; it sent "
        f"{it['late_percent']:.2f} % of the calls late, p99 {it['late_p99_ms']:.2f} ms after they were due."
    )
    said = [called, generator]
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


def _judged(results: "Results", asked: Asked) -> int:
    if results.void:
        click.echo(f"lambent: {VOID_SAID}", err=True)
        return VOID
    if results.interrupted:
        return INTERRUPTED
    if not results.latency.total:
        raise FailedCommand(f"No call succeeded: {_why_none(results)}.", SERVICE)
    crossed = [it for it in asked.thresholds if it.is_crossed(results)]
    for it in crossed:
        click.echo(f"lambent: {it.said} is so", err=True)
    return CROSSED if crossed else 0


def _why_none(results: "Results") -> str:
    if results.errors:
        (code, count), *_ = results.errors.most_common(1)
        return f"{count:,} ended with {code}"
    return f"{results.sent:,} were not answered" if results.sent else "none was due after the warm-up"
