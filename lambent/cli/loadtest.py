"""`lambent loadtest`: calls functions at a rate or with so many callers, and says how it went."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import click

from lambent.cli.connection import checked_endpoint
from lambent.cli.options import json_option

if TYPE_CHECKING:
    from lambent.loadtest.engine import Progress
    from lambent.loadtest.load import AtRate, Load
    from lambent.loadtest.page import Rate
    from lambent.loadtest.results import Results, Threshold
    from lambent.loadtest.run import Calls
    from lambent.loadtest.schedule import Tried

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
@click.option(
    "--processes",
    type=click.IntRange(min=1, max=256),
    default=1,
    show_default=True,
    metavar="N",
    help="Share the calls out among so many processes.",
)
@click.option("--find-knee", is_flag=True, help="Raise the rate until calls fail, wait or are too slow.")
@click.option("--knee-p99", type=_above_zero, default=100.0, show_default=True, metavar="MS")
@click.option("--duration", type=_above_zero, metavar="S", help="By default 10, or as long as the trace.")
@click.option("--warm-up", type=click.FloatRange(min=0), default=0.0, metavar="S", help="First, not counted.")
@click.option("--even-if-void", is_flag=True, help="Go on to the end when it is sure to be void.")
@click.option("--via", type=click.Choice(["stream", "unary", "http"]), default="stream", show_default=True)
@click.option(
    "--sign", is_flag=True, help="With --via http: sign requests with LAMBENT_KEY as AWS's clients do."
)
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
    help="Exit with 1 if so. Of p50 to p99.99, mean, max, errors (%), cold (%) and rate. May be repeated; "
    "if none is of errors, more than 1 % of them fail it too.",
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
    the calls were sent late, or with --concurrency the generator was busy all the time; 130 after Ctrl-C,
    with the results so far. An access key is taken from LAMBENT_KEY, and TLS spoken where LAMBENT_CA is set.
    """
    import uvloop

    from lambent.cli.loadtest_results import judged, tell

    asked = Asked(**given)
    asked.check()
    calls = _calls(functions, asked, _token(asked))
    # All runs in one loop: gRPC does not take well to a second one.
    if asked.find_knee:
        results, rates = uvloop.run(_knee(calls, asked))
    else:
        results, rates = uvloop.run(_run(calls, asked, asked.load(len(functions)))), []
    tell(results, rates, asked, as_json, ", ".join(functions))
    return judged(results, asked)


def _token(asked: "Asked") -> str:
    """Raises LambentError, before anything runs, if what the environment says of keys or TLS cannot be."""
    from lambent.rpc import checked_token, https_of_environment

    https_of_environment()
    token = checked_token(os.environ.get("LAMBENT_KEY") or "")
    if asked.sign and not all(token.partition(".")):
        raise click.UsageError("--sign takes an access key: set LAMBENT_KEY to its token.")
    return token


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
    processes: int
    find_knee: bool
    knee_p99: float
    duration: float | None
    warm_up: float
    even_if_void: bool
    via: str
    sign: bool
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
        if self.concurrency is not None and self.concurrency < self.processes:
            raise click.UsageError("--processes: each needs a caller, so --concurrency is at least as many.")
        if self.sign and self.via != "http":
            raise click.UsageError("--sign is for --via http: gRPC carries the key's token.")
        if sum(it is not None for it in (self.data, self.file, self.size)) > 1:
            raise click.UsageError("Give the event once: with -d, with -f, or with --size.")

    def payload(self) -> bytes:
        if self.size is not None:
            return b'"%s"' % (b"x" * (self.size - 2))
        return self.file.read() if self.file else (self.data or "{}").encode()

    def load(self, targets: int) -> "Load":
        from lambent.loadtest.load import Closed

        if self.concurrency is not None:
            return Closed(self.concurrency, self.seconds)
        if self.trace is not None or self.made is not None:
            return self._traced(targets)
        return self.at_rate(self.rate or _DEFAULT_RATE)

    @property
    def seconds(self) -> float:
        return self.warm_up + (self.duration or _DEFAULT_S)

    def at_rate(self, rate: float) -> "AtRate":
        from lambent.loadtest.load import AtRate

        counted_s = self.duration or _DEFAULT_S
        return AtRate(rate, self.to or rate, self.warm_up, counted_s, self.constant, self.seed)

    def _traced(self, targets: int) -> "Load":
        from lambent.loadtest.load import Replayed
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
        return Replayed(sends, self.warm_up, self.seconds if self.duration else sends[-1].at)


def _calls(functions: tuple[str, ...], asked: Asked, token: str) -> "Calls":
    from lambent.loadtest.run import Calls

    return Calls(
        functions,
        asked.payload(),
        asked.via,
        asked.endpoint,
        asked.http_endpoint,
        token,
        asked.sign,
        asked.priority,
        asked.tenant,
        asked.sticky_key,
    )


async def _run(calls: "Calls", asked: Asked, load: "Load") -> "Results":
    from lambent.cli.loadtest_results import Shown
    from lambent.loadtest.results import Results
    from lambent.loadtest.run import run

    results = Results(asked.warm_up, asked.late_ms / 1000, load.due)
    shown = Shown(sys.stderr.isatty())

    def tick(progress: "Progress") -> bool:
        shown.tick(progress)
        return not asked.even_if_void and results.surely_void(progress.late)

    if asked.processes == 1:
        await run(calls, load, results, asked.drain, tick)
    else:
        from lambent.loadtest.generators import run_in_processes

        await run_in_processes(calls, load, results, asked.drain, tick, asked.processes)
    shown.end()
    return results


async def _knee(calls: "Calls", asked: Asked) -> "tuple[Results, list[Rate]]":
    """The results at the highest rate that held, else at the lowest that was tried.

    A rate that Ctrl-C cut short was not tried; its results are told where there are no others.
    """
    from lambent.loadtest.page import Rate
    from lambent.loadtest.schedule import Tried, next_rate, verdicts

    tried: list[tuple[Tried, Results]] = []
    first = asked.rate or _DEFAULT_RATE
    while (rate := next_rate(first, [it for it, _ in tried])) is not None:
        results = await _run(calls, asked, asked.at_rate(rate))
        if results.interrupted:
            break
        tried.append((Tried(rate, results.holds(asked.knee_p99)), results))
        click.echo(_said_of(*tried[-1]), err=True)
    if not tried:
        return results, []
    # Of each rate the last try that went as most of its tries did.
    by_rate = verdicts([it for it, _ in tried])
    agreeing = {it.rate: found for it, found in tried if it.held is by_rate[it.rate]}
    held = [rate for rate in by_rate if by_rate[rate]]
    best = agreeing[max(held) if held else min(by_rate)]
    best.interrupted = results.interrupted
    rates = []
    for rate, found in agreeing.items():
        figures, tries = found.figures(), sum(it.rate == rate for it, _ in tried)
        rates.append(
            Rate(rate, figures["succeeded_per_s"], figures["p99_ms"], by_rate[rate], found.void, tries)
        )
    return best, rates


def _said_of(tried: "Tried", found: "Results") -> str:
    said = "held" if tried.held else "too much" + (", and the generator was late" if found.void else "")
    return f"{tried.rate:,.1f} calls a second: p99 {found.figures()['p99_ms']:.2f} ms, {said}"
