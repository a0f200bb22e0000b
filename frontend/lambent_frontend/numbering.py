"""What publishing makes of `$LATEST`."""

from dataclasses import replace
from typing import Final

from lambent_proto.definition import Definition

_NOT_COMPARED: Final = ("version", "revision", "modified_at", "concurrency", "tags")
"""What may differ between a version and the function without another version being worth its number: a
reservation and tags are the function's."""


def numbered(
    latest: Definition, newest: Definition | None, number: int, at: float, description: str = ""
) -> Definition:
    """`latest` as the version of this number, made at this time; `newest` if it would be the same again."""
    if newest is not None and _same_but_for_its_number(newest, latest):
        return newest
    return replace(latest, version=str(number), description=description or latest.description, modified_at=at)


def _same_but_for_its_number(version: Definition, latest: Definition) -> bool:
    if version.revision == latest.revision:
        return True
    alike = {name: getattr(latest, name) for name in _NOT_COMPARED}
    return replace(version, **alike) == latest
