"""The command ``slurm``: have a Slurm cluster follow the plan, watch over that, and save or show what it looks like."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli.errors import BadInputError
from service.cli.following import configure_logs, counting, plugin_settings
from service.cli.stopping import soft_stop
from service.plugins.modes import Mode

if TYPE_CHECKING:
    from service.plugins.slurm.adapter import Slurm, Ways

app = typer.Typer(help="Have a Slurm cluster (22.05 or later) follow the plan.", no_args_is_help=True)

Partition = Annotated[
    list[str] | None,
    typer.Option("--partition", metavar="NAME", help="Plan the jobs of this partition; may be given again.", show_default=False),
]
Comment = Annotated[str, typer.Option("--comment", metavar="WORD", help="Plan the jobs whose --comment has this word; empty: none.")]
Timeout = Annotated[float, typer.Option("--timeout", min=0.1, max=600, metavar="SECONDS", help="Most time for one command of Slurm's.")]
Url = Annotated[
    str | None,
    typer.Option("--url", metavar="URL", help="slurmrestd, instead of Slurm's commands; its token is in SLURM_JWT.", show_default=False),
]
State = Annotated[
    Path | None,
    typer.Option("--state", metavar="FOLDER", help="Where the sign of life lies; ~/.local/state/quartermaster.", show_default=False),
]
Priority = Annotated[
    int | None, typer.Option("--priority", min=1, help="Priority that released jobs get; left out: Slurm's own.", show_default=False)
]
Limit = Annotated[float | None, typer.Option("--limit", metavar="SECONDS", help="How old the sign of life may get.", show_default=False)]
WORD = "quartermaster"
MOST_SHOWN = 20  # jobs named in one line


@app.command()
def run(  # noqa: PLR0913, PLR0917  (each is an option)
    mode: Annotated[
        Mode | None, typer.Option(help="shadow touches nothing and reports; enforce pins and releases held jobs.", show_default=False)
    ] = None,
    partition: Partition = None,
    comment: Comment = WORD,
    hold: Annotated[bool, typer.Option("--hold/--no-hold", help="Hold new jobs that no job_submit plugin has held.")] = True,
    priority: Priority = None,
    time_limit: Annotated[float | None, typer.Option("--time-limit", metavar="SECONDS", help="Of one solve.", show_default=False)] = None,
    url: Url = None,
    timeout: Timeout = 10.0,
    state: State = None,
    watchdog: Annotated[bool, typer.Option("--watchdog/--no-watchdog", help="Start the watchdog too (enforce only).")] = True,
    metrics_port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port of /metrics on 127.0.0.1.", show_default=False)] = None,
    rounds: Annotated[int | None, typer.Option(min=1, help="End after so many rounds.", show_default=False)] = None,
) -> None:
    """Follow the cluster until Ctrl-C or SIGTERM; then everything held is released. Settings: QUARTERMASTER_PLUGIN_*."""
    settings = plugin_settings(mode=mode, time_limit_s=time_limit)
    if settings.mode is Mode.advise:
        raise BadInputError("--mode advise: Slurm asks nobody for advice; use shadow, which reports, or enforce")
    enforce = settings.mode is Mode.enforce
    ways = _ways(partition, comment, enforce=enforce, hold=hold, priority=priority)
    slurm = _slurm(url, timeout, enforce=enforce)
    configure_logs()
    from service.cli.shadow_report import ShadowReport
    from service.plugins.optimisers import LocalOptimiser
    from service.plugins.slurm import running

    following = running.Following(
        settings, ways, state or running.state_folder(), running.config_of(ways, None, timeout) | {"url": url}, watchdog, metrics_port
    )
    stop = threading.Event()
    report = ShadowReport("`quartermaster slurm run --mode enforce`")
    with soft_stop(stop, "what is held is released" if enforce else "nothing was changed"):
        try:
            running.follow(slurm, LocalOptimiser(), following, stop, counting(stop, rounds, report.note))
            if not enforce:
                report.end()
        except OSError as error:
            raise BadInputError(f"{error.filename or 'the state folder or the port'}: cannot be used ({error.strerror or error})") from None


@app.command()
def watchdog(
    limit: Limit = None,
    partition: Partition = None,
    comment: Comment = WORD,
    timeout: Timeout = 10.0,
    state: State = None,
) -> None:
    """Release everything held when no good round was made for too long. For a unit of its own: `run --no-watchdog` beside it."""
    settings = plugin_settings(watchdog_s=limit)
    from service.plugins import watchdog as dog
    from service.plugins.slurm import running

    folder = state or running.state_folder()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise BadInputError(f"--state {folder}: cannot be made ({error.strerror}); give another folder") from None
    config = json.dumps(running.config_of(_ways(partition, comment, enforce=True), None, timeout))
    stamp = str(folder / running.STAMP)
    raise typer.Exit(
        dog.main(["--stamp", stamp, "--limit-s", str(settings.watchdog_s), "--free", running.FREER, "--config", config, "--stay"])
    )


@app.command()
def release(partition: Partition = None, comment: Comment = WORD, timeout: Timeout = 10.0) -> None:
    """Release everything that is held for a plan and take back every pin, once and now. A follower that runs holds new jobs again."""
    from service.plugins.scheduler import SchedulerError
    from service.plugins.slurm import running
    from service.plugins.slurm.release import freer

    ways = _ways(partition, comment, enforce=True)
    try:
        freed = freer(running.config_of(ways, None, timeout))()
    except SchedulerError as error:
        raise BadInputError(str(error)) from None
    some = ", ".join(freed[:MOST_SHOWN]) + (" ..." if len(freed) > MOST_SHOWN else "")
    typer.echo(f"{len(freed)} jobs were let go: {some}" if freed else "nothing was held for a plan or pinned")


@app.command()
def snapshot(
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where squeue.json, sinfo.json, topology.txt and snapshot.json are written.")],
    url: Url = None,
    timeout: Timeout = 10.0,
) -> None:
    """Save what the cluster looks like now, for `import slurm` and `simulate --slurm`. Nothing is changed."""
    from service.plugins.slurm.files import save
    from service.plugins.slurm.reading import read

    files = _asked(_slurm(url, timeout, enforce=False))
    try:
        save(files, out)
    except OSError as error:
        raise BadInputError(f"--out {out}: cannot be written ({error.strerror}); give another folder") from None
    seen = read(files).snapshot
    running = sum(not job.waits for job in seen.jobs)
    typer.echo(f"{out}: {len(seen.nodes):,} nodes with {sum(node.gpus for node in seen.nodes):,} GPUs, {running:,} jobs run, "
               f"{len(seen.jobs) - running:,} wait")  # fmt: skip


@app.command()
def status(
    partition: Partition = None,
    comment: Comment = WORD,
    url: Url = None,
    timeout: Timeout = 10.0,
    state: State = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Show what is free, what is held for a plan and why it waits, and when the last good round was."""
    from service.cli.slurm_status import show, status_of
    from service.plugins.slurm import running
    from service.plugins.slurm.reading import read

    found = read(_asked(_slurm(url, timeout, enforce=False)), _ways(partition, comment, enforce=False).opt_in)
    told = status_of(found, (state or running.state_folder()) / running.STAMP, time.time())
    if as_json:
        typer.echo(json.dumps(told, allow_nan=False))
    else:
        show(told)


