"""What is written to the API server: JSON patches that a change in between refuses. Pure.

Each tests the pod's uid, its version and the place of the gate, so that it is done to the very pod that was read, or not at all.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from service.plugins.kubernetes.jobs import RELEASED
from service.plugins.kubernetes.pods import HOSTNAME

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from service.plugins.kubernetes.pods import Pod

SEATS = "quartermaster.dev/seats"  # annotation on the first pod of a gang that is released: where each of the others goes
NOMINATED = "quartermaster.dev/nominated"  # annotation: the node that we nominated
MOST_SEATS = 2000  # in one annotation: an object's annotations together may have 256 KiB
Operation = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Release:
    """One pod and where it goes. ``node`` is empty where the scheduler is to choose; ``host``: pin hard, by that host name's label."""

    pod: Pod
    node: str = ""
    host: str = ""

    @property
    def nominated(self) -> bool:
        """Whether the node is named in the pod's status before its release."""
        return bool(self.node) and not self.host

    def now(self, pod: Pod) -> Release:
        """The same for a newer reading of the pod."""
        return Release(pod, self.node, self.host)

    def unpinned(self) -> Release:
        """The same pod, left to the scheduler."""
        return Release(self.pod)


def pod_path(pod: Pod, *, status: bool = False) -> str:
    """The path of a pod, or of its status."""
    return f"/api/v1/namespaces/{pod.namespace}/pods/{pod.name}" + ("/status" if status else "")


def ungate(release: Release, gate: str, seats: Mapping[str, str] | None = None) -> list[Operation]:
    """Pin (hard) and release in one patch. ``seats`` are the nodes of the whole gang by the pods' uids, to be left on this one."""
    pod = release.pod
    place = pod.gates.index(gate)
    notes = {RELEASED: json.dumps({"node": release.node, "pin": "hard" if release.host else "soft" if release.node else "none"})}
    if seats is not None and len(seats) <= MOST_SEATS:
        notes[SEATS] = json.dumps(dict(seats), separators=(",", ":"))
    return [
        *_tests(pod),
        {"op": "test", "path": f"/spec/schedulingGates/{place}/name", "value": gate},
        *(_added("/spec/nodeSelector", pod.node_selector, {HOSTNAME: release.host}) if release.host else ()),
        *_added("/metadata/annotations", pod.annotations, notes),
        {"op": "remove", "path": f"/spec/schedulingGates/{place}"},
    ]


def nominate(release: Release) -> list[Operation]:
    """Name the node in the pod's status: the scheduler tries it first, and keeps its room from pods of no higher priority."""
    pod = release.pod
    return [
        *_tests(pod),
        {"op": "add", "path": "/status/nominatedNodeName", "value": release.node},
        *_added("/metadata/annotations", pod.annotations, {NOMINATED: release.node}),
    ]


def nominated_by_another(pod: Pod) -> bool:
    """Whether a node is nominated that is not the one we nominated last: it is not ours to overwrite."""
    return bool(pod.nominated_node) and pod.annotations.get(NOMINATED) != pod.nominated_node


def withdraw(pod: Pod) -> list[Operation]:
    """Take the nominated node back, where it is still the one that was read."""
    return [
        *_tests(pod),
        {"op": "test", "path": "/status/nominatedNodeName", "value": pod.nominated_node},
        {"op": "remove", "path": "/status/nominatedNodeName"},
    ]


def preconditions(pod: Pod) -> dict[str, Any]:
    """The options of a deletion of this very pod as it was read."""
    return {
        "apiVersion": "v1",
        "kind": "DeleteOptions",
        "preconditions": {"uid": pod.uid, "resourceVersion": pod.resource_version},
    }


def recorded_seats(pods: Sequence[Pod]) -> dict[str, str]:
    """The nodes by uid that the release of a gang's first pod left, if any of the pods carries them and they can be read."""
    for pod in pods:
        try:
            found = json.loads(pod.annotations.get(SEATS, ""))
        except ValueError:
            continue
        if isinstance(found, dict):
            return {str(uid): node for uid, node in found.items() if isinstance(node, str)}
    return {}


def recorded_pin(pod: Pod) -> str:
    """How it was released: hard, soft or none; empty where it was not, or nobody can tell."""
    try:
        found = json.loads(pod.annotations.get(RELEASED, ""))
    except ValueError:
        return ""
    pin = found.get("pin") if isinstance(found, dict) else None
    return pin if isinstance(pin, str) else ""


def _tests(pod: Pod) -> list[Operation]:
    return [
        {"op": "test", "path": "/metadata/uid", "value": pod.uid},
        {"op": "test", "path": "/metadata/resourceVersion", "value": pod.resource_version},
    ]


def _added(path: str, there: Mapping[str, str], new: Mapping[str, str]) -> list[Operation]:
    """Operations that add entries to an object of texts, which may be absent; an entry that is there already is left alone."""
    missing = {name: value for name, value in new.items() if there.get(name) != value}
    if not there:
        return [{"op": "add", "path": path, "value": missing}]
    return [{"op": "add", "path": f"{path}/{_escaped(name)}", "value": value} for name, value in missing.items()]


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")
