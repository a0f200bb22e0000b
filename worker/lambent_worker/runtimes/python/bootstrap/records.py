"""Lambda's set-up of `logging`: records reach the function's log without any set-up of its own.

A function that never imports `logging` does not pay for it: the set-up waits for that import.
"""

from __future__ import annotations

import sys
import time
from importlib.machinery import PathFinder

TYPE_CHECKING = False
if TYPE_CHECKING:
    import logging
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

FORMAT = "[%(levelname)s]\t%(asctime)s.%(msecs)03dZ\t%(aws_request_id)s\t%(message)s"


class Running:
    """The call whose request id the records carry."""

    request_id = ""


class SetUpOnImport:
    """Finds `logging` in place of the usual finder, once, so as to be there when it has been executed."""

    @classmethod
    def find_spec(
        cls, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != "logging":
            return None
        sys.meta_path.remove(cls)
        spec = PathFinder.find_spec(name, path, target)
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            _set_up(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def _set_up(module: ModuleType) -> None:
    handler: logging.Handler = module.StreamHandler(sys.stdout)
    formatter: logging.Formatter = module.Formatter(FORMAT, "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    handler.addFilter(_add_request_id)
    module.getLogger().addHandler(handler)


def _add_request_id(record: logging.LogRecord) -> bool:
    record.aws_request_id = Running.request_id
    return True


def install() -> None:
    logging = sys.modules.get("logging")
    if logging is None:
        sys.meta_path.insert(0, SetUpOnImport)
    else:  # a zygote has imported it for all
        _set_up(logging)
