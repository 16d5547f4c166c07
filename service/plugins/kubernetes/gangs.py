"""Which pods start together, and how many there are to be: from Jobs, JobSets and pod groups of four kinds.

| what marks a pod | its gang | the gang's size |
|---|---|---|
| annotation ``quartermaster.dev/gang: "false"`` | the pod alone | 1 |
| label ``kueue.x-k8s.io/pod-group-name`` | that group | annotation ``kueue.x-k8s.io/pod-group-total-count`` |
| label ``scheduling.x-k8s.io/pod-group`` | that PodGroup | ``minMember`` |
| annotation ``scheduling.k8s.io/group-name`` (Volcano) | that PodGroup | ``minMember`` |
| ``spec.schedulingGroup`` | that PodGroup of ``scheduling.k8s.io`` (v1alpha2, Kubernetes 1.36) | ``gang.minCount`` |
| label ``jobset.sigs.k8s.io/jobset-name`` | that JobSet, unless it starts its jobs in order | the pods of all its replicated jobs |
| a controller of kind Job | that Job, where parallelism equals completions | parallelism |

A Job or JobSet that is made anew under an old name is another gang: the pods of both may be there for a while.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

from service.plugins.kubernetes.fields import Object, ObjectError, as_object, named, part, parts, text, whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from service.plugins.kubernetes.pods import Pod

GANG = "quartermaster.dev/gang"  # annotation: "false" takes a pod out of its gang, "true" makes a gang of any Job
KUEUE_GROUP, KUEUE_COUNT = "kueue.x-k8s.io/pod-group-name", "kueue.x-k8s.io/pod-group-total-count"
COSCHEDULING_GROUP = "scheduling.x-k8s.io/pod-group"
VOLCANO_GROUP = "scheduling.k8s.io/group-name"
JOB_SET, JOB_SET_UID = "jobset.sigs.k8s.io/jobset-name", "jobset.sigs.k8s.io/jobset-uid"
COMPLETION_INDEX = "batch.kubernetes.io/job-completion-index"

Kind = Literal["pod", "job", "jobset", "podgroup", "kueue"]
NEVER = 10**9  # the size of a gang whose own object is not there yet, or cannot be read: it is not whole


@dataclass(frozen=True, slots=True)
class Groups:
    """The sizes of what groups pods, by namespace and name; None: objects of the kind were not read at all."""

    jobs: Mapping[tuple[str, str], int | None] | None = None  # None: its pods are no gang
    job_sets: Mapping[tuple[str, str], int | None] | None = None
    pod_groups: Mapping[tuple[str, str], int | None] | None = None  # None: its pods need not start together


@dataclass(slots=True)
class Gang:
    """Pods that start together. ``size`` is how many there are to be; None: as many as are seen.

    ``earlier`` is the uid of a Job or JobSet whose name another one has now; empty of the newest.
    """

    kind: Kind
    namespace: str
    name: str
    size: int | None
    members: list[Pod] = field(default_factory=list)  # that have not ended and are not being deleted
    ended: list[Pod] = field(default_factory=list)
    earlier: str = ""

    @property
    def id(self) -> str:
        """``namespace/kind/name``, and the uid behind an @ where the name is another one's now."""
        return f"{self.namespace}/{self.kind}/{self.name}" + (f"@{self.earlier}" if self.earlier else "")

    @property
    def display(self) -> str:
        """``namespace/name``."""
        return f"{self.namespace}/{self.name}"

    @property
    def wanted(self) -> int:
        """How many members there are to be now: those that have succeeded are not awaited again."""
        succeeded = sum(pod.phase == "Succeeded" and not pod.deleting for pod in self.ended)
        return max((self.size or 0) - succeeded, len(self.members))

    def held(self, gate: str) -> list[Pod]:
        """The members that the gate keeps back, in the order of their names."""
        return [pod for pod in self.members if pod.held_by(gate)]


def gather(pods: Iterable[Pod], groups: Groups) -> dict[str, Gang]:
    """The gangs by id; a pod on its own is a gang of one. The members are in the order of their names."""
    found: dict[tuple[str, str, str], dict[str, Gang]] = {}
    for pod in pods:
        kind, name, size = _belongs(pod, groups)
        generations, uid = found.setdefault((pod.namespace, kind, name), {}), _generation(pod, kind)
        if uid not in generations:
            generations[uid] = Gang(kind, pod.namespace, name, size)
        (generations[uid].ended if pod.terminal or pod.deleting else generations[uid].members).append(pod)
    gangs: list[Gang] = []
    for generations in found.values():
        living = {uid: gang for uid, gang in generations.items() if gang.members}
        newest = max(living, key=lambda uid: (_born(living[uid]), uid), default="")
        for uid, gang in living.items():
            gang.earlier = "" if uid == newest else uid
            gang.members.sort(key=lambda one: _counted(one.name))
            gangs.append(gang)
    gangs.sort(key=lambda one: (one.namespace, _counted(one.members[0].name)))
    return {gang.id: gang for gang in gangs}


