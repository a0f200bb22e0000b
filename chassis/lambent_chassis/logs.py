"""Logs to standard error: one JSON object a line in production, readable lines on a terminal.

The event is a constant word in snake_case, everything that varies is a field. What is bound to the context,
such as the part and its name, is in every line; so is what libraries say through the standard logging.
"""

import logging
import sys
from typing import TYPE_CHECKING, Final, Literal

import structlog
from structlog.tracebacks import ExceptionDictTransformer

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor

Level = Literal["debug", "info", "warning", "error"]
Format = Literal["auto", "json", "console"]

_LEVELS: Final = logging.getLevelNamesMapping()

_TRACEBACK: Final = ExceptionDictTransformer(show_locals=False)
"""Local variables hold passwords and people's events."""


def configure(level: Level = "info", form: Format = "auto", **context: str) -> None:
    """Sets up logging for the whole process, once, at its start."""
    console = form == "console" or (form == "auto" and sys.stderr.isatty())
    number = _LEVELS[level.upper()]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
    ]
    rendering: list[Processor] = (
        [
            _visible,
            structlog.dev.ConsoleRenderer(
                timestamp_key="at",
                colors=sys.stderr.isatty(),
                exception_formatter=structlog.dev.plain_traceback,
            ),
        ]
        if console
        else [
            structlog.processors.ExceptionRenderer(_TRACEBACK),
            structlog.processors.JSONRenderer(default=str),
        ]
    )
    structlog.configure(
        processors=[*shared, *rendering],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(**context)
    _adopt_standard_logging(number, shared, rendering)


def _visible(_: object, __: str, line: "EventDict") -> "EventDict":
    """A console shows what cannot be printed as Python writes it: no field may begin a line of its own."""
    for key, value in line.items():
        if isinstance(value, str) and not value.isprintable():
            line[key] = "".join([it if it.isprintable() else ascii(it)[1:-1] for it in value])
    return line


def _adopt_standard_logging(level: int, shared: "list[Processor]", rendering: "list[Processor]") -> None:
    """What libraries log comes out the same way, from warnings up."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(max(level, logging.WARNING))
