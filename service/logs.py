"""Log lines: one each on standard error, for people or as JSON, with the ids of request, run and trace, and without secrets."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TextIO

import structlog

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor

    from service.settings import Settings

HIDDEN = "[hidden]"
SECRET_NAMES = re.compile(r"authorization|api[-_ ]?key|cookie|password|passwd|secret|token", re.IGNORECASE)
# The id of a key is public and useful to whoever reads the log; what follows it is not.
KEY_TEXT = re.compile(r"(qm_[0-9a-f]{16}_)[^\s\"',;&<>]+")
BEARER_TEXT = re.compile(r"(\bbearer\s+)(?!qm_)[^\s\"',;]+", re.IGNORECASE)
URL_PASSWORD = re.compile(r"(\b[a-z][a-z0-9+.-]*://[^\s/:@\"']*:)[^\s/\"']+(?=@)", re.IGNORECASE)
DEEPEST = 6  # levels of a logged structure that are looked through; what is deeper is written as text
# What these say at "info" is of no use to an operator.
QUIET = ("alembic", "sqlalchemy.engine", "sqlalchemy.pool", "httpx", "httpcore", "asyncio", "urllib3")


def configure(settings: Settings, stream: TextIO | None = None) -> None:
    """Send all log lines of this process, those of libraries too, to ``stream`` (standard error) in the form of the settings."""
    level = settings.log_level.upper()
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    finish: list[Processor] = [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        structlog.processors.format_exc_info,
        hide_secrets,
    ]
    if settings.log_format == "json":
        finish += [structlog.processors.EventRenamer("message"), structlog.processors.JSONRenderer(default=str)]
    else:
        finish += [
            on_one_line,
            structlog.dev.ConsoleRenderer(colors=False, pad_event_to=0, exception_formatter=structlog.dev.plain_traceback),
        ]
    handler = logging.StreamHandler(stream if stream is not None else sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processors=finish, foreign_pre_chain=shared))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        library = logging.getLogger(name)
        library.handlers[:] = []
        library.propagate = True
    logging.captureWarnings(capture=True)
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def without_secrets(text: str) -> str:
    """The text without the secrets of API keys, bearer tokens, and passwords in URLs."""
    # Most lines have none of these: looking for a word costs a fraction of matching an expression.
    if "qm_" in text:
        text = KEY_TEXT.sub(rf"\1{HIDDEN}", text)
    if "bearer" in text.lower():
        text = BEARER_TEXT.sub(rf"\1{HIDDEN}", text)
    if "://" in text:
        text = URL_PASSWORD.sub(rf"\1{HIDDEN}", text)
    return text


@lru_cache(maxsize=1_024)
def _is_secret(name: str) -> bool:
    return SECRET_NAMES.search(name) is not None


def hide_secrets(_logger: object, _method: str, event: EventDict) -> EventDict:
    """A structlog processor: every value without its secrets, and nothing of what is called a secret."""
    return {name: HIDDEN if _is_secret(name) else _cleaned(value, DEEPEST) for name, value in event.items()}


def on_one_line(_logger: object, _method: str, event: EventDict) -> EventDict:
    """A structlog processor for lines of text: a value that a caller chose must not look like a line of its own."""
    return {name: _escaped(value) if isinstance(value, str) and name != "exception" else value for name, value in event.items()}


def _escaped(text: str) -> str:
    return text if text.isprintable() else "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def _cleaned(value: Any, depth: int) -> Any:  # noqa: ANN401  (whatever is logged)
    match value:
        case None | bool() | int() | float():
            return value
        case str():
            return without_secrets(value)
        case Mapping() if depth:
            return {str(name): HIDDEN if _is_secret(str(name)) else _cleaned(inner, depth - 1) for name, inner in value.items()}
        case list() | tuple() | set() | frozenset() if depth:
            return [_cleaned(inner, depth - 1) for inner in value]
        case bytes():
            return without_secrets(value.decode("utf-8", "replace"))
        case _:
            return without_secrets(str(value))
