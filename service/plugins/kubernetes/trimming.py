"""Objects cut down to what is read of them, so that fifty thousand pods fit in memory and a heartbeat is no change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from service.plugins.kubernetes.fields import Object

META = frozenset(
    {"name", "namespace", "uid", "resourceVersion", "labels", "annotations", "ownerReferences", "creationTimestamp", "deletionTimestamp"}
)
FINISHED_SPEC = frozenset({"nodeName", "schedulingGroup"})  # of a pod that uses nothing any more
CONTAINER = frozenset({"name", "resources", "restartPolicy", "ports"})
STANDS = frozenset({"persistentVolumeClaim", "ephemeral"})  # volumes that may be in one zone only
UNREAD = ("ephemeralContainers", "imagePullSecrets", "securityContext", "dnsPolicy", "dnsConfig", "hostAliases")
POD_STATUS = frozenset({"phase", "nominatedNodeName", "startTime"})
NODE_STATUS = frozenset({"allocatable", "capacity", "conditions", "nodeInfo"})
LONG_NOTE = "kubectl.kubernetes.io/last-applied-configuration"


def trimmed(manifest: Object) -> Object:
    """The object without what nobody reads here. Anything that is not of the promised type stays as it is."""
    found = dict(manifest)
    if isinstance(meta := found.get("metadata"), Mapping):
        found["metadata"] = _only(meta, META)
        if isinstance(notes := meta.get("annotations"), Mapping) and LONG_NOTE in notes:
            found["metadata"]["annotations"] = {name: value for name, value in notes.items() if name != LONG_NOTE}
    spec, status = found.get("spec"), found.get("status")
    if isinstance(spec, Mapping) and "containers" in spec:
        found["spec"] = dict(spec) | {name: _containers(spec[name]) for name in ("containers", "initContainers") if name in spec}
        for unread in UNREAD:
            found["spec"].pop(unread, None)
        if isinstance(volumes := spec.get("volumes"), list):
            found["spec"]["volumes"] = [one for one in volumes if not isinstance(one, Mapping) or not STANDS.isdisjoint(one)]
        if isinstance(status, Mapping):
            found["status"] = _only(status, POD_STATUS)
            if status.get("phase") in ("Succeeded", "Failed"):  # no set: a broken phase may have no hash
                found["spec"] = _only(spec, FINISHED_SPEC)
    elif isinstance(status, Mapping) and "nodeInfo" in status:
        found["status"] = _only(status, NODE_STATUS)
        if isinstance(conditions := status.get("conditions"), list):
            found["status"]["conditions"] = [_only(one, {"type", "status"}) if isinstance(one, Mapping) else one for one in conditions]
    return found


def alike(one: Object, other: Object) -> bool:
    """Whether two trimmed objects differ in nothing but their version."""
    return _without_version(one) == _without_version(other)


def _without_version(manifest: Object) -> dict[str, Any]:
    meta = manifest.get("metadata")
    if not isinstance(meta, Mapping):
        return dict(manifest)
    return dict(manifest) | {"metadata": {name: value for name, value in meta.items() if name != "resourceVersion"}}


def _only(holder: Mapping[str, Any], names: frozenset[str] | set[str]) -> dict[str, Any]:
    return {name: value for name, value in holder.items() if name in names}


def _containers(containers: object) -> object:
    if not isinstance(containers, list):
        return containers
    return [_only(one, CONTAINER) if isinstance(one, Mapping) else one for one in containers]
