"""Lambent: a self-hosted function fleet. `Client` is the Python client; the command line is `lambent`."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lambent.client import Client
    from lambent.messages import Invocation

__all__ = ["Client", "Invocation"]


def __getattr__(name: str) -> object:
    """On first use: gRPC takes longer to import than the command line takes to print its help."""
    if name == "Client":
        from lambent.client import Client

        return Client
    if name == "Invocation":
        from lambent.messages import Invocation

        return Invocation
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
