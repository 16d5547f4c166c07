"""Releases every held pod: what the watchdog does when nobody follows the plan any more.

It shares nothing with the follower but the API: it lists, and takes the gate away. The client is imported with the module, since
the watchdog loads it at its start and must act at once later.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import kubernetes.client
import kubernetes.config  # noqa: F401  (as above: loaded now, used by Connection)

from service.plugins.kubernetes.connection import Connection
from service.plugins.kubernetes.listing import pages
from service.plugins.kubernetes.pods import Pod, bare_pod
from service.plugins.kubernetes.releases import Release
from service.plugins.kubernetes.releasing import Releasing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

GATE = "quartermaster.dev/plan"
LIMIT_S = 20.0  # of one go at all of them


def free_all(config: Mapping[str, Any]) -> Callable[[], tuple[str, ...]]:
    """A function that releases every held pod, and gives their names.

    ``config``: ``kubeconfig`` and ``context`` (left out: as the client finds them), ``gate``, ``namespaces`` (left out: all).
    The function raises SchedulerError when pods cannot be listed. Raises as it does when the API server cannot be found.
    """
    kubeconfig = config.get("kubeconfig")
    connection = Connection.opened(Path(kubeconfig) if kubeconfig else None, config.get("context"))
    gate, namespaces = str(config.get("gate") or GATE), frozenset(config.get("namespaces") or ())
    releasing = Releasing(connection, gate, lambda _: None)

    def free() -> tuple[str, ...]:
        deadline = time.monotonic() + LIMIT_S
        held = [pod for pod in _held(connection, gate) if not namespaces or pod.namespace in namespaces]
        return releasing.freed([Release(pod) for pod in held], deadline)

    return free


def _held(connection: Connection, gate: str) -> list[Pod]:
    """The held pods: of all others nothing is kept, for the watchdog's process is to stay small. Raises SchedulerError."""
    found = pages(connection, "/api/v1/pods", {"fieldSelector": "spec.nodeName=,status.phase=Pending"})
    return [pod for pod in map(bare_pod, found) if pod is not None and pod.held_by(gate)]
