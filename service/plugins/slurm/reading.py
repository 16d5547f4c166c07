"""A snapshot of a cluster out of what Slurm's commands print. Pure: nothing is run, no file is read, no clock is looked at.

What Slurm says is in use and no job that is seen accounts for (an epilog that still runs, a job that ended between two
commands) is held by a job ``(in use) NODE``: a plan never takes what Slurm would not give.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from models.vocabulary import Topology
from service.plugins.cluster import SeenJob, SeenNode, Snapshot
from service.plugins.slurm.asked import GPU, MIB_PER_GIB, Asked, NotPlannedError, Yard, asked
from service.plugins.slurm.notation import NotationError, gres, hosts, number, task_ids, text, whole, words
from service.plugins.slurm.placed import in_use, name_of, running_jobs, time_limit_s
from service.plugins.slurm.topology import topologies

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from service.plugins.cluster import NodeState
    from service.plugins.slurm.files import SlurmFiles

MARK = "quartermaster"  # begins every comment of ours
HOLDS = f"{MARK} holds"  # of a job that is held for a plan; job_submit.lua writes it too
PINS = f"{MARK} pins"  # of a job that is held and pinned, about to be released
PINNED = f"{MARK} placed"  # of a job that was released with a pin
FREED = f"{MARK} freed"  # of a job that was released without one
RUNNING = frozenset({"RUNNING", "SUSPENDED", "COMPLETING", "CONFIGURING", "STOPPED", "SIGNALING", "STAGE_OUT", "RESIZING"})
OUT = frozenset({"DOWN", "FAIL", "ERROR", "UNKNOWN", "FUTURE", "NOT_RESPONDING", "NO_RESPOND", "INVALID", "INVALID_REG"})
CLOSED = frozenset({
    "DRAIN", "DRAINED", "DRAINING", "FAILING", "MAINT", "MAINTENANCE", "RESERVED", "REBOOT", "REBOOT_REQUESTED", "REBOOT_ISSUED",
    "POWERING_DOWN", "POWER_DOWN", "POWER_DRAIN", "BLOCKED",
})  # fmt: skip
MOST_NAMED = 5  # jobs in one sentence
MOST_TASKS = 1_000  # of one array that are planned at a time


@dataclass(frozen=True, slots=True)
class OptIn:
    """Which jobs are ours to plan: those of these partitions, and those whose ``--comment`` has this word."""

    partitions: frozenset[str] = frozenset()
    comment: str = MARK

    def holds(self, job: Mapping[str, Any]) -> bool:
        """Whether the job opted in."""
        if self.partitions.intersection(words(job.get("partition"))):
            return True
        return bool(self.comment) and self.comment in text(job.get("comment")).replace(",", " ").split()


@dataclass(frozen=True, slots=True)
class Read:
    """A snapshot, and what only this adapter needs to know."""

    snapshot: Snapshot
    left_to_slurm: Mapping[str, str] = field(default_factory=dict)  # jobs that opted in and no plan can say, each with its reason
    held: frozenset[str] = frozenset()  # ids in ``left_to_slurm`` that are held for us
    comments: Mapping[str, str] = field(default_factory=dict)  # the admin comment of each waiting job
    of_array: frozenset[str] = frozenset()  # waiting tasks without a record of their own: whatever is done to one splits it off
    pins: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # the nodes of waiting jobs that carry a pin of ours
    by_hand: frozenset[str] = frozenset()  # arrays of which a person holds some tasks


def snapshot(files: SlurmFiles, opt_in: OptIn | None = None) -> Snapshot:
    """The cluster as the files tell it. Never raises for what is in them: what cannot be read becomes a warning."""
    return read(files, opt_in).snapshot


def read(files: SlurmFiles, opt_in: OptIn | None = None) -> Read:
    """As ``snapshot``, with what is left to Slurm."""
    chosen = opt_in or OptIn()
    places, warnings = topologies(files.topology)
    records = [one for one in files.nodes.get("nodes") or files.nodes.get("sinfo") or () if isinstance(one, dict) and text(one.get("name"))]
    if not records:
        warnings.append("no nodes are listed; of Slurm 23.02 and later save `scontrol show nodes --json`, not `sinfo --json`")
    nodes = {text(one["name"]): _node(one, places, warnings) for one in records}
    yard = Yard(
        nodes,
        {text(one["name"]): frozenset(words(one.get("partitions"))) for one in records},
        {text(one["name"]): _features(one) for one in records},
        {text(one["name"]): max(whole(one.get("threads"), 1), 1) for one in records},
    )
    runs, waits = _sorted_out(files.jobs.get("jobs") or ())
    running = [job for record in runs for job in running_jobs(record, _identity(record), yard, warnings)]
    waiting = _Waiting(chosen, yard, files.taken_at)
    for record in waits:
        waiting.add(record)
    running += in_use(records, running)
    return Read(
        Snapshot("slurm", files.taken_at, tuple(nodes.values()), (*running, *waiting.jobs), (*warnings, *waiting.sentences())),
        waiting.left,
        frozenset(waiting.held),
        waiting.comments,
        frozenset(waiting.of_array),
        waiting.pins,
        frozenset(waiting.by_hand),
    )


def _sorted_out(records: Iterable[Any]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The jobs that hold something, and those that wait; ``squeue --json`` also tells those that ended lately."""
    runs, waits = [], []
    for record in records:
        if not isinstance(record, dict) or not whole(record.get("job_id")):
            continue
        states = {state.upper() for state in words(record.get("job_state"))}
        if states & RUNNING:
            runs.append(record)
        elif "PENDING" in states and not states & {"REVOKED", "SPECIAL_EXIT"}:
            waits.append(record)
    return runs, waits


