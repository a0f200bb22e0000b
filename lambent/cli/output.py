"""What commands print: rich on a terminal, plain aligned text in a pipe, JSON when asked for."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import click
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp


def facts(message: Message) -> dict[str, Any]:
    """A message as JSON has it, under the names of lambent.v1; an optional field that is absent is null.

    Unlike protobuf's own mapping, 64-bit numbers stay numbers.
    """
    return {field.name: _value(message, field) for field in message.DESCRIPTOR.fields}


def _value(message: Message, field: Any) -> Any:
    """`field` is a FieldDescriptor, of whichever implementation of protobuf there is."""
    if field.has_presence and not message.HasField(field.name):
        return None
    value = getattr(message, field.name)
    if field.enum_type is not None:
        known = field.enum_type.values_by_number.get(value)
        return known.name if known else value
    if isinstance(value, Timestamp):
        return value.ToDatetime(UTC).isoformat(timespec="seconds")
    if isinstance(value, Message):
        return facts(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, (str, int, float)):
        return value
    return [facts(item) if isinstance(item, Message) else item for item in value]


def print_json(value: object) -> None:
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]], empty: str) -> None:
    """`empty` is said, to standard error, where there are no rows."""
    cells = [[str(cell) for cell in row] for row in rows]
    if not cells:
        click.echo(empty, err=True)
    elif sys.stdout.isatty():
        _print_rich(columns, cells)
    else:
        _print_plain([[column.upper() for column in columns], *cells])


def say_missing(frontends: Iterable[str]) -> None:
    """That frontends did not answer, if any did not, to standard error."""
    if names := ", ".join(sorted(frontends)):
        click.echo(f"Not heard from: {names}. What they alone know is missing.", err=True)


def print_facts(pairs: Mapping[str, object]) -> None:
    """One fact a line, the empty ones left out."""
    shown = {name: value for name, value in pairs.items() if value not in ("", None)}
    width = max(map(len, shown))
    for name, value in shown.items():
        click.echo(f"{click.style(name.ljust(width), dim=True)}  {value}")


def time_of(unix_s: float) -> str:
    return datetime.fromtimestamp(unix_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def size(count: int) -> str:
    """Bytes for people."""
    if count < 1000:
        return f"{count} B"
    if count < 1_000_000:
        return f"{count / 1000:.1f} kB"
    return f"{count / 1_000_000:.1f} MB"


def _print_rich(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in cells:
        table.add_row(*map(Text, row))
    Console().print(table)


def _print_plain(lines: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        padded = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        click.echo("  ".join(padded).rstrip())
