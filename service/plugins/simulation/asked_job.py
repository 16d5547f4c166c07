"""The job that is asked about: from a file, or from a few words such as ``gpus=64,per-node=8,model=H100,rack=together``."""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from models.placement.schema import Colocate, Job, Spread
from models.vocabulary import Level
from service.documents.errors import BadInputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from service.documents.reading import Text
    from service.plugins.simulation.situation import Situation

LEVELS = tuple(level.value for level in Level if level is not Level.node)
TOGETHER = {"together": True, "required": True, "preferred": False}
NUMBERS = {
    "gpus": "GPUs of the whole job, or the share of one (0.5)",
    "per-node": "GPUs on each node; one worker a node",
    "workers": "workers",
    "gpus-per-worker": "GPUs of each worker",
    "cpus": "CPU cores of each worker",
    "memory": "GiB of memory of each worker",
    "gpu-memory": "GiB needed of each GPU",
    "priority": "on the scheduler's own scale; larger is more important",
    "minutes": "time limit in minutes, such as 90",
}
TEXTS = {"model": "accepted GPU models, H100|A100", "tenant": "who it belongs to", "name": "what to call it"}
LABEL = "label."
NAME = "what-if"
WHOLE = ("per-node", "workers", "priority")


@dataclass(frozen=True, slots=True)
class AskedJob:
    """The job as ``placement`` takes it, how long it runs (None: not known, taken to run for ever), and what was assumed of it."""

    job: Job
    priority: int  # on the scheduler's own scale
    minutes: float | None = None
    assumed: tuple[str, ...] = ()


def asked_job(spec: str, situation: Situation, read: Callable[[str], Text]) -> AskedJob:
    """The job that ``spec`` describes, in this situation; ``read`` reads a file. Raises BadInputError."""
    if _is_file(spec):
        from service.documents.reading import parse

        job = parse(Job, read(spec))
        if job.running is not None:
            raise BadInputError(f"{spec}: /running: the job is to be submitted; leave out where it runs")
        return AskedJob(job.model_copy(update={"priority": situation.rank(job.priority)}), job.priority)
    words = _words(spec)
    made = _Wish(words, situation)
    priority = made.priority()
    return AskedJob(made.job(situation.rank(priority)), priority, made.number("minutes"), tuple(made.assumed))


def _is_file(spec: str) -> bool:
    return spec == "-" or spec.lower().endswith((".json", ".yaml", ".yml")) or ("=" not in spec and Path(spec).is_file())


def _words(spec: str) -> dict[str, str]:
    """The keys and values of the short form. Raises BadInputError."""
    found: dict[str, str] = {}
    for part in filter(None, (one.strip() for one in spec.split(","))):
        key, mark, value = (one.strip() for one in part.partition("="))
        if not mark or not value:
            raise BadInputError(f"--job: '{part}': write key=value, e.g. gpus=64,per-node=8,model=H100, or give a JSON or YAML file")
        if key not in {*NUMBERS, *TEXTS, *LEVELS} and not key.startswith(LABEL):
            known = [*NUMBERS, *TEXTS, *LEVELS, f"{LABEL}NAME"]
            near = difflib.get_close_matches(key, known, n=1)
            cure = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(known)}"
            raise BadInputError(f"--job: there is no key '{key}'; {cure}")
        if key in found:
            raise BadInputError(f"--job: '{key}' stands twice; keep one of them")
        found[key] = value
    if not found:
        raise BadInputError("--job: is empty; say what the job needs, e.g. gpus=64,per-node=8,model=H100")
    return found