def _ways(partition: list[str] | None, comment: str, *, enforce: bool, hold: bool = True, priority: int | None = None) -> Ways:
    from service.plugins.slurm.adapter import Ways
    from service.plugins.slurm.reading import OptIn

    if not comment and not partition:
        raise BadInputError("no job could opt in: give --partition, or a --comment that is not empty")
    return Ways(OptIn(frozenset(partition or ()), comment), enforce=enforce, hold=hold, priority=priority)


def _slurm(url: str | None, timeout_s: float, *, enforce: bool) -> Slurm:
    """Slurm's commands, or slurmrestd. Raises BadInputError when it cannot be used for what is asked."""
    from service.plugins.scheduler import SchedulerError

    try:
        if url is None:
            from service.plugins.slurm.commands import Commands

            commands = Commands(timeout_s=timeout_s)
            commands.version()
            return commands
        from service.plugins.slurm.rest import Rest

        rest = Rest(url, os.environ.get("SLURM_JWT", ""), timeout_s=timeout_s)
        if enforce:
            rest.must_pin()
    except SchedulerError as error:
        raise BadInputError(str(error)) from None
    return rest


def _asked(slurm: Slurm) -> Any:  # noqa: ANN401  (SlurmFiles, whose module is not loaded here)
    from service.plugins.scheduler import SchedulerError

    try:
        return slurm.read()
    except SchedulerError as error:
        raise BadInputError(str(error)) from None
    finally:
        slurm.close()
