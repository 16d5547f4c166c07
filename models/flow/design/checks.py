"""Nodes of a design that cannot be served whatever is built: told before the search, which proves it for all cuts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from models.contract import TOLERANCE, Warned
from models.flow.checks import pointer
from models.flow.network.arrays import network_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from models.flow.design.works import Works
    from models.flow.schema import Problem
    from models.program import Floats

MOST_FAILURES = 200  # that are looked at
MOST_NODES = 500


def starved(problem: Problem) -> Iterator[Warned]:
    """Nodes whose links hold too little with everything added, while nothing fails or during a failure; each node once."""
    from models.flow.design.cutsets import cuts_of
    from models.flow.design.works import works_of

    if problem.use != "design" or problem.design is None or network_of(problem).nodes > MOST_NODES:
        return
    works = works_of(problem)
    most, masks = _most(works), np.eye(works.network.nodes, dtype=np.bool_)
    told: set[int] = set()
    for failure in (None, *works.failures[:MOST_FAILURES]):
        cuts = cuts_of(works, masks, None if failure is None else failure.dead)
        held = cuts.crossing.astype(np.float64) @ most
        for cut in np.flatnonzero(cuts.demand - held > TOLERANCE * np.maximum(1.0, cuts.demand)).tolist():
            alone = cuts.inside[cut] if int(cuts.inside[cut].sum()) == 1 else ~cuts.inside[cut]
            node = int(np.argmax(alone))
            if node not in told:
                told.add(node)
                when = "" if failure is None else f" while '{failure.id}' lasts"
                detail = (
                    f"{cuts.demand[cut]:.9g} Gbit/s must cross the links around node '{works.network.node_ids[node]}'{when}, and with all "
                    f"modules that may be added they hold {held[cut]:.9g}: no design carries it; offer more modules or another link"
                )
                yield Warned(pointer(problem, "nodes", node, "id"), "node_starved", detail)


def _most(works: Works) -> Floats:
    """What each link holds with everything added, (links,); 0 where there is no limit, for such links are in no cut."""
    added = np.zeros(works.network.links)
    offered = np.minimum(works.offered, np.ceil(works.traffic.size.sum() / works.module_capacity) + 1.0) * works.module_capacity
    if works.one_each:
        np.maximum.at(added, works.module_link, np.minimum(works.offered, 1.0) * works.module_capacity)
    else:
        np.add.at(added, works.module_link, offered)
    return np.where(np.isinf(works.network.link_capacity), 0.0, works.network.link_capacity + added)
