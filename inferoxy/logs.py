"""Structured logs for every process of a stack.

One line per event on stderr: `console` for people, `json` for machines. An event is a short phrase in the past or
present tense; everything that varies is a key (model=, instance=, request=), never part of the phrase.
"""

import logging
import os
import sys
from typing import Any

import structlog


def setup(component: str, level: str = "info", form: str = "auto") -> None:
    """Configure structlog and the standard library's logging for this process."""
    number = logging.getLevelNamesMapping()[level.upper()]
    pretty = form == "console" or (form == "auto" and sys.stderr.isatty())
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="%H:%M:%S.%f" if pretty else "iso", utc=not pretty),
    ]
    if pretty:
        shared += [structlog.dev.ConsoleRenderer(pad_event_to=32, colors="NO_COLOR" not in os.environ)]
    else:
        shared += [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    structlog.configure(
        processors=shared,
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(component=component)
    logging.basicConfig(
        level=max(number, logging.WARNING), stream=sys.stderr, format="%(name)s %(levelname)s %(message)s"
    )


def get(**bound: Any) -> Any:
    """A logger with these keys bound; usable before `setup`."""
    return structlog.get_logger(**bound)
