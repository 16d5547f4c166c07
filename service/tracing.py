"""Traces: the id that a caller sends along (W3C ``traceparent``), and OpenTelemetry spans where the extra ``otel`` is installed.

The trace id is kept with the run, so that its log lines, and its span in whatever process solves it, belong to the
caller's trace. All of this works without the library; only the spans need it.
"""

from __future__ import annotations

import contextlib
import importlib
import re
import secrets
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from service.errors import ServiceError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from service.settings import Settings

TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
TRACE_ID = re.compile(r"[0-9a-f]{32}")
INVALID_VERSION = "ff"
SAMPLED = 0x01
SERVICE = "quartermaster"


class NoTracingError(ServiceError):
    """Traces are asked for and their library is not installed."""

    code, title = "no_tracing", "Traces are not available"


@dataclass(frozen=True, slots=True)
class TraceParent:
    """What a caller says of its trace: hexadecimal ids of 16 and 8 bytes, and whether the trace is recorded."""

    trace_id: str
    span_id: str
    sampled: bool


def parse_traceparent(header: str | None) -> TraceParent | None:
    """A ``traceparent`` header by the W3C recommendation; None when there is none or it is not valid, which it says to ignore."""
    found = TRACEPARENT.fullmatch(header.strip()) if header is not None else None
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    if version == INVALID_VERSION or (version == "00" and more is not None) or not int(trace_id, 16) or not int(span_id, 16):
        return None
    return TraceParent(trace_id, span_id, bool(int(flags, 16) & SAMPLED))


def new_trace_id() -> str:
    """An id for a request that came without one: 32 hexadecimal digits, not all zero."""
    return secrets.token_hex(16)


_wanted: ContextVar[str | None] = ContextVar("wanted_trace_id", default=None)


class Tracing:
    """Opens spans, or does nothing when ``provider`` is None."""

    def __init__(self, provider: Any = None) -> None:  # noqa: ANN401  (a class of the library, which may be absent)
        self._provider = provider
        self._tracer = provider.get_tracer(SERVICE) if provider is not None else None

    @classmethod
    def of(cls, settings: Settings) -> Tracing:
        """As the settings say; spans go where the standard variables ``OTEL_EXPORTER_OTLP_*`` point.

        Raises NoTracingError when traces are asked for and the library is not installed.
        """
        if not settings.trace:
            return cls()
        try:
            exporter = _library("exporter.otlp.proto.http.trace_exporter").OTLPSpanExporter()
            processor = _library("sdk.trace.export").BatchSpanProcessor(exporter)
        except ImportError:
            raise NoTracingError(
                "QUARTERMASTER_TRACE needs OpenTelemetry; install it with: pip install 'quartermaster[otel]', or leave the setting out"
            ) from None
        return cls(provider_with(processor))

    @contextlib.contextmanager
    def span(
        self, name: str, *, parent: TraceParent | None = None, trace_id: str | None = None, attributes: Mapping[str, Any] | None = None
    ) -> Iterator[None]:
        """A span below ``parent``, or the first one of this process in the trace ``trace_id``, or below the one around it.

        An exception marks the span and goes on.
        """
        if self._tracer is None:
            yield
            return
        context = _remote(parent) if parent is not None else _library("context").Context() if trace_id is not None else None
        wanted = _wanted.set(trace_id if trace_id is not None and TRACE_ID.fullmatch(trace_id) and int(trace_id, 16) else None)
        given = {key: value for key, value in (attributes or {}).items() if value is not None}
        try:
            with self._tracer.start_as_current_span(name, context=context, attributes=given):
                yield
        finally:
            _wanted.reset(wanted)

    def close(self) -> None:
        """Send what is still to be sent."""
        if self._provider is not None:
            self._provider.shutdown()


def provider_with(processor: Any) -> Any:  # noqa: ANN401  (classes of the library, which may be absent)
    """A provider whose first spans take the trace id that is asked for, and whose spans go to ``processor``."""
    sdk = _library("sdk.trace")
    resource = _library("sdk.resources").Resource.create({"service.name": SERVICE})
    provider = sdk.TracerProvider(resource=resource, id_generator=_Ids(), shutdown_on_exit=False)
    provider.add_span_processor(processor)
    return provider


class _Ids:
    """A run's span joins the trace of the request that brought it, though another process wrote that."""

    def generate_trace_id(self) -> int:
        wanted = _wanted.get()
        return int(wanted if wanted is not None else new_trace_id(), 16)

    def generate_span_id(self) -> int:
        return secrets.randbits(64) or 1

    def is_trace_id_random(self) -> bool:
        return _wanted.get() is None


def _library(name: str) -> Any:  # noqa: ANN401  (a module of the library, which may be absent: nothing here depends on its types)
    return importlib.import_module(f"opentelemetry.{name}")


def _remote(parent: TraceParent) -> Any:  # noqa: ANN401
    trace = _library("trace")
    flags = trace.TraceFlags(SAMPLED if parent.sampled else 0)
    context = trace.SpanContext(int(parent.trace_id, 16), int(parent.span_id, 16), is_remote=True, trace_flags=flags)
    return trace.set_span_in_context(trace.NonRecordingSpan(context))
