"""The state behind the stub: objects with versions, the history that watches read, and what becomes of each request."""

from __future__ import annotations

import threading
import uuid
from dataclasses import dataclass, field
from typing import Any

from tests.plugins.kubernetes import stub_rules
from tests.plugins.kubernetes.stub_patches import PatchError, json_patch, merge_patch, strategic_patch

Manifest = dict[str, Any]
PATCHES = {
    "application/json-patch+json": json_patch,
    "application/merge-patch+json": merge_patch,
    "application/strategic-merge-patch+json": strategic_patch,
}
CLUSTER_WIDE = frozenset({"nodes", "priorityclasses"})


class StatusError(Exception):
    """An answer that is no success."""

    def __init__(self, code: int, reason: str, message: str, after_s: int | None = None) -> None:
        super().__init__(message)
        self.code, self.reason, self.message, self.after_s = code, reason, message, after_s

    @property
    def body(self) -> Manifest:
        return {
            "kind": "Status",
            "apiVersion": "v1",
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.code,
        }


@dataclass(frozen=True)
class Happened:
    version: int
    kind: str
    resource: str
    manifest: Manifest


@dataclass
class Store:
    """``resources`` are served; others are 404. ``admission`` may refuse a changed pod by raising StatusError."""

    resources: set[str] = field(default_factory=lambda: {"nodes", "pods", "events", "jobs", "priorityclasses", "poddisruptionbudgets"})
    admission: Any = None
    version: int = 100
    compacted: int = 0
    objects: dict[tuple[str, str, str], Manifest] = field(default_factory=dict)
    history: list[Happened] = field(default_factory=list)
    moved: threading.Condition = field(default_factory=lambda: threading.Condition(threading.RLock()))

    def get(self, resource: str, namespace: str, name: str) -> Manifest:
        with self.moved:
            found = self.objects.get((resource, namespace, name))
            if found is None:
                raise StatusError(404, "NotFound", f'{resource} "{name}" not found')
            return copied(found)

    def all(self, resource: str, namespace: str | None = None) -> list[Manifest]:
        """All objects of a kind: to be read, not changed."""
        with self.moved:
            return [one for (kind, space, _), one in sorted(self.objects.items()) if kind == resource and namespace in {None, space}]

    def create(self, resource: str, manifest: Manifest, namespace: str = "") -> Manifest:
        with self.moved:
            made = copied(manifest)
            meta = made.setdefault("metadata", {})
            if resource not in CLUSTER_WIDE:
                meta["namespace"] = namespace or meta.get("namespace") or "default"
            key = (resource, meta.get("namespace", ""), meta.get("name", ""))
            self._check_new(resource, made, key[1])
            if key in self.objects:
                raise StatusError(409, "AlreadyExists", f'{resource} "{key[2]}" already exists')
            meta["uid"] = meta.get("uid") or str(uuid.uuid4())
            meta.setdefault("creationTimestamp", "2026-01-01T00:00:00Z")
            if resource == "pods":
                made.setdefault("status", {}).setdefault("phase", "Pending")
            return self._keep("ADDED", key, made)

    def _check_new(self, resource: str, made: Manifest, namespace: str) -> None:
        try:
            if resource == "pods":
                stub_rules.check_new_pod(made)
            elif resource == "events":
                stub_rules.check_event(made, namespace)
        except stub_rules.InvalidError as error:
            raise StatusError(422, "Invalid", str(error)) from None

    def patch(self, resource: str, namespace: str, name: str, kind: str, body: Any, *, sub: str = "", dry_run: bool = False) -> Manifest:
        """A patch of an object or its status, checked as an update."""
        apply = PATCHES.get(kind)
        if apply is None:
            raise StatusError(415, "UnsupportedMediaType", f"the body of the request was in an unknown format: {kind}")
        with self.moved:
            old = self.get(resource, namespace, name)
            try:
                new = apply(old, body)
            except PatchError as error:
                raise StatusError(422, "Invalid", f"the server rejected our request due to an error in our request: {error}") from None
            return self.update(resource, namespace, name, new, sub=sub, dry_run=dry_run)

    def update(self, resource: str, namespace: str, name: str, new: Manifest, *, sub: str = "", dry_run: bool = False) -> Manifest:
        with self.moved:
            old = self.get(resource, namespace, name)
            self._check_lock(old, new, resource, name)
            if sub == "status":
                new["spec"] = copied(old.get("spec", {}))
            elif resource == "pods":
                new["status"] = copied(old.get("status", {}))
            for fixed in ("uid", "name", "namespace", "creationTimestamp"):
                if fixed in old["metadata"]:
                    new["metadata"][fixed] = old["metadata"][fixed]
            if resource == "pods":
                self._check_pod(old, new, sub)
            if dry_run or _same(old, new):
                return new | {"metadata": new["metadata"] | {"resourceVersion": old["metadata"]["resourceVersion"]}}
            return self._keep("MODIFIED", (resource, namespace, name), new)

    def _check_lock(self, old: Manifest, new: Manifest, resource: str, name: str) -> None:
        meta = new.get("metadata", {})
        if meta.get("uid") not in {None, "", old["metadata"]["uid"]}:
            raise StatusError(422, "Invalid", f'{resource} "{name}" is invalid: metadata.uid: Invalid value: field is immutable')
        if meta.get("resourceVersion") not in {None, "", old["metadata"]["resourceVersion"]}:
            told = f'Operation cannot be fulfilled on {resource} "{name}": the object has been modified'
            raise StatusError(409, "Conflict", told)

    def _check_pod(self, old: Manifest, new: Manifest, sub: str) -> None:
        try:
            if sub == "status":
                stub_rules.check_status(new)
            else:
                stub_rules.check_changed_pod(old, new)
        except stub_rules.InvalidError as error:
            raise StatusError(422, "Invalid", f'Pod "{old["metadata"]["name"]}" is invalid: {error}') from None
        if self.admission is not None and sub != "status":
            self.admission(old, new)

    def delete(self, resource: str, namespace: str, name: str, options: Manifest | None = None) -> Manifest:
        """A bound pod is only marked (its kubelet ends it: ``end``); anything else is gone at once."""
        with self.moved:
            old = self.get(resource, namespace, name)
            for field_name, value in ((options or {}).get("preconditions") or {}).items():
                if old["metadata"].get(field_name) != value:
                    raise StatusError(409, "Conflict", f"Precondition failed: {field_name}")
            if resource == "pods" and old["spec"].get("nodeName") and old["status"].get("phase") not in {"Succeeded", "Failed"}:
                old["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:30Z"
                return self._keep("MODIFIED", (resource, namespace, name), old)
            return self.end(resource, namespace, name)

    def end(self, resource: str, namespace: str, name: str) -> Manifest:
        """Remove an object now."""
        with self.moved:
            return self._keep("DELETED", (resource, namespace, name), self.get(resource, namespace, name))

    def bind(self, namespace: str, name: str, node: str) -> None:
        """What the scheduler posts: refused while a gate is there."""
        with self.moved:
            pod = self.get("pods", namespace, name)
            if pod["spec"].get("schedulingGates"):
                raise StatusError(400, "BadRequest", f"pod {name} has non-empty .spec.schedulingGates")
            if pod["spec"].get("nodeName") or pod["metadata"].get("deletionTimestamp"):
                raise StatusError(409, "Conflict", f"pod {name} is already assigned to a node, or is being deleted")
            pod["spec"]["nodeName"] = node
            pod["status"] = {"phase": "Running", "startTime": "2026-01-01T00:00:01Z"}  # since 1.35 binding clears the nominated node
            self._keep("MODIFIED", ("pods", namespace, name), pod)

    def put(self, resource: str, manifest: Manifest) -> Manifest:
        """Change an object as a controller of the cluster's own would: past all rules."""
        with self.moved:
            key = (resource, manifest["metadata"].get("namespace", ""), manifest["metadata"]["name"])
            return self._keep("MODIFIED" if key in self.objects else "ADDED", key, copied(manifest))

    def compact(self) -> None:
        """Forget the history: watches from an older version are gone."""
        with self.moved:
            self.compacted, self.history = self.version, []

    def _keep(self, kind: str, key: tuple[str, str, str], manifest: Manifest) -> Manifest:
        self.version += 1
        manifest["metadata"]["resourceVersion"] = str(self.version)
        if kind == "DELETED":
            del self.objects[key]
        else:
            self.objects[key] = manifest
        self.history.append(Happened(self.version, kind, key[0], manifest))
        self.moved.notify_all()
        return copied(manifest)


def copied(manifest: Manifest) -> Manifest:
    """A copy of what JSON can hold: several times as fast as ``copy.deepcopy``."""
    return {name: _copied(value) for name, value in manifest.items()}


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return copied(value)
    return [_copied(one) for one in value] if isinstance(value, list) else value


def _same(old: Manifest, new: Manifest) -> bool:
    return old | {"metadata": old["metadata"] | {"resourceVersion": ""}} == new | {"metadata": new["metadata"] | {"resourceVersion": ""}}
