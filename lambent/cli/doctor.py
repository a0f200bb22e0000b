"""`lambent worker doctor`: what this host can do to isolate functions, and what it lacks."""

import asyncio
import os
from typing import TYPE_CHECKING, Any

import click

from lambent.cli.options import BACKENDS, json_option

if TYPE_CHECKING:
    from lambent_worker.sandbox.api import Protections
    from lambent_worker.sandbox.doctor import Check


@click.command()
@json_option
def doctor(as_json: bool) -> None:
    """Say what this host can do to isolate functions.

    Each backend is started for a moment, and each thing that backends build upon is tried. Run it as the user
    that the worker has.
    """
    from lambent.cli.output import print_json
    from lambent_chassis import logs
    from lambent_worker.sandbox.doctor import probe

    logs.configure("error")
    checks = probe()  # before there is a thread beside this one
    reached = asyncio.run(_reached())
    if as_json:
        backends = [_facts(*it) for it in reached.items()]
        print_json({"backends": backends, "checks": [_check(check) for check in checks]})
    else:
        _print(checks, reached)


async def _reached() -> "dict[str, Protections | str]":
    """By backend: what it gives, or why it does not start here."""
    from lambent_worker.sandbox.api import CannotStart
    from lambent_worker.sandbox.backends import tried

    reached: dict[str, Protections | str] = {}
    for name in BACKENDS:
        try:
            reached[name] = await tried(name, f"doctor-{os.getpid()}")
        except CannotStart as failed:
            reached[name] = str(failed)
    return reached


def _facts(backend: str, reached: "Protections | str") -> dict[str, Any]:
    if isinstance(reached, str):
        return {"backend": backend, "isolation": None, "given": [], "missing": {}, "why_not": reached}
    return {
        "backend": backend,
        "isolation": reached.level,
        "given": sorted(reached.given),
        "missing": {name: reached.why_missing.get(name, "") for name in reached.missing},
        "why_not": None,
    }


def _check(check: "Check") -> dict[str, Any]:
    return {"name": check.name, "ok": check.ok, "detail": check.detail, "protects": list(check.protects)}


def _print(checks: "list[Check]", reached: "dict[str, Protections | str]") -> None:
    from lambent.cli.output import print_table
    from lambent_worker.sandbox.api import PROTECTIONS

    print_table(("backend", "isolation", "missing"), [_backend_row(*it) for it in reached.items()], "")
    click.echo()
    started = {name: it for name, it in reached.items() if not isinstance(it, str) and it.given}
    columns = ("protection", "given by", "missing in")
    print_table(columns, [_protection_row(name, started) for name in PROTECTIONS], "")
    click.echo()
    print_table(("on this host", "works", "needed for", "detail"), [check.row for check in checks], "")


def _backend_row(backend: str, reached: "Protections | str") -> tuple[str, str, str]:
    if isinstance(reached, str):
        return backend, "-", f"cannot start: {reached}"
    return backend, reached.level, ", ".join(reached.missing) or "nothing"


def _protection_row(name: str, reached: "dict[str, Protections]") -> tuple[str, str, str]:
    given = [backend for backend, it in reached.items() if name in it.given]
    why = [
        f"{backend} ({it.why_missing.get(name, 'never given')})"
        for backend, it in reached.items()
        if name not in it.given
    ]
    return name, ", ".join(given) or "none", ", ".join(why)
