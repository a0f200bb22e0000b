"""What is kept of the environment variables of functions: sealed, where this frontend has a key for that."""

from collections.abc import Mapping
from typing import Protocol

from lambent_proto import sealed
from lambent_proto.errors import InvalidRequest


class Sealer(Protocol):
    """What is needed of `lambent_chassis.sealing.Sealer`."""

    def seal(self, function: str, variable: str, value: str) -> str: ...

    def knows(self, it: sealed.Sealed) -> bool: ...


class Environments:
    def __init__(self, sealer: Sealer | None = None) -> None:
        """Without one values are kept as they are given."""
        self._sealer = sealer

    def kept(self, function: str, given: Mapping[str, str]) -> dict[str, str]:
        """What is sealed already stays so: it was read before, or is its deployer's own seal.

        Raises InvalidRequest for a seal that no worker could open there.
        """
        return {name: self._kept(function, name, value) for name, value in given.items()}

    def _kept(self, function: str, variable: str, value: str) -> str:
        if not sealed.is_sealed(value):
            return self._sealer.seal(function, variable, value) if self._sealer else value
        it = sealed.parse(value)
        if it.of != sealed.place_id(function, variable):
            raise InvalidRequest(
                f"the environment variable {variable} has a value that was sealed for another variable or "
                "function: give the value itself, or seal it for this one"
            )
        if self._sealer and not self._sealer.knows(it):
            raise InvalidRequest(
                f"the environment variable {variable} has a value that was sealed with key {it.key}, which "
                "this fleet does not have any more: give the value itself"
            )
        return value
