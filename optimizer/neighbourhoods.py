"""Large neighbourhood search: small parts of a plan solved exactly, again and again, while time lasts.

The kind cuts the parts (``scale.neighbourhoods``); each is a problem of the same kind, solved by its exact program from its part of
the plan. A part that is solved to the end at once was too small, one that runs out of time too large: the size follows.
(Shaw, CP 1998; adaptive size after Pisinger and Ropke.)
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from optimizer.incumbents import Incumbents, lexicographically_better
from optimizer.limits import Deadline, Limits

if TYPE_CHECKING:
    import random
    import threading

    from models.contract import Kind, Neighbourhood

PART_SECONDS = 3.0
SMALLEST, LARGEST = 0.25, 8.0
PATIENCE = 2000  # parts in a row without a gain after which the search ends


def improve(kind: Kind, incumbents: Incumbents, rng: random.Random, limits: Limits, deadline: Deadline, cancel: threading.Event) -> int:
    """Improve the incumbent until it is closed, time is up, or nothing was gained for long; the number of parts solved."""
    size, parts, idle = 1.0, 0, 0
    source, seen = None, None
    while (
        incumbents.plan is not None
        and not deadline.passed
        and not cancel.is_set()
        and idle < PATIENCE
        and not incumbents.closed(limits.gap)
    ):
        if source is None or seen is not incumbents.plan:
            seen = incumbents.plan
            source = kind.part("scale").neighbourhoods(incumbents.problem, seen)
        part = source(rng, size)
        idle += 1
        if part is None:
            continue
        parts += 1
        finished, found = _solved(kind, part, limits, deadline, cancel)
        if found is not None and incumbents.offer(part.merge(found), "neighbourhoods"):
            idle = 0
        size = min(LARGEST, size * 1.15) if finished else max(SMALLEST, size * 0.8)
    return parts


def _solved(kind: Kind, part: Neighbourhood, limits: Limits, deadline: Deadline, cancel: threading.Event) -> tuple[bool, Any]:
    """Whether the part was solved to the end, and its plan when that beats the part of the plan it came from."""
    from optimizer.strategy import Direct

    start = kind.verify(part.problem, part.plan)
    inner = Incumbents(kind, part.problem, lambda _: None)
    if start.ok:
        inner.offer(part.plan, "start")
    seconds = min(PART_SECONDS, max(deadline.remaining_s(), 1e-3))
    clock = Deadline.after(seconds)
    Direct(kind, inner, replace(limits, time_limit_s=seconds), clock, cancel, diagnosing=False).run()
    better = inner.objectives is not None and (
        not start.ok or lexicographically_better(inner.goals, inner.objectives, tuple(start.objectives[goal.name] for goal in inner.goals))
    )
    return not clock.passed, inner.plan if better else None