# ---------------------------------------------------------------- nodes


def _node(record: Mapping[str, Any], places: Mapping[str, Topology], warnings: list[str]) -> SeenNode:
    name = text(record["name"])
    try:
        gpus = [one for one in gres(record.get("gres")) if one.name == GPU]
    except NotationError as error:
        warnings.append(f"node {name}: {error}; its GPUs are not counted")
        gpus = []
    models = sorted({one.kind or GPU for one in gpus})
    if len(models) > 1:
        warnings.append(f"node {name} has GPUs of several types ({', '.join(models)}); a job that asks for one of them is not placed there")
    state = _state(record)
    if _shared_in_use(record) and state == "ready":
        warnings.append(f"node {name} has shares of GPUs in use, which plans do not count; it takes no planned job")
        state = "cordoned"
    threads = max(whole(record.get("threads"), 1), 1)
    cpus = whole(record.get("effective_cpus")) or whole(record.get("cpus")) - threads * whole(record.get("specialized_cores"))
    memory_mib = whole(record.get("real_memory")) - whole(record.get("specialized_memory"))
    seen = SeenNode(
        id=name,
        version="",
        state=state,
        gpu_model="+".join(models) or None,
        gpus=int(sum(one.count for one in gpus)),
        cpu_cores=float(max(cpus, 0)),
        memory_gib=max(memory_mib, 0) / MIB_PER_GIB,
        topology=places.get(name, Topology()),
        labels=dict.fromkeys(sorted(_features(record)), "true"),
    )
    booted = whole(record.get("boot_time"))
    rests_on = (state, seen.gpu_model, seen.gpus, cpus, memory_mib, sorted(seen.labels), sorted(words(record.get("partitions"))), booted)
    return replace(seen, version=_digest(rests_on))


def _features(record: Mapping[str, Any]) -> frozenset[str]:
    return frozenset(words(record.get("active_features")) or words(record.get("features")))


def _state(record: Mapping[str, Any]) -> NodeState:
    """Out: nothing may be there. Closed: nothing new; what runs there stays."""
    states = {part.upper().rstrip("*$~#!%@^-+") for one in (record.get("state"), record.get("state_flags")) for part in words(one)}
    if states & OUT or not states:
        return "drained"
    if not states & CLOSED:
        return "ready"
    busy = whole(record.get("alloc_cpus")) > 0 or states & {"DRAINING", "ALLOCATED", "MIXED", "COMPLETING"}
    return "cordoned" if busy else "drained"


def _shared_in_use(record: Mapping[str, Any]) -> bool:
    try:
        return any(one.name in {"shard", "mps"} and one.count > 0 for one in gres(record.get("gres_used")))
    except NotationError:
        return True


# ---------------------------------------------------------------- waiting jobs


