"""SnapStart: the function is loaded once, in a process of which all its instances are forked.

Hooks are those of Lambda's `snapshot_restore_py`. What no two instances may share is made anew in each one.
"""

from __future__ import annotations

import os
import sys

from . import output
from .context import Context
from .faults import Fault
from .wire import send

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, Protocol, TypeVar

    Loaded = TypeVar("Loaded")
    Hook = tuple[Callable[..., object], tuple[Any, ...], dict[str, Any]]

    class Fork(Protocol):
        """`sandbox/zygote.py` has it as Snapshot."""

        def refusal(self) -> str: ...

        def __call__(self, ready: Callable[[], None]) -> None: ...


HOOKS = "snapshot_restore_py"

ONE_THREAD = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
"""Libraries that start threads when they are imported, so that nothing could be forked, start none then."""

ENTROPY_BYTES = 64
_LAYERS = "LAMBENT_LAYERS_PYTHONPATH"


def restored(fd: int, fork: Fork, load: Callable[[], Loaded]) -> Loaded:
    """Takes the snapshot, and returns in each instance what `load` returned. Raises what it raises, or Fault.

    A process that must not be forked says ["unsuitable"] instead, and ends.
    """
    for name in ONE_THREAD:
        os.environ.setdefault(name, "1")
    given = dict(os.environ)
    loaded = load()
    _run("Runtime.BeforeSnapshotError", reversed(_hooks("get_before_snapshot")))
    output.flush()
    if why := fork.refusal():
        send(fd, "unsuitable", body=why.encode())
        sys.exit(0)
    set_by_code = {name: value for name, value in os.environ.items() if given.get(name) != value}
    removed = given.keys() - os.environ.keys()
    fork(lambda: send(fd, "ready"))
    os.set_inheritable(fd, False)
    _take_over_environment(set_by_code, removed)
    Context.read_environment()
    _renew_entropy()
    send(fd, "initialising")
    _run("Runtime.AfterRestoreError", _hooks("get_after_restore"))
    return loaded


def _hooks(which: str) -> list[Hook]:
    """In the order of their registration. Who has not imported the module has none."""
    module = sys.modules.get(HOOKS)
    return list(getattr(module, which)()) if module is not None else []


def _run(error_type: str, hooks: Iterable[Hook]) -> None:
    for function, arguments, named in hooks:
        try:
            function(*arguments, **named)
        except Exception as error:
            raise Fault(error_type, f"{type(error).__name__}: {error}") from error


def _take_over_environment(set_by_code: dict[str, str], removed: Iterable[str]) -> None:
    """What the function itself has changed of it stays changed."""
    for name in (*removed, _LAYERS):
        os.environ.pop(name, None)
    os.environ.update(set_by_code)


def _renew_entropy() -> None:
    """The interpreter does it for `random`, and the kernel for os.urandom, uuid and secrets."""
    ssl = sys.modules.get("_ssl")
    if ssl is not None:  # OpenSSL goes by the process id, which two instances may have in common
        ssl.RAND_add(os.urandom(ENTROPY_BYTES), float(ENTROPY_BYTES))
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()
