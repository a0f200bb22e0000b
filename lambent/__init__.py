"""Lambent: a self-hosted function fleet.

`Client` is the Python client and `SyncClient` the same without asyncio; the command line is `lambent`.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lambent.client import Client
    from lambent.messages import Invocation
    from lambent.sync_client import SyncClient

__all__ = ["Client", "Invocation", "SyncClient"]

_WHERE = {"Client": "client", "Invocation": "messages", "SyncClient": "sync_client"}


def __getattr__(name: str) -> object:
    """On first use: gRPC takes longer to import than the command line takes to print its help."""
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"lambent.{_WHERE[name]}"), name)
