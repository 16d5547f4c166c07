"""What the service tells of itself: metrics, log lines without secrets, traces."""

import asyncio
import contextlib
import io
import json
import logging
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import insert

from service import logs
from service.errors import Unavailable
from service.keys import create_key
from service.logs import HIDDEN, hide_secrets, without_secrets
from service.operator_app import operator_app
from service.runs.database import Database
from service.runs.migrate import migrate
from service.runs.tables import runs
from service.settings import Settings
from service.telemetry import LATE_S, UNMATCHED, Telemetry
from service.tracing import NoTracingError, TraceParent, Tracing, new_trace_id, parse_traceparent, provider_with

KEY = f"qm_{'0123456789abcdef'}_{'S3cret-' * 6}x"
SECRET = KEY[20:]
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def value(telemetry: Telemetry, name: str, **labels: str) -> float | None:
    return telemetry.registry.get_sample_value(f"quartermaster_{name}", labels)


# ---------------------------------------------------------------- metrics


def test_a_run_that_ends_is_counted() -> None:
    telemetry = Telemetry()
    telemetry.run_ended("placement", "optimal", "gap", 0.5, 10.0, 0.0)
    telemetry.run_ended("placement", "no_plan", "deadline", 10.0 + LATE_S, 10.0, None)
    assert value(telemetry, "run_seconds_count", kind="placement", outcome="optimal") == 1
    assert value(telemetry, "runs_ended_total", kind="placement", outcome="no_plan", stop_reason="deadline") == 1
    assert value(telemetry, "run_gap_count", kind="placement") == 1
    assert value(telemetry, "deadline_misses_total", kind="placement") == 0  # exactly one second late is in time
    telemetry.run_ended("placement", "no_plan", "deadline", 10.001 + LATE_S, 10.0, None)
    assert value(telemetry, "deadline_misses_total", kind="placement") == 1


def test_plain_counters() -> None:
    telemetry = Telemetry()
    told: dict[str, Callable[[str], None]] = {
        "child_kills_total": telemetry.child_killed,
        "verify_failures_total": lambda _: telemetry.verify_failed(),
        "leases_lost_total": lambda _: telemetry.lease_lost(),
        "leases_expired_total": lambda _: telemetry.lease_expired(),
        "leases_handed_back_total": lambda _: telemetry.lease_handed_back(),
        "rate_limited_total": lambda _: telemetry.rate_limited(),
    }
    for name, tell in told.items():
        labels = {"reason": "memory"} if name == "child_kills_total" else {}
        assert value(telemetry, name, **labels) == 0
        tell("memory")
        assert value(telemetry, name, **labels) == 1


def test_requests_writes_cache_and_waits() -> None:
    telemetry = Telemetry()
    telemetry.request_ended("/v1/runs/{id}", "GET", 200, 0.01)
    telemetry.request_ended(None, "BREW", 500, 0.01)
    telemetry.run_accepted("placement", cached=True)
    telemetry.run_accepted("placement", cached=False)
    telemetry.run_claimed(-1.0)  # a clock that jumped back
    telemetry.written(3, 0.002)
    telemetry.worker_started(4)
    assert value(telemetry, "http_requests_total", route="/v1/runs/{id}", method="GET", status="200") == 1
    assert value(telemetry, "http_requests_total", route=UNMATCHED, method="other", status="500") == 1
    assert value(telemetry, "http_failures_total") == 1
    assert (value(telemetry, "runs_accepted_total", kind="placement"), value(telemetry, "cache_hits_total", kind="placement")) == (2, 1)
    assert value(telemetry, "queue_wait_seconds_sum") == 0
    assert value(telemetry, "database_write_operations_sum") == 3
    assert value(telemetry, "worker_slots") == 4
    telemetry.worker_stopped()
    assert value(telemetry, "worker_slots") == 0


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database(f"sqlite:///{tmp_path / 'queue.db'}", durability="crash")
    try:
        migrate(made)
        yield made
    finally:
        made.close()


