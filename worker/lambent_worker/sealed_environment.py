"""Environment variables as etcd has them, made into what a function sees: only where it is about to run."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Protocol

from lambent_proto import sealed
from lambent_proto.definition import Definition


class Opener(Protocol):
    """What is needed of `lambent_chassis.sealing.Opener`."""

    def open(self, function: str, variables: Mapping[str, str]) -> dict[str, str]: ...


class Environments:
    def __init__(self, opener: Opener | None = None, worker: str = "") -> None:
        """`worker` is what it is called in messages."""
        self._opener = opener
        self._worker = worker

    def opened(self, definition: Definition) -> Definition:
        """Raises CannotOpen."""
        if not any(map(sealed.is_sealed, definition.environment.values())):
            return definition
        if self._opener is None:
            raise sealed.CannotOpen(
                f"the variables of function {definition.name!r} are sealed, and worker {self._worker!r} has "
                "no key: the fleet's operator gives it one by its setting environment_key"
            )
        return replace(definition, environment=self._opener.open(definition.name, definition.environment))
