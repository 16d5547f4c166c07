"""A small imitation of kube-scheduler, and of the kubelets: binds what is not gated where it fits, and keeps count of what went wrong."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from service.plugins.kubernetes.quantities import quantity
from tests.plugins.kubernetes.stub_store import StatusError

if TYPE_CHECKING:
    from tests.plugins.kubernetes.stub_store import Manifest, Store

RESOURCES = ("cpu", "memory", "nvidia.com/gpu")


class KubeScheduler:
    """Steps by hand or in a thread. ``overfull`` are nodes that were ever given more than they have."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.overfull: list[str] = []
        self.bound: dict[str, str] = {}  # uid to node
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, every_s: float = 0.02) -> None:
        def run() -> None:
            while not self._stop.wait(every_s):
                self.step()

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def step(self) -> list[str]:
        """Bind what can be bound; the names of the pods."""
        done = []
        with self.store.moved:
            waiting = [pod for pod in self.store.all("pods") if _schedulable(pod)]
            for pod in sorted(waiting, key=lambda one: (-int(one["spec"].get("priority") or 0), one["metadata"]["name"])):
                node = self._chosen(pod)
                if node is not None:
                    self._bind(pod, node)
                    done.append(pod["metadata"]["name"])
        return done

    def _bind(self, pod: Manifest, node: str) -> None:
        meta = pod["metadata"]
        try:
            self.store.bind(meta["namespace"], meta["name"], node)
        except StatusError:
            return
        self.bound[meta["uid"]] = node
        if any(amount < -1e-9 for amount in self._free(node, None).values()):
            self.overfull.append(node)

    def _chosen(self, pod: Manifest) -> str | None:
        fits = [node["metadata"]["name"] for node in self.store.all("nodes") if _accepts(node, pod) and self._has_room(node, pod)]
        nominated = pod["status"].get("nominatedNodeName")
        if nominated in fits:
            return str(nominated)
        return max(fits, key=lambda name: (self._free(name, None)["nvidia.com/gpu"], name), default=None)

    def _has_room(self, node: Manifest, pod: Manifest) -> bool:
        free, asked = self._free(node["metadata"]["name"], pod), wanted(pod)
        return all(asked[name] <= free[name] + 1e-9 for name in RESOURCES)

    def _free(self, node: str, besides: Manifest | None) -> dict[str, float]:
        """What a node has left; for ``besides`` also less what is nominated to it of the same or a higher priority."""
        allocatable = self.store.get("nodes", "", node)["status"]["allocatable"]
        free = {name: quantity(allocatable.get(name, "0")) for name in RESOURCES}
        for pod in self.store.all("pods"):
            if pod["status"].get("phase") in {"Succeeded", "Failed"}:
                continue
            there = pod["spec"].get("nodeName") == node
            if besides is not None and pod["metadata"]["uid"] != besides["metadata"]["uid"] and not pod["spec"].get("nodeName"):
                there = pod["status"].get("nominatedNodeName") == node and not pod["spec"].get("schedulingGates")
            if there:
                for name, amount in wanted(pod).items():
                    free[name] -= amount
        return free


def wanted(pod: Manifest) -> dict[str, float]:
    containers = pod["spec"]["containers"]
    return {name: sum(quantity(one.get("resources", {}).get("requests", {}).get(name, "0")) for one in containers) for name in RESOURCES}


def _schedulable(pod: Manifest) -> bool:
    spec = pod["spec"]
    return (
        not spec.get("nodeName")
        and not spec.get("schedulingGates")
        and not pod["metadata"].get("deletionTimestamp")
        and pod["status"].get("phase") == "Pending"
    )


def _accepts(node: Manifest, pod: Manifest) -> bool:
    ready = any(one["type"] == "Ready" and one["status"] == "True" for one in node["status"]["conditions"])
    labels: dict[str, Any] = node["metadata"].get("labels", {})
    selected = all(labels.get(name) == value for name, value in (pod["spec"].get("nodeSelector") or {}).items())
    return ready and not node["spec"].get("unschedulable") and selected