def add_run(database: Database, number: int, state: str, created_at: float) -> None:
    row = {"id": f"run_{number}", "tenant": "t", "kind": "placement", "problem_id": "p", "state": state}
    row |= {"limits": "{}", "created_at": created_at, "priority": 0}  # type: ignore[dict-item]
    database.write(lambda connection: connection.execute(insert(runs), row).rowcount)


def test_the_queue_is_read_at_each_scrape(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    telemetry = Telemetry()
    telemetry.watch(database)
    monkeypatch.setattr("service.telemetry.time.time", lambda: 1_000.0)
    assert value(telemetry, "queue_oldest_seconds") == 0
    for number, (state, at) in enumerate([("queued", 900.0), ("queued", 950.0), ("solving", 100.0), ("succeeded", 1.0)]):
        add_run(database, number, state, at)
    assert value(telemetry, "queue_oldest_seconds") == 100
    assert value(telemetry, "runs", state="queued") == 2
    assert value(telemetry, "runs", state="solving") == 1
    assert value(telemetry, "runs", state="cancelling") == 0
    assert value(telemetry, "runs", state="succeeded") is None  # grows for ever and is nobody's queue
    assert value(telemetry, "database_up") == 1
    assert value(telemetry, "database_write_operations_sum") == 4


def test_a_database_that_is_down_is_told_and_the_rest_still_shown(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    telemetry = Telemetry()
    telemetry.watch(database)

    def refuse(_operation: object) -> None:
        raise Unavailable("the database does not answer")

    monkeypatch.setattr(database, "read", refuse)
    assert value(telemetry, "database_up") == 0
    assert value(telemetry, "runs", state="queued") is None
    assert b"quartermaster_verify_failures_total 0.0" in telemetry.exposition()[0]


def test_the_page_comes_in_the_form_that_is_asked_for() -> None:
    telemetry = Telemetry()
    plain, content_type = telemetry.exposition()
    assert content_type.startswith("text/plain")
    assert b'quartermaster_build_info{version="' in plain
    assert b"_created" not in plain
    modern, content_type = telemetry.exposition("application/openmetrics-text;version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    assert modern.endswith(b"# EOF\n")


def test_threads_count_together() -> None:
    telemetry = Telemetry()

    def lose() -> None:
        for _ in range(200):
            telemetry.lease_lost()

    threads = [threading.Thread(target=lose) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert value(telemetry, "leases_lost_total") == 800


# ---------------------------------------------------------------- the worker's own port


def asked(app: Any, path: str, headers: dict[str, str] | None = None) -> httpx.Response:
    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as client:
            return await client.get(path, headers=headers)

    return asyncio.run(ask())


def test_a_worker_answers_for_its_operator(database: Database) -> None:
    telemetry, stopping = Telemetry(), threading.Event()
    app = operator_app(Settings(), database, telemetry, stopping)
    assert asked(app, "/healthz").json() == {"status": "ok"}
    assert asked(app, "/readyz").status_code == 200
    assert "quartermaster_worker_slots" in asked(app, "/metrics").text
    stopping.set()
    stopped = asked(app, "/readyz")
    assert (stopped.status_code, stopped.headers["Retry-After"]) == (503, "1")
    assert stopped.headers["Content-Type"] == "application/problem+json"
    assert asked(app, "/healthz").status_code == 200


def test_a_workers_metrics_ask_for_an_admins_key_where_keys_are_required(database: Database) -> None:
    keys = {scope: database.write(lambda connection, scope=scope: create_key(connection, "t", [scope])) for scope in ("solve", "admin")}  # type: ignore[misc]
    app = operator_app(Settings(require_keys=True), database, Telemetry(), threading.Event())
    status = {name: asked(app, "/metrics", {"Authorization": f"Bearer {key}"}).status_code for name, key in keys.items()}
    assert status == {"solve": 403, "admin": 200}
    assert asked(app, "/metrics").status_code == 401


# ---------------------------------------------------------------- log lines


@contextlib.contextmanager
def logged(log_format: str, level: str = "info") -> Iterator[io.StringIO]:
    """The log of this block, and everything as it was before afterwards."""
    root = logging.getLogger()
    kept = (list(root.handlers), root.level, structlog.get_config())
    levels = {name: logging.getLogger(name).level for name in logs.QUIET}
    stream = io.StringIO()
    logs.configure(Settings.model_validate({"log_format": log_format, "log_level": level}), stream)
    try:
        yield stream
    finally:
        logging.captureWarnings(capture=False)
        root.handlers[:] = kept[0]
        root.setLevel(kept[1])
        for name, before in levels.items():
            logging.getLogger(name).setLevel(before)
        structlog.configure(**kept[2])


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_no_secret_reaches_the_log(log_format: str) -> None:
    with logged(log_format) as stream:
        log = structlog.get_logger("test")
        log.info("a request", authorization=f"Bearer {KEY}", headers={"X-API-Key": KEY, "accept": "*/*"}, path=f"/v1?key={KEY}&x=1")
        refused = f"refused {KEY}, sorry"
        log.warning(refused, parts=[KEY.encode(), (f"Bearer {SECRET}",)], password="hunter2")  # noqa: S106  (must be hidden)
        logging.getLogger("sqlalchemy.pool").warning("cannot reach %s", "postgresql://me:hunter2@host/name")
        logging.getLogger("uvicorn.error").info("%s", f"Authorization: Bearer {SECRET}")
        try:
            int(f"{KEY} at postgresql://me:hunter2@host")
        except ValueError:
            log.exception("a fault")
    text = stream.getvalue()
    assert SECRET not in text
    assert "hunter2" not in text
    assert text.count("qm_0123456789abcdef_[hidden]") >= 3
    assert "postgresql://me:[hidden]@host" in text
    assert "ValueError" in text
    assert "*/*" in text


def test_json_lines_are_json_with_the_ids_of_their_request() -> None:
    with logged("json") as stream:
        structlog.contextvars.bind_contextvars(request_id="r-1", run_id="run_1", trace_id=TRACE)
        try:
            structlog.get_logger("a.b").info("claimed", gap=0.5, plan=None)
            logging.getLogger("uvicorn.error").info("Started")
        finally:
            structlog.contextvars.unbind_contextvars("request_id", "run_id", "trace_id")
    first, second = (json.loads(line) for line in stream.getvalue().splitlines())
    assert first.pop("timestamp").endswith("Z")
    assert first == {
        "message": "claimed",
        "level": "info",
        "logger": "a.b",
        "gap": 0.5,
        "plan": None,
        "request_id": "r-1",
        "run_id": "run_1",
        "trace_id": TRACE,
    }
    assert (second["message"], second["logger"], second["request_id"]) == ("Started", "uvicorn.error", "r-1")


def test_less_important_lines_are_left_out() -> None:
    with logged("text", "warning") as stream:
        structlog.get_logger("x").info("not written")
        logging.getLogger("alembic").info("not written")
        structlog.get_logger("x").warning("written")
    assert "not written" not in stream.getvalue()
    assert "written" in stream.getvalue()


def test_a_callers_text_cannot_forge_a_line() -> None:
    with logged("text") as stream:
        structlog.get_logger("x").info("request", path="/a\n2026-01-01 [error] forged\x1b[31m")
    assert len(stream.getvalue().splitlines()) == 1
    assert "\x1b" not in stream.getvalue()


def test_warnings_of_libraries_are_lines_too() -> None:
    with logged("json") as stream, warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=True)
        warnings.warn("old", UserWarning, stacklevel=1)
    assert json.loads(stream.getvalue())["logger"] == "py.warnings"


@given(before=st.text(max_size=20), after=st.text(max_size=20), secret=st.from_regex(r"[A-Za-z0-9_-]{43}", fullmatch=True))
def test_a_key_is_found_wherever_it_stands(before: str, after: str, secret: str) -> None:
    cleaned = without_secrets(f"{before}qm_0123456789abcdef_{secret}{after}")
    assert secret not in cleaned
    assert HIDDEN in cleaned


def test_what_is_no_secret_stays() -> None:
    event = {"event": "a request", "path": "/v1/runs/run_0123", "url": "https://host:8080/x@y", "n": 3, "ok": True, "deep": {"a": [1, "b"]}}
    assert hide_secrets(None, "info", dict(event)) == event


# ---------------------------------------------------------------- traces


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (f"00-{TRACE}-{SPAN}-01", TraceParent(TRACE, SPAN, sampled=True)),
        (f"00-{TRACE}-{SPAN}-00", TraceParent(TRACE, SPAN, sampled=False)),
        (f" 00-{TRACE}-{SPAN}-03 ", TraceParent(TRACE, SPAN, sampled=True)),
        (f"cc-{TRACE}-{SPAN}-01-what-the-future-will-be-like", TraceParent(TRACE, SPAN, sampled=True)),
        (f"00-{TRACE}-{SPAN}-01-more", None),
        (f"ff-{TRACE}-{SPAN}-01", None),
        (f"00-{'0' * 32}-{SPAN}-01", None),
        (f"00-{TRACE}-{'0' * 16}-01", None),
        (f"00-{TRACE.upper()}-{SPAN}-01", None),
        (f"00-{TRACE[:-1]}-{SPAN}-01", None),
        (f"cc-{TRACE}-{SPAN}-01.more", None),
        ("", None),
        (None, None),
    ],
)
def test_traceparent(header: str | None, expected: TraceParent | None) -> None:
    assert parse_traceparent(header) == expected


@given(st.text(max_size=80))
def test_any_header_is_read_without_a_fault(header: str) -> None:
    found = parse_traceparent(header)
    assert found is None or len(found.trace_id) == 32


def test_a_new_trace_id_is_one() -> None:
    ids = {new_trace_id() for _ in range(50)}
    assert len(ids) == 50
    assert all(parse_traceparent(f"00-{found}-{SPAN}-01") for found in ids)


def test_without_the_library_spans_are_nothing() -> None:
    tracing = Tracing.of(Settings())
    with tracing.span("a run", trace_id=TRACE), pytest.raises(ValueError, match="through"), tracing.span("inner"):
        raise ValueError("through")
    tracing.close()


def test_traces_without_their_library_are_refused_with_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_name: str) -> Any:
        raise ImportError

    monkeypatch.setattr("service.tracing._library", missing)
    with pytest.raises(NoTracingError, match=r"quartermaster\[otel\]"):
        Tracing.of(Settings(trace=True))


