"""The command ``kubernetes``: have a cluster follow the plan, watch over that, and save what the cluster looks like."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.errors import BadInputError
from service.cli.following import configure_logs, counting, plugin_settings
from service.cli.stopping import soft_stop
from service.plugins.modes import Mode

if TYPE_CHECKING:
    from service.plugins.kubernetes.connection import Connection
    from service.plugins.kubernetes.nodes import ReadingOptions

app = typer.Typer(help="Have a Kubernetes cluster follow the plan.", no_args_is_help=True)

Kubeconfig = Annotated[
    Path | None,
    typer.Option("--kubeconfig", metavar="FILE", help="Left out: the pod's service account, or your own file.", show_default=False),
]
Context = Annotated[str | None, typer.Option("--context", metavar="NAME", help="Context of that file.", show_default=False)]
Namespace = Annotated[
    list[str] | None,
    typer.Option("--namespace", metavar="NAME", help="Plan the gated pods of this namespace; may be given again.", show_default=False),
]
Gate = Annotated[str, typer.Option("--gate", metavar="NAME", help="The scheduling gate of pods that opted in.")]
GpuResource = Annotated[
    list[str] | None,
    typer.Option("--gpu-resource", metavar="NAME", help="Counts as a GPU; nvidia.com/gpu. May be given again.", show_default=False),
]
TopologyLabel = Annotated[
    list[str] | None,
    typer.Option("--topology-label", metavar="LEVEL=LABEL", help="Of nodes: level site, row, rack or nvlink_domain.", show_default=False),
]
Stamp = Annotated[
    Path | None,
    typer.Option("--stamp", metavar="FILE", help="The sign of life; ~/.local/state/quartermaster/kubernetes.stamp.", show_default=False),
]
GATE = "quartermaster.dev/plan"
LEVELS = ("site", "row", "rack", "nvlink_domain")


@app.command()
def run(  # noqa: PLR0913, PLR0917  (each is an option)
    mode: Annotated[
        Mode | None, typer.Option(help="shadow touches nothing and reports; enforce pins and releases gated pods.", show_default=False)
    ] = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    namespace: Namespace = None,
    gate: Gate = GATE,
    gpu_resource: GpuResource = None,
    topology_label: TopologyLabel = None,
    hard: Annotated[bool, typer.Option("--hard/--soft", help="Pin by node selector, or only nominate the node.")] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Delete hard-pinned pods whose node is lost before they start.")] = False,
    time_limit: Annotated[float | None, typer.Option("--time-limit", metavar="SECONDS", help="Of one solve.", show_default=False)] = None,
    stamp: Stamp = None,
    watchdog: Annotated[
        bool | None,
        typer.Option("--watchdog/--no-watchdog", help="Start the watchdog too; not where --stamp is given.", show_default=False),
    ] = None,
    metrics_host: Annotated[str, typer.Option(help="Address of /metrics.")] = "127.0.0.1",
    metrics_port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port of /metrics.", show_default=False)] = None,
    rounds: Annotated[int | None, typer.Option(min=1, help="End after so many rounds.", show_default=False)] = None,
) -> None:
    """Follow the cluster until Ctrl-C or SIGTERM; then everything held is released. Settings: QUARTERMASTER_PLUGIN_*."""
    settings = plugin_settings(mode=mode, time_limit_s=time_limit)
    options = reading_options(namespace, gate, gpu_resource, topology_label, hard=hard)
    connection = connected(kubeconfig, context)
    configure_logs()
    from service.cli.shadow_report import ShadowReport
    from service.plugins.kubernetes import running
    from service.plugins.optimisers import LocalOptimiser
    from service.plugins.running import state_folder

    following = running.Following(
        settings,
        stamp or state_folder() / running.STAMP,
        kubeconfig,
        context,
        options,
        replaces=replace,
        watched=not (stamp is None if watchdog is None else watchdog),
        metrics=None if metrics_port is None else (metrics_host, metrics_port),
    )
    stop, report = (
        threading.Event(),
        ShadowReport(f"`quartermaster kubernetes run --mode enforce`, and the gate {gate} in their pod templates,"),
    )
    with soft_stop(stop, "what is held is released" if settings.mode is Mode.enforce else "nothing was changed"):
        try:
            running.follow(connection, LocalOptimiser(), following, stop, counting(stop, rounds, report.note))
            if settings.mode is Mode.shadow:
                report.end()
        except OSError as error:
            raise BadInputError(f"{error.filename or 'the stamp or the port'}: cannot be used ({error.strerror or error})") from None


@app.command()
def watchdog(
    limit: Annotated[
        float | None, typer.Option("--limit", metavar="SECONDS", help="How old the stamp may get.", show_default=False)
    ] = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    namespace: Namespace = None,
    gate: Gate = GATE,
    stamp: Stamp = None,
) -> None:
    """Release everything held when no good round was made for too long. For a process of its own: `run --no-watchdog` beside it."""
    settings = plugin_settings(watchdog_s=limit)
    connected(kubeconfig, context)
    from service.plugins import watchdog as dog
    from service.plugins.kubernetes import running
    from service.plugins.running import state_folder

    path = stamp or state_folder() / running.STAMP
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise BadInputError(f"--stamp {path}: its folder cannot be made ({error.strerror}); give another file") from None
    options = reading_options(namespace, gate, None, None, hard=False)
    config = json.dumps(running.Following(settings, path, kubeconfig, context, options).freeing())
    raise typer.Exit(
        dog.main(["--stamp", str(path), "--limit-s", str(settings.watchdog_s), "--free", running.FREER, "--config", config, "--stay"])
    )


@app.command()
def release(kubeconfig: Kubeconfig = None, context: Context = None, namespace: Namespace = None, gate: Gate = GATE) -> None:
    """Take the gate from every pod that is held now, once, and end: the way back. Gates of others stay."""
    connected(kubeconfig, context)
    from service.plugins.kubernetes.freeing import free_all
    from service.plugins.scheduler import SchedulerError

    found = {"kubeconfig": str(kubeconfig) if kubeconfig is not None else None, "context": context, "gate": gate}
    try:
        freed = free_all(found | {"namespaces": namespace or []})()
    except SchedulerError as error:
        raise BadInputError(str(error)) from None
    typer.echo(f"{len(freed):,} pods released")


@app.command()
def snapshot(
    out: Annotated[Path, typer.Option(metavar="FILE", help="Where the objects are written, as one List in JSON.")],
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Save what the cluster looks like now, for `import kubernetes` and `simulate --kubernetes`. Nothing is changed."""
    from service.plugins.kubernetes.listing import listed
    from service.plugins.kubernetes.reading import ClusterObjects
    from service.plugins.kubernetes.reading import snapshot as read
    from service.plugins.scheduler import SchedulerError

    try:
        document = listed(connected(kubeconfig, context))
    except SchedulerError as error:
        raise BadInputError(str(error)) from None
    try:
        out.write_text(json.dumps(document), encoding="utf-8")
    except OSError as error:
        raise BadInputError(f"--out {out}: cannot be written ({error.strerror}); give another file") from None
    seen = read(ClusterObjects.of_list(document))
    waiting = sum(job.waits for job in seen.jobs)
    gpus = sum(node.gpus for node in seen.nodes)
    typer.echo(f"{out}: {len(seen.nodes):,} nodes with {gpus:,} GPUs, {len(seen.jobs) - waiting:,} jobs run, {waiting:,} wait")
    for warning in seen.warnings:
        typer.echo(warning, err=True)


def connected(kubeconfig: Path | None, context: str | None) -> Connection:
    """The way to the API server. Raises BadInputError."""
    from service.plugins.kubernetes.connection import Connection
    from service.plugins.scheduler import SchedulerError

    try:
        return Connection.opened(kubeconfig, context)
    except SchedulerError as error:
        raise BadInputError(str(error)) from None


def reading_options(
    namespaces: list[str] | None, gate: str, gpu_resources: list[str] | None, topology_labels: list[str] | None, *, hard: bool
) -> ReadingOptions:
    """How objects are read. Raises BadInputError."""
    from service.plugins.kubernetes.nodes import TOPOLOGY_LABELS, ReadingOptions

    labels = dict(TOPOLOGY_LABELS)
    for one in topology_labels or ():
        level, _, label = one.partition("=")
        if level not in LEVELS or not label:
            raise BadInputError(f"--topology-label {one}: give LEVEL=LABEL, where LEVEL is one of {', '.join(LEVELS)}")
        labels[level] = (label, *labels[level])
    return ReadingOptions(gate, tuple(gpu_resources or ("nvidia.com/gpu",)), labels, frozenset(namespaces or ()), hard)
