"""What an operator can set, each by an environment variable ``QUARTERMASTER_<NAME>``; the page ``service/README.md`` lists them all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

MIB = 2**20


def _cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


Seconds = Annotated[float, Field(gt=0, le=86_400 * 366, allow_inf_nan=False)]
Number = Annotated[int, Field(ge=1, le=10**9)]


class Settings(BaseSettings):
    """Settings of the service. Every field has a default that suits one machine; each is documented by its description."""

    model_config = SettingsConfigDict(env_prefix="QUARTERMASTER_", extra="ignore", frozen=True, secrets_dir=None)

    # -------------------------------------------------------------- where it listens and what it keeps
    host: str = Field(default="127.0.0.1", description="Address to listen on. Anything but loopback requires API keys.")
    port: int = Field(default=8080, ge=0, le=65_535, description="Port to listen on; 0 takes a free one and prints it.")
    database_url: SecretStr = Field(
        default=SecretStr("sqlite:///quartermaster.db"),
        description="Where runs are kept: sqlite:///FILE for one machine, postgresql://USER:PASSWORD@HOST/NAME for several.",
    )
    durability: Literal["power_loss", "crash"] = Field(
        default="power_loss",
        description="What an accepted run survives on SQLite: a loss of power (each commit reaches the disk), or a crash of processes.",
    )
    tls_certificate: Path | None = Field(default=None, description="PEM file of the server's certificate; with it HTTPS is served.")
    tls_key: Path | None = Field(default=None, description="PEM file of the certificate's private key.")
    require_keys: bool | None = Field(default=None, description="Whether API keys are required; left out: only when not on loopback.")

    # -------------------------------------------------------------- workers
    slots: int = Field(default_factory=_cpus, ge=1, le=1024, description="Runs solved at the same time by one worker.")
    spare_children: int = Field(default=1, ge=0, le=64, description="Warm child processes kept beside those that solve.")
    child_tasks: Number = Field(default=1_000, description="Tasks after which a child process is replaced by a fresh one.")
    child_growth_mib: Number = Field(default=512, description="Growth in MiB after which an idle child process is replaced.")
    memory_gib: float | None = Field(
        default=None, gt=0, allow_inf_nan=False, description="Most memory of one solve in GiB, also where a request asks for more."
    )
    heartbeat_s: Seconds = Field(default=1.0, description="How often a worker renews its leases and looks for cancellations.")
    lease_s: Seconds = Field(default=15.0, description="How long a lease may stand still before the run goes back to the queue.")
    attempts: int = Field(default=3, ge=1, le=100, description="How often a run is started before it fails for good.")
    poll_s: Seconds = Field(default=0.25, description="How often a worker looks for runs that another process accepted.")
    drain_s: Seconds = Field(default=10.0, description="How long a stopping worker lets its runs finish before it hands them back.")

    # -------------------------------------------------------------- limits of requests
    longest_time_limit_s: Seconds = Field(default=3_600.0, description="Longest time limit that a request may ask for.")
    most_threads: int = Field(default_factory=_cpus, ge=1, le=1024, description="Most threads that a request may ask for.")
    largest_body_mib: Number = Field(default=64, description="Largest request body in MiB, after decompression.")
    most_program_rows: Number = Field(default=200_000, description="Most rows of a linear program that is sent as an MPS or LP file.")
    most_program_columns: Number = Field(default=400_000, description="Most columns of such a program.")
    most_program_entries: Number = Field(default=5_000_000, description="Most non-zero entries of such a program.")
    most_scenarios: Number = Field(default=10_000, description="Most scenarios of one study.")
    most_ask_solves: Number = Field(default=10_000, description="Most solves that the asks of one study may take together.")
    longest_wait_s: Seconds = Field(default=60.0, description="Longest time that a request may wait for its run.")
    queue_limit: Number = Field(default=100_000, description="Queued runs of all tenants above which requests get 503.")
    tenant_queue_limit: Number = Field(default=20_000, description="Queued runs of one tenant above which its requests get 429.")
    tenant_running_limit: Number | None = Field(default=None, description="Runs of one tenant solved at the same time; left out: no limit.")
    rate_per_minute: Number | None = Field(
        default=None, description="Requests a minute that one API key (or one anonymous address) may make; left out: no limit."
    )
    most_streams: Number = Field(
        default=512,
        description="Open event streams and waiting requests; above it requests get 503, above half of it one tenant's get 429.",
    )
    most_connections: Number = Field(default=4096, description="Open connections; one more is answered 503 and closed.")
    highest_priority: int = Field(
        default=100, ge=0, le=1_000, description="Highest priority that a request may ask for; with the scope admin, up to 1000."
    )
    tenant_problem_mib: Number | None = Field(
        default=None, description="Problems in MiB that one tenant may keep, above which its requests get 429; left out: no limit."
    )

    # -------------------------------------------------------------- keeping and telling
    retention_days: float | None = Field(
        default=None, gt=0, allow_inf_nan=False, description="Days after which a finished run is deleted; left out: never."
    )
    cache: bool = Field(default=True, description="Whether a request equal to an answered one gets that answer at once.")
    log_format: Literal["json", "text"] = Field(default="text", description="Form of the log lines on standard error.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="Least important log line that is written.")
    trace: bool = Field(default=False, description="Whether OpenTelemetry traces are sent (needs the extra `otel`).")
    metrics_port: int | None = Field(default=None, ge=0, le=65_535, description="Port of /metrics in a process that is only a worker.")

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the service."""
        return self.host in {"127.0.0.1", "::1", "localhost"}

    @property
    def keys_required(self) -> bool:
        """Whether a request without an API key is refused."""
        return self.require_keys if self.require_keys is not None else not self.is_loopback