def test_spans_join_the_callers_trace() -> None:
    sdk = pytest.importorskip("opentelemetry.sdk.trace.export", reason="the extra `otel` is not installed")
    memory = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter").InMemorySpanExporter()
    tracing = Tracing(provider_with(sdk.SimpleSpanProcessor(memory)))
    with tracing.span("request", parent=TraceParent(TRACE, SPAN, sampled=True), attributes={"request_id": "r-1", "none": None}):
        pass
    own = new_trace_id()
    with tracing.span("run", trace_id=own), tracing.span("inner"):
        pass
    with pytest.raises(ValueError, match="through"), tracing.span("bad", trace_id="not one"):
        raise ValueError("through")
    with tracing.span("dropped", parent=TraceParent(TRACE, SPAN, sampled=False)):
        pass
    spans = {span.name: span for span in memory.get_finished_spans()}
    tracing.close()
    assert spans["request"].context.trace_id == int(TRACE, 16)
    assert spans["request"].parent.span_id == int(SPAN, 16)
    assert dict(spans["request"].attributes) == {"request_id": "r-1"}
    assert (spans["run"].context.trace_id, spans["run"].parent) == (int(own, 16), None)
    assert spans["inner"].parent.span_id == spans["run"].context.span_id
    assert spans["bad"].status.is_ok is False
    assert "dropped" not in spans
