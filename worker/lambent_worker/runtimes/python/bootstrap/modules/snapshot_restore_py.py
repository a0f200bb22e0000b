"""What a function registers to be run before its snapshot is taken, and after each restore of it.

Lambda's Python has a module of this name, so functions import it without bringing it along; one that a
package does bring comes first. Names and order are that module's.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Hook = Callable[..., Any]
    Registered = list[tuple[Hook, tuple[Any, ...], dict[str, Any]]]

__all__ = ["register_after_restore", "register_before_snapshot"]

_before_snapshot: "Registered" = []
_after_restore: "Registered" = []


def register_before_snapshot(func: "Hook", *args: "Any", **kwargs: "Any") -> "Hook":
    """The last one that is registered runs first. Also a decorator."""
    _before_snapshot.append((func, args, kwargs))
    return func


def register_after_restore(func: "Hook", *args: "Any", **kwargs: "Any") -> "Hook":
    """The first one that is registered runs first. Also a decorator."""
    _after_restore.append((func, args, kwargs))
    return func


def get_before_snapshot() -> "Registered":
    return _before_snapshot


def get_after_restore() -> "Registered":
    return _after_restore