class _Wish:
    """Words as a job. Raises BadInputError for what makes no sense on this cluster."""

    def __init__(self, words: dict[str, str], situation: Situation) -> None:
        self.words, self.situation, self.problem = words, situation, situation.problem
        self.assumed: list[str] = []

    def number(self, key: str) -> float | None:
        """The number of that key; None where it is not there."""
        if key not in self.words:
            return None
        text = self.words[key]
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value) or (value < 0 and key != "priority"):  # Kubernetes has priorities below 0
            what = "a whole number" if key in WHOLE else "a number"
            raise BadInputError(f"--job: {key}={text}: must be {what}{'' if key == 'priority' else ' of 0 or more'} ({NUMBERS[key]})")
        if key in WHOLE and value != int(value):
            raise BadInputError(f"--job: {key}={text}: must be a whole number ({NUMBERS[key]})")
        return value

    def job(self, rank: int) -> Job:
        """The job, of that priority among those of the problem."""
        models = self._models()
        workers, each = self._workers(models)
        raw: dict[str, Any] = {
            "id": self._id(),
            "tenant": self.words.get("tenant", "default"),
            "workers": workers,
            "gpus_per_worker": each,
            "cpu_cores": self.number("cpus") or 0.0,
            "memory_gib": self.number("memory") or 0.0,
            "gpu_memory_gib": self.number("gpu-memory") or 0.0,
            "priority": rank,
            "model_speeds": dict.fromkeys(models, 1.0),
            "node_selector": {key.removeprefix(LABEL): value for key, value in self.words.items() if key.startswith(LABEL)},
            "colocate": self._together(),
            "spread": Spread(max_workers=1) if "per-node" in self.words and workers > 1 else None,
        }
        try:
            return Job(**raw)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            raise BadInputError(f"--job: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None

    def priority(self) -> int:
        """The priority that is asked for, else the least of those that wait: it then comes last in the queue."""
        asked = self.number("priority")
        if asked is not None:
            return int(asked)
        waiting = [self.situation.priority(job.priority) for job in self.situation.waiting]
        least = min(waiting, default=1)
        which = ", the least of those that wait" if waiting else ""
        self.assumed.append(f"priority {least}{which} (priority= says another)")
        return least

    def _id(self) -> str:
        taken = {job.id for job in self.problem.jobs}
        name = self.words.get("name", NAME)
        if name in taken and "name" in self.words:
            raise BadInputError(f"--job: name={name}: there is a job of that id; give another name, or none")
        while name in taken:
            name = f"{name}+"
        return name

    def _models(self) -> tuple[str, ...]:
        """The cluster's models that are meant: of that very name, or those that have it in theirs."""
        if "model" not in self.words:
            return ()
        known = sorted({node.gpu_model for node in self.problem.nodes if node.gpu_model is not None})
        found: dict[str, None] = {}
        for wanted in filter(None, (one.strip() for one in self.words["model"].split("|"))):
            exact = [model for model in known if model.lower() == wanted.lower()]
            alike = exact or [model for model in known if wanted.lower() in model.lower()]
            if not alike:
                raise BadInputError(f"--job: model={wanted}: no node has such GPUs; there are {', '.join(known) or 'none'}")
            found.update(dict.fromkeys(alike))
        return tuple(found)

    def _workers(self, models: tuple[str, ...]) -> tuple[int, float]:
        """How many workers, and the GPUs of each."""
        total, per_node, workers, each = (self.number(key) for key in ("gpus", "per-node", "workers", "gpus-per-worker"))
        if total is not None and each is not None and workers is not None and total != workers * each:
            raise BadInputError(f"--job: gpus={total:g} is not workers={workers:g} times gpus-per-worker={each:g}; leave one of them out")
        if per_node is not None and each is not None:
            raise BadInputError("--job: per-node and gpus-per-worker both say the size of a worker; give one of them")
        each = per_node if per_node is not None else each
        nothing = next((key for key in ("per-node", "gpus-per-worker", "workers") if self.number(key) == 0), None)
        if nothing is not None and (total or nothing == "workers"):
            raise BadInputError(f"--job: {nothing}=0: a job of {total or 0:g} GPUs needs more than none; correct it, or leave it out")
        if total is None:
            if each is None:
                raise BadInputError("--job: say how many GPUs the job needs: gpus=64 (gpus=0 for none)")
            return max(1, int(workers or 1)), each
        if each is None and workers is None:
            each = self._largest(total, models)
        elif each is None:
            each = total / max(1.0, workers or 1.0)
        if each <= 0:
            return max(1, int(workers or 1)), 0.0
        count = total / each
        if count != int(count) or (each > 1 and each != int(each)):
            raise BadInputError(f"--job: gpus={total:g} cannot be cut into equal whole workers of {each:g}; correct gpus or per-node")
        return max(1, int(count)), each

    def _largest(self, total: float, models: tuple[str, ...]) -> float:
        """One worker where a node is large enough; else workers as large as the largest node that divides the whole."""
        sizes = sorted({node.gpus for node in self.problem.nodes if node.gpus and (not models or node.gpu_model in models)}, reverse=True)
        if total <= max(sizes, default=0):
            return total
        fitting = next((size for size in sizes if total % size == 0), None)
        if fitting is None:
            raise BadInputError(
                f"--job: gpus={total:g}: no node has so many; say how many each worker has, e.g. per-node={max(sizes, default=1)}"
            )
        self.assumed.append(f"{int(total // fitting)} workers of {fitting} GPUs (per-node= says another size)")
        return float(fitting)

    def _together(self) -> Colocate | None:
        asked = [(level, self.words[level]) for level in LEVELS if level in self.words]
        if not asked:
            return None
        if len(asked) > 1:
            raise BadInputError(f"--job: {asked[0][0]} and {asked[1][0]} are both given; the narrower one says all, give it alone")
        level, how = asked[0]
        if how not in TOGETHER:
            raise BadInputError(
                f"--job: {level}={how}: must be together (all workers in one {level}) or preferred; a label is label.NAME=VALUE"
            )
        if all(getattr(node.topology, level) is None for node in self.problem.nodes):
            raise BadInputError(f"--job: {level}={how}: no node names its {level}; leave it out, or give the snapshot a topology")
        return Colocate(level=Level(level), required=TOGETHER[how])