class _Waiting:
    """The waiting jobs, each as far as a plan can say it."""

    def __init__(self, opt_in: OptIn, yard: Yard, now: float) -> None:
        self._opt_in, self._yard, self._now = opt_in, yard, now
        self.jobs: list[SeenJob] = []
        self.left: dict[str, str] = {}
        self.held: list[str] = []
        self.comments: dict[str, str] = {}
        self.of_array: set[str] = set()
        self.pins: dict[str, tuple[str, ...]] = {}
        self.by_hand: set[str] = set()
        self._told: dict[str, list[str]] = defaultdict(list)

    def add(self, record: Mapping[str, Any]) -> None:
        """One record: a job, or the tasks of an array that wait. A hold is ours as long as our mark says so; any other is a person's."""
        opted_in, mark = self._opt_in.holds(record), text(record.get("admin_comment")).strip('"')
        array, is_held, pinned = whole(record.get("array_job_id")), _held(record), _pinned(record, mark)
        ours = is_held and mark.startswith((HOLDS, PINS)) and "JobHeldAdmin" not in text(record.get("state_reason"))
        if is_held and not ours:
            self.by_hand |= {str(array)} if array else set()
            self.pins |= {name_of(record): pinned} if pinned else {}  # to be taken away: it would outlast the hold
            return
        bare = {**record, "required_nodes": ""} if pinned is not None else record
        try:
            job = self._job(bare, opted_in=opted_in, held=ours, pinned=() if ours else pinned or ())
            tasks = _tasks(record)
        except NotPlannedError as error:
            name = str(array or whole(record.get("het_job_id")) or whole(record.get("job_id")))
            self._told[str(error)] += [] if name in self._told[str(error)] else [name]
            if opted_in or ours:
                self.left[name] = str(error)
                self.held += [name] if ours else []
            return
        for task in tasks:
            one = job if task is None else replace(job, id=f"{array}_{task}", identity=f"{job.identity}-{task}")
            self.jobs.append(one)
            if pinned:
                self.pins[one.id] = pinned
            if len(tasks) > 1:
                self.of_array.add(one.id)
            self.comments[one.id] = mark

    def _job(self, record: Mapping[str, Any], *, opted_in: bool, held: bool, pinned: tuple[str, ...]) -> SeenJob:
        if held and not opted_in:
            raise NotPlannedError("it is held for a plan, but did not opt in by what this command was told (--partition, --comment)")
        starts = number(record.get("start_time"), 0.0) or 0.0
        if held and starts > self._now + 1.0:
            raise NotPlannedError("it may not begin yet (--begin)")
        wish = asked(record, self._yard)
        return SeenJob(
            id=str(whole(record.get("job_id"))),
            identity=_identity(record, wish),
            tenant=text(record.get("account")) or text(record.get("user_name")) or "default",
            workers=wish.nodes,
            gpus_per_worker=float(wish.gpus),
            cpu_cores=wish.cpu_cores,
            memory_gib=wish.memory_gib,
            gpu_models=wish.gpu_models,
            nodes_allowed=None if len(wish.allowed) == len(self._yard.nodes) else wish.allowed,
            together=wish.together,
            one_worker_per_node=True,
            opted_in=opted_in,
            held=held,
            pinned=pinned,
            submitted_at=number(record.get("submit_time")),
            time_limit_s=time_limit_s(record),
            display=f"{text(record.get('name')) or 'job'} ({whole(record.get('job_id'))})",
        )

    def sentences(self) -> list[str]:
        """What is left to Slurm, a sentence for each reason."""
        found = []
        for reason, names in self._told.items():
            some = ", ".join(names[:MOST_NAMED]) + (f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else "")
            found.append(f"left to Slurm: {'job' if len(names) == 1 else 'jobs'} {some}: {reason}")
        return found


def _held(record: Mapping[str, Any]) -> bool:
    return number(record.get("priority")) == 0 or record.get("hold") is True or "JobHeld" in text(record.get("state_reason"))


def _pinned(record: Mapping[str, Any], mark: str) -> tuple[str, ...] | None:
    """The nodes a job of ours is pinned to; None for a job that we did not pin."""
    try:
        return hosts(record.get("required_nodes")) if mark.startswith((PINS, PINNED)) else None
    except NotationError:
        return None


def _tasks(record: Mapping[str, Any]) -> tuple[int | None, ...]:
    """The tasks that may start, (None,) for a job that is no array. Those beyond an array's own limit wait for its others."""
    if not whole(record.get("array_job_id")):
        return (None,)
    listed = text(record.get("array_task_string"))
    if not listed:
        return (whole(record.get("array_task_id")),)
    ids, most = task_ids(listed)
    if most is not None or whole(record.get("array_max_tasks")):
        raise NotPlannedError("it is an array that limits how many of its tasks run at once")
    return ids[:MOST_TASKS]


def _identity(record: Mapping[str, Any], wish: Asked | None = None) -> str:
    """Another one when the id is another job, was requeued, or asks for something else. Our own pins do not change it."""
    array = whole(record.get("array_job_id"))
    fields = ("tres_per_job", "tres_per_node", "tres_per_task", "memory_per_tres", "features", "excluded_nodes", "partition")
    rests_on = (
        array or whole(record.get("job_id")),
        whole(record.get("submit_time")),
        whole(record.get("restart_cnt")),
        [text(record.get(name)) for name in fields],
        [number(record.get(name)) for name in ("memory_per_node", "memory_per_cpu", "tasks", "minimum_cpus_per_node")],
        None if wish is None else (wish.nodes, wish.gpus, wish.cpu_cores, wish.memory_gib),
    )
    return _digest(rests_on)


def _digest(rests_on: object) -> str:
    return hashlib.sha256(repr(rests_on).encode()).hexdigest()[:16]
