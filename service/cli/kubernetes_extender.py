"""The command ``kubernetes extender``: have kube-scheduler ask for the plan, on a cluster without scheduling gates."""

from __future__ import annotations

import threading
from typing import Annotated

import typer

from service.cli.errors import BadInputError
from service.cli.following import configure_logs, counting, plugin_settings
from service.cli.kubernetes import (
    GATE,
    Context,
    GpuResource,
    Kubeconfig,
    Namespace,
    Stamp,
    TopologyLabel,
    connected,
    reading_options,
)
from service.cli.operation import told_as_bad_input
from service.cli.stopping import soft_stop
from service.plugins.modes import Mode

Host = Annotated[str, typer.Option(metavar="ADDRESS", help="To listen on. Whoever reaches it may ask where pods go.")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="To listen on; 0 takes a free one and prints it.")]


def extender(  # noqa: PLR0913, PLR0917  (each is an option)
    mode: Annotated[
        Mode | None,
        typer.Option(
            help="shadow changes no answer; advise scores; enforce lets pods start only where they are planned.", show_default=False
        ),
    ] = None,
    host: Host = "127.0.0.1",
    port: Port = 8090,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    namespace: Namespace = None,
    gpu_resource: GpuResource = None,
    topology_label: TopologyLabel = None,
    time_limit: Annotated[float | None, typer.Option("--time-limit", metavar="SECONDS", help="Of one solve.", show_default=False)] = None,
    stamp: Stamp = None,
    metrics_host: Annotated[str, typer.Option(help="Address of the planning's own /metrics.")] = "127.0.0.1",
    metrics_port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port of it; left out: none.", show_default=False)] = None,
    rounds: Annotated[int | None, typer.Option(min=1, help="End after so many rounds.", show_default=False)] = None,
) -> None:
    """Answer kube-scheduler from the plan until Ctrl-C or SIGTERM. Settings: QUARTERMASTER_PLUGIN_*."""
    settings = plugin_settings(mode=mode, time_limit_s=time_limit)
    options = reading_options(namespace, GATE, gpu_resource, topology_label, hard=False)
    connection = connected(kubeconfig, context)
    configure_logs()
    from service import serving
    from service.cli.shadow_report import ShadowReport
    from service.plugins.kubernetes import extender_running, running
    from service.plugins.kubernetes.extender import OPT_IN
    from service.plugins.optimisers import LocalOptimiser
    from service.plugins.running import state_folder

    following = running.Following(
        settings,
        stamp or state_folder() / "extender.stamp",
        kubeconfig,
        context,
        options,
        watched=True,
        metrics=None if metrics_port is None else (metrics_host, metrics_port),
    )
    with told_as_bad_input():
        listener = serving.listening(host, port)
    stop, report = (
        threading.Event(),
        ShadowReport(f"`quartermaster kubernetes extender --mode enforce`, and the label {OPT_IN}=true on their pods,"),
    )
    with listener, soft_stop(stop, "kube-scheduler goes on alone"):
        typer.echo(f"The extender answers on http://{host}:{listener.getsockname()[1]}")
        try:
            extender_running.follow(connection, LocalOptimiser(), following, listener, stop, counting(stop, rounds, report.note))
            if settings.mode is Mode.shadow:
                report.end()
        except OSError as error:
            raise BadInputError(
                f"{error.filename or 'the stamp or the port of the metrics'}: cannot be used ({error.strerror or error})"
            ) from None
