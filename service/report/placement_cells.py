"""The cluster as cells: groups of nodes (by rack, or by GPU model and size), nodes, and one cell for each GPU.

Cells are written as short as HTML allows, because a cluster has thousands of them:
``<i class="w" data-j="3">`` is a GPU that job 3 of the page's data uses whole.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from markupsafe import Markup

from models.contract import TOLERANCE
from models.vocabulary import Level

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.placement.schema import Problem
    from service.report.placement_state import NodeState

COLOURS = 12  # tenants with a colour of their own; the others share the last one
MOST_NODES = 12_000  # nodes that are drawn
LARGE_UP_TO, MEDIUM_UP_TO = 24, 240  # nodes; the fewer there are, the larger each is drawn
SEAM = 0.05  # of a cell: the line between two jobs of one colour that share a GPU
WIDE_FROM = 16  # GPUs of a node from which its cells stand eight in a row instead of four


@dataclass(frozen=True, slots=True)
class Group:
    """Some nodes under one heading; ``gpus`` and ``allocated`` leave out drained nodes."""

    title: str
    nodes: int
    gpus: int
    allocated: float
    html: Markup

    @property
    def share(self) -> float:
        """Allocated part of the group's GPUs."""
        return self.allocated / self.gpus if self.gpus else 0.0


@dataclass(frozen=True, slots=True)
class Picture:
    """All groups, and the keys to their cells: indices into the problem's jobs and nodes in the order the cells count them."""

    groups: tuple[Group, ...]
    by: str
    size: str
    jobs: tuple[int, ...]
    nodes: tuple[int, ...]
    tenants: tuple[str, ...]
    tenant_index: dict[str, int]
    legend: tuple[tuple[str, str], ...]  # (class, words)
    missing: int

    @property
    def by_tenant(self) -> bool:
        """Whether colours stand for tenants; otherwise for how a GPU is used."""
        return len(self.tenants) > 1


class _Pen:
    """Writes cells, and remembers which jobs and nodes it has drawn."""

    def __init__(self, problem: Problem, marked: set[str], size: str) -> None:
        self.problem, self.marked, self.size = problem, marked, size
        held = Counter[str]()
        for job in problem.jobs:
            held[job.tenant] += 1
        self.tenants = tuple(sorted(held, key=lambda tenant: (-held[tenant], tenant)))
        self.tenant_index = {tenant: place for place, tenant in enumerate(self.tenants)}
        self.jobs: dict[int, int] = {}
        self.nodes: list[int] = []
        self.used: set[str] = set()

    def node(self, index: int, state: NodeState, *, unusable: bool) -> str:
        """One node with its cells and, below them, how full its CPU and memory are."""
        node = state.node
        cells = "".join(self.cell(held, "d" if node.state == "drained" else "u" if unusable else "f") for held in state.holders)
        columns = min(max(1, node.gpus), 8 if node.gpus > WIDE_FROM else 4)
        bars = f"--c:{_part(state.cpu_cores, node.cpu_cores)}%;--m:{_part(state.memory_gib, node.memory_gib)}%"
        number = len(self.nodes)
        self.nodes.append(index)
        label = ""
        if self.size == "large":
            words = f"{state.allocated:.3g} of {node.gpus} GPUs" if node.gpus else "no GPU"
            label = f"<em>{Markup.escape(node.id)}</em><small>{words}</small>"
        closed = " off" if node.state != "ready" else ""
        return f'<b class="n{closed} k{columns}" data-n="{number}" style="{bars}">{label}<span>{cells}</span></b>'

    def cell(self, held: list[tuple[int, float]], empty: str) -> str:
        """One GPU: free, used whole, or filled from the bottom by the jobs that share it."""
        if not held:
            self.used.add(empty)
            return f'<i class="{empty}"></i>'
        names = ",".join(str(self.jobs.setdefault(job, len(self.jobs))) for job, _ in held)
        mark = " m" if any(self.problem.jobs[job].id in self.marked for job, _ in held) else ""
        if len(held) == 1 and held[0][1] >= 1:
            whole = self.problem.jobs[held[0][0]]
            colour = self._colour(held[0][0], 0) if len(self.tenants) > 1 else "g" if whole.gpus_per_worker * whole.workers > 1 else ""
            self.used.add(colour if colour == "g" else "w")
            return f'<i class="w{" " + colour if colour else ""}{mark}" data-j="{names}"></i>'
        self.used.add("s")
        stops, level = [], 0.0
        for place, (job, share) in enumerate(sorted(held, key=lambda pair: -pair[1])):
            top = level + share
            seam = SEAM if level and len(self.tenants) > 1 else 0.0
            stops += [f"var(--card) {level:.0%} {level + seam:.0%}"] if seam else []
            stops.append(f"var(--{self._colour(job, place)}) {level + seam:.0%} {top:.0%}")
            level = top
        rest = f" {empty}" if level < 1 - TOLERANCE else ""
        self.used.update([empty] if rest else [])
        return f'<i class="s{rest}{mark}" data-j="{names}" style="--g:{",".join(stops)},#0000 {level:.0%}"></i>'

    def _colour(self, job: int, place: int) -> str:
        if len(self.tenants) > 1:
            return f"t{min(self.tenant_index[self.problem.jobs[job].tenant], COLOURS - 1)}"
        return f"s{place % 2}"


