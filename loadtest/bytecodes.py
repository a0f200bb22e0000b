"""Counts the bytecodes of our own code that run: the same on every machine, however busy it is.

What a library or the interpreter does in C counts as the one bytecode that calls it.
"""

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final

import click

from lambent_chassis import logs
from loadtest.bare import Bare, Size
from loadtest.measurement import ROOT

OURS: Final = (*(f"{ROOT}/{room}/" for room in ("frontend", "worker", "proto", "chassis")), "<string>")
"""Where code comes from that counts; a dataclass's methods come from a string."""


class Bytecodes:
    """A `Meter` of `loadtest.bare`. Only within `counting` anything is counted."""

    def __init__(self) -> None:
        self.of_part: Counter[str] = Counter()
        self.of_code: Counter[tuple[str, str, str]] = Counter()
        """By part, file and function."""
        self._part = "frontend"

    @contextmanager
    def of(self, part: str) -> Iterator[None]:
        before, self._part = self._part, part
        try:
            yield
        finally:
            self._part = before

    @contextmanager
    def counting(self) -> Iterator[None]:
        before = sys.gettrace()
        sys.settrace(self._called)
        try:
            yield
        finally:
            sys.settrace(before)

    def _called(self, frame: FrameType, event: str, argument: Any) -> Any:
        if not frame.f_code.co_filename.startswith(OURS):
            return None
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        code = frame.f_code
        name = code.co_filename.removeprefix(f"{ROOT}/"), code.co_qualname

        def traced(_: FrameType, event: str, __: Any) -> Any:
            if event == "opcode":
                self.of_part[self._part] += 1
                self.of_code[self._part, *name] += 1
            return traced

        return traced


@click.command()
@click.option("--instances", type=click.IntRange(min=1), default=16, show_default=True)
@click.option("--functions", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--workers", type=click.IntRange(min=1), default=2, show_default=True)
@click.option("--most", type=click.IntRange(min=1), default=40, show_default=True, help="Lines to print.")
def main(instances: int, functions: int, workers: int, most: int) -> None:
    """Says which functions a warm call spends its bytecodes in."""
    logs.configure("warning")
    meter, calls = Bytecodes(), 1_024
    bare = Bare(Size(functions=functions, instances=instances, workers=workers), meter)
    bare.calls(calls)
    with meter.counting():
        bare.calls(calls)
    for part, count in meter.of_part.items():
        click.echo(f"{count / calls:8.1f} {part}, in all")
    for (part, file, function), count in meter.of_code.most_common(most):
        click.echo(f"{count / calls:8.1f} {part:8} {file} {function}")


if __name__ == "__main__":
    main()
