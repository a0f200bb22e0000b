"""Loads the function, then answers one event after another."""

from __future__ import annotations

import builtins
import importlib
import os
import sys
from _sitebuiltins import Quitter

from . import output, trace_id
from .context import Context
from .faults import Fault, failure
from .records import Running, install
from .restoring import restored
from .wire import MAX_PAYLOAD_BYTES, decode, encode, frames, send

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

    from .restoring import Fork

    Handler = Callable[[Any, Context], Any]

TOO_LARGE = f"Response payload size exceeded maximum allowed payload size ({MAX_PAYLOAD_BYTES} bytes)."


def load(handler: str) -> Handler:
    """The function that `module.function` or `folder/module.function` names; raises Fault."""
    try:
        module_name, function_name = handler.rsplit(".", 1)
    except ValueError as error:
        raise Fault("Runtime.MalformedHandlerName", f"Bad handler '{handler}': {error}") from None
    module_name = module_name.replace("/", ".")
    if module_name.split(".")[0] in sys.builtin_module_names:
        raise Fault(
            "Runtime.BuiltInModuleConflict", f"Cannot use built-in module {module_name} as a handler module"
        )
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        text = f"Unable to import module '{module_name}': {error}"
        raise Fault("Runtime.ImportModuleError", text) from error
    except SyntaxError as error:
        where = f'  File "{error.filename}" Line {error.lineno}\n    {(error.text or "").strip()}\n'
        text = f"Syntax error in module '{module_name}': {error}"
        raise Fault("Runtime.UserCodeSyntaxError", text, [where]) from None
    try:
        function: Handler = getattr(module, function_name)
    except AttributeError:
        text = f"Handler '{function_name}' missing on module '{module_name}'"
        raise Fault("Runtime.HandlerNotFound", text) from None
    return function


def _run(handler: Handler, context: Context, body: bytes) -> bytes:
    """The answer to one event, or whatever the handler raised; Fault where it was not the handler."""
    try:
        event = decode(body.decode())
    except (ValueError, RecursionError) as error:
        raise Fault("Runtime.UnmarshalError", f"Unable to unmarshal input: {error}") from None
    result = handler(event, context)
    try:
        answer = encode(result).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise Fault("Runtime.MarshalError", f"Unable to marshal response: {error}") from None
    if len(answer) > MAX_PAYLOAD_BYTES:
        raise Fault("Function.ResponseSizeTooLarge", TOO_LARGE)
    return answer


def answer_events(fd: int, handler: Handler) -> None:
    own_pid = os.getpid()
    for (_, request_id, deadline_ms, arn, client_context, trace), body in frames(fd):
        trace_id.put(trace)
        try:
            Running.request_id = request_id
            context = Context(request_id, deadline_ms, arn, client_context)
            kind, answer = "answer", _run(handler, context, body)
        except Exception as error:  # noqa: BLE001 - a handler may raise anything, and that is its answer
            kind, answer = "error", failure(error, request_id)
        output.flush()
        if os.getpid() != own_pid:
            os._exit(0)  # a child that the handler forked and let return: the answer is its parent's to give
        send(fd, kind, request_id, answer)


def _search_path() -> list[str]:
    """The function's code, its layers, and then what its own PYTHONPATH names, as on Lambda."""
    layers = os.environ.pop("LAMBENT_LAYERS_PYTHONPATH", "")
    own = os.environ.get("PYTHONPATH", "")
    return [os.environ["LAMBDA_TASK_ROOT"], *filter(None, f"{layers}:{own}".split(":"))]


def _come_with_runtime() -> str:
    """A folder of modules that functions find unless they bring their own, as with Lambda's runtimes."""
    return os.path.join(os.path.dirname(__file__), "modules")


def main(fd: int, snapshot: Fork | None = None) -> NoReturn:
    """With `snapshot` this process becomes one, and what follows runs in each that is forked of it."""
    os.set_inheritable(fd, False)
    output.install()
    Context.read_environment()
    sys.path[:0] = _search_path()
    sys.path.append(_come_with_runtime())
    builtins.exit = builtins.quit = Quitter("exit", "Ctrl-D")  # as everywhere but under `python -S`
    install()
    send(fd, "initialising")
    try:
        if snapshot is None:
            handler = load(os.environ["_HANDLER"])
        else:
            handler = restored(fd, snapshot, lambda: load(os.environ["_HANDLER"]))
    except Exception as error:  # noqa: BLE001 - a module may raise anything while it is imported
        body = failure(error, "")
        output.flush()
        send(fd, "init_error", body=body)
        sys.exit(1)
    output.flush()
    send(fd, "ready")
    answer_events(fd, handler)
    sys.exit(0)