def _born(gang: Gang) -> float:
    return max((pod.submitted_at for pod in gang.members if pod.submitted_at is not None), default=-math.inf)


def _generation(pod: Pod, kind: str) -> str:
    """The uid of the Job or JobSet, as far as the pod tells it."""
    if kind == "jobset":
        return pod.labels.get(JOB_SET_UID, "")
    return pod.owner.uid if kind == "job" and pod.owner is not None else ""


@lru_cache(2**16)
def _counted(name: str) -> tuple[tuple[int, int | str], ...]:
    """A key by which worker-9 comes before worker-10."""
    return tuple((0, int(piece)) if piece.isdigit() else (1, piece) for piece in re.split(r"([0-9]+)", name) if piece)


def _belongs(pod: Pod, groups: Groups) -> tuple[Kind, str, int | None]:
    """The kind, name and size of a pod's gang."""
    alone: tuple[Kind, str, int | None] = ("pod", pod.name, 1)
    if pod.annotations.get(GANG) == "false":
        return alone
    if group := pod.labels.get(KUEUE_GROUP):
        return "kueue", group, _count(pod.annotations.get(KUEUE_COUNT))
    if group := pod.labels.get(COSCHEDULING_GROUP) or pod.annotations.get(VOLCANO_GROUP) or pod.group:
        return _sized(pod, "podgroup", group, groups.pod_groups) or alone
    if name := pod.labels.get(JOB_SET):
        gang = _sized(pod, "jobset", name, groups.job_sets)
        if gang is not None:
            return gang
    if pod.owner is not None and pod.owner.kind == "Job":
        return _of_job(pod, pod.owner.name, groups) or alone
    return alone


def _sized(pod: Pod, kind: Kind, name: str, known: Mapping[tuple[str, str], int | None] | None) -> tuple[Kind, str, int | None] | None:
    """A gang of objects' sizes: as many as are seen where none were read, never whole while its own is not there yet."""
    if known is None:
        return kind, name, None
    size = known.get((pod.namespace, name), NEVER)
    return None if size is None else (kind, name, size)


def _of_job(pod: Pod, name: str, groups: Groups) -> tuple[Kind, str, int | None] | None:
    asked = pod.annotations.get(GANG) == "true"
    if groups.jobs is None:  # only pods were read: the index tells that the Job counts its pods
        return ("job", name, None) if asked or COMPLETION_INDEX in pod.annotations else None
    size = groups.jobs.get((pod.namespace, name), NEVER)
    if size is None and asked:
        return "job", name, None
    return None if size is None else ("job", name, size)


def _count(text_of_count: str | None) -> int:
    return int(text_of_count) if text_of_count is not None and text_of_count.isascii() and text_of_count.isdigit() else NEVER


# ---------------------------------------------------------------- sizes


def job_size(job: Object) -> int | None:
    """How many pods of a Job start together; None where they need not. Raises ObjectError."""
    parallelism, completions = whole(job, "spec", "parallelism"), whole(job, "spec", "completions")
    wanted = 1 if parallelism is None else parallelism
    if wanted > 1 and (completions is None or completions > wanted):
        return None  # pods that take work from a queue
    return wanted if completions is None else min(wanted, completions)


def job_set_size(job_set: Object) -> int | None:
    """How many pods all replicated jobs of a JobSet have; None where they do not start together. Raises ObjectError.

    Jobs that start in order, or when others are ready, have no pods before: each Job is a gang of its own then.
    """
    total = 0
    if text(job_set, "spec", "startupPolicy", "startupPolicyOrder") == "InOrder":
        return None
    for replicated in parts(job_set, "spec", "replicatedJobs"):
        if parts(replicated, "dependsOn"):
            return None
        replicas, template = whole(replicated, "replicas"), part(replicated, "template")
        parallelism, completions = whole(template, "spec", "parallelism"), whole(template, "spec", "completions")
        pods = 1 if parallelism is None else parallelism
        total += (1 if replicas is None else replicas) * (pods if completions is None else min(pods, completions))
    return total


def pod_group_size(group: Object) -> int | None:
    """How many pods of a PodGroup start together; None where they need not. Raises ObjectError."""
    spec = part(group, "spec")
    policy = part(spec, "schedulingPolicy")
    if policy:
        return whole(policy, "gang", "minCount") if "gang" in policy else None
    return whole(spec, "minMember") or 1


def sizes(
    objects: Sequence[object] | None, size: Callable[[Object], int | None], what: str, warnings: list[str]
) -> dict[tuple[str, str], int | None] | None:
    """The size of each object by namespace and name; one that cannot be read becomes a warning, and its gang is never whole."""
    if objects is None:
        return None
    found: dict[tuple[str, str], int | None] = {}
    for one in objects:
        try:
            manifest = as_object(one)
            found[text(manifest, "metadata", "namespace") or "default", text(manifest, "metadata", "name")] = size(manifest)
        except ObjectError as error:
            warnings.append(f"The {what} {named(one)} cannot be read: {error}; its pods wait until it can.")
    return found