def picture(problem: Problem, after: Sequence[NodeState], unusable: Sequence[bool], marked: set[str]) -> Picture:
    """Every node in its group. ``marked`` are ids of jobs whose cells carry a mark (moved, or placed by evictions)."""
    size = "large" if len(after) <= LARGE_UP_TO else "medium" if len(after) <= MEDIUM_UP_TO else "small"
    pen = _Pen(problem, marked, size)
    racks = any(place.node.topology.rack for place in after)
    shared = _shared_steps(after) if racks else 0
    members: defaultdict[str, list[int]] = defaultdict(list)
    for index, place in enumerate(after[:MOST_NODES]):
        members[_rack(place, shared) if racks else _shape(place)].append(index)
    groups = []
    for title in sorted(
        members, key=_natural if racks else lambda title: (-sum(after[index].node.gpus for index in members[title]), title)
    ):
        inside = members[title]
        live = [after[index] for index in inside if after[index].node.state != "drained"]
        if not racks:
            inside.sort(
                key=lambda index: (-round(after[index].allocated / max(1, after[index].node.gpus), 6), _natural(after[index].node.id))
            )
        groups.append(
            Group(
                title=title,
                nodes=len(inside),
                gpus=sum(place.node.gpus for place in live),
                allocated=sum(place.allocated for place in live),
                html=Markup("".join(pen.node(index, after[index], unusable=unusable[index]) for index in inside)),  # noqa: S704  (ids are escaped where they are written)
            )
        )
    return Picture(
        groups=tuple(groups),
        by="rack" if racks else "GPU model and size",
        size=size,
        jobs=tuple(pen.jobs),
        nodes=tuple(pen.nodes),
        tenants=pen.tenants,
        tenant_index=pen.tenant_index,
        legend=_legend(pen, marked=bool(marked)),
        missing=max(0, len(after) - MOST_NODES),
    )


def _legend(pen: _Pen, *, marked: bool) -> tuple[tuple[str, str], ...]:
    shown = []
    if len(pen.tenants) > 1:
        shown += [(f"w t{place}", tenant) for place, tenant in enumerate(pen.tenants[: COLOURS - 1])]
        others = len(pen.tenants) - (COLOURS - 1)
        if others > 0:
            shown.append((f"w t{COLOURS - 1}", pen.tenants[-1] if others == 1 else f"{others} other tenants"))
    words = {
        "w": "used whole by a job of one GPU",
        "g": "by a job of several GPUs",
        "s": "shared, filled from the bottom",
        "f": "free",
        "u": "free, but no waiting job fits",
        "d": "drained",
    }
    if len(pen.tenants) > 1:
        words.pop("w")
    shown += [("w g" if name == "g" else name, text) for name, text in words.items() if name in pen.used]
    return (*shown, *([("w m", "placed by evictions" if pen.problem.preempt_for is not None else "moved")] if marked else []))


def _part(used: float, has: float) -> int:
    return min(100, round(100 * used / has)) if has else 0


def _shared_steps(after: Sequence[NodeState]) -> int:
    """How many levels above the rack have the same name everywhere: they need not be said."""
    paths = {path[:-1] for place in after if (path := place.node.topology.domain(Level.rack)) is not None}
    steps = zip(*paths, strict=True)
    return next((level for level, names in enumerate(steps) if len(set(names)) > 1), len(next(iter(paths))))


def _rack(place: NodeState, shared: int) -> str:
    path = place.node.topology.domain(Level.rack)
    return " / ".join(step for step in path[shared:] if step) if path is not None else "no rack"


def _shape(place: NodeState) -> str:
    node = place.node
    return f"{node.gpu_model}, {node.gpus} GPU{'s' if node.gpus > 1 else ''} a node" if node.gpus else "No GPU"


def _natural(name: str) -> list[tuple[int, int | str]]:
    """Sorts ``rack-9`` before ``rack-10``."""
    return [(0, int(part)) if part.isdigit() else (1, part) for part in re.split(r"(\d+)", name) if part]
