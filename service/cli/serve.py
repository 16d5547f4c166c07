"""The commands ``serve`` and ``worker``: processes that run until they are told to stop."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated

import typer

from service.cli.operation import DatabaseUrl, LogFormat, opened_database, settings_with, told_as_bad_input

Host = Annotated[str | None, typer.Option("--host", help="Address to listen on; QUARTERMASTER_HOST.", show_default=False)]
Port = Annotated[int | None, typer.Option("--port", help="Port to listen on, 0 for a free one; QUARTERMASTER_PORT.", show_default=False)]
Certificate = Annotated[
    Path | None, typer.Option("--tls-certificate", help="PEM certificate; QUARTERMASTER_TLS_CERTIFICATE.", show_default=False)
]
Key = Annotated[Path | None, typer.Option("--tls-key", help="PEM key of the certificate; QUARTERMASTER_TLS_KEY.", show_default=False)]
Slots = Annotated[int | None, typer.Option("--slots", help="Runs solved at a time; QUARTERMASTER_SLOTS.", show_default=False)]
MetricsPort = Annotated[
    int | None, typer.Option("--metrics-port", help="Port of /metrics, 0 for a free one; QUARTERMASTER_METRICS_PORT.", show_default=False)
]


def serve(
    host: Host = None,
    port: Port = None,
    no_workers: Annotated[bool, typer.Option("--no-workers", help="Only the API: `quartermaster worker` elsewhere solves.")] = False,
    slots: Slots = None,
    tls_certificate: Certificate = None,
    tls_key: Key = None,
    database_url: DatabaseUrl = None,
    log_format: LogFormat = None,
) -> None:
    """Serve the API, and solve: one process, ended in good order by SIGTERM or Ctrl-C, at once by a second."""
    settings = settings_with(
        host=host,
        port=port,
        slots=slots,
        tls_certificate=tls_certificate,
        tls_key=tls_key,
        database_url=database_url,
        log_format=log_format,
    )
    from service import serving

    with contextlib.ExitStack() as stack:
        with told_as_bad_input():
            serving.check_tls(settings)
            listener = stack.enter_context(serving.listening(settings.host, settings.port))
        database = stack.enter_context(opened_database(settings))
        with told_as_bad_input():
            serving.check_keys(settings, database)
            serving.serve(settings, database, listener, workers=not no_workers, announce=_announce)


def worker(
    slots: Slots = None,
    host: Host = None,
    metrics_port: MetricsPort = None,
    database_url: DatabaseUrl = None,
    log_format: LogFormat = None,
) -> None:
    """Solve the runs of a database that API processes elsewhere accept."""
    settings = settings_with(host=host, slots=slots, metrics_port=metrics_port, database_url=database_url, log_format=log_format)
    from service import serving

    with contextlib.ExitStack() as stack:
        metrics = None
        with told_as_bad_input():
            if settings.metrics_port is not None:
                serving.check_tls(settings)
                metrics = stack.enter_context(serving.listening(settings.host, settings.metrics_port))
        database = stack.enter_context(opened_database(settings))
        with told_as_bad_input():
            serving.work(settings, database, metrics, announce=lambda told: typer.echo(f"Quartermaster works: {told}"))


def _announce(url: str) -> None:
    typer.echo(f"Quartermaster serves on {url}")
