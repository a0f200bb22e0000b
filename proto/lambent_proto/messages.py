"""How the cores write down events and commands."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, dataclass_transform

T = TypeVar("T")

if TYPE_CHECKING:

    @dataclass_transform(frozen_default=True)
    def message(cls: type[T]) -> type[T]: ...

else:

    def message(cls: type[Any]) -> type[Any]:
        """A slotted value that is never changed once made.

        Frozen for the type checker, which refuses every assignment, but not at run time: a frozen
        dataclass costs three times as much to make, and the warm path makes several a call.
        """
        return dataclass(slots=True)(cls)
