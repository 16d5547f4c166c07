"""What failures of given probabilities cost: the share that each demand loses in each scenario, and the mean of the worst of them.

Rockafellar and Uryasev, "Optimization of conditional value-at-risk", Journal of Risk 2, 2000, section 2, for outcomes with atoms.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from models.flow.failures.routes import RouteSet
    from models.flow.failures.scenarios import Scenarios
    from models.program import Floats, Ints

CHUNK = 2_000_000  # losses that are worked out at a time
ROUNDING = 1e-12  # what 1 - beta and sums of probabilities may be off by


def tail_mean(losses: Floats, probability: Floats, beta: float) -> tuple[float, float]:
    """CVaR and value at risk: the mean of the worst 1 - beta of the probability, and the least loss in it.

    Shapes (scenarios,); ``probability`` sums to 1. An outcome that lies on the border counts with the part that is beyond it.
    """
    order = np.argsort(-losses, kind="stable")
    tail = 1.0 - beta
    before = np.concatenate(([0.0], np.cumsum(probability[order])[:-1]))
    taken = np.clip(tail - before, 0.0, probability[order])
    inside = np.flatnonzero(taken > ROUNDING)
    at_risk = float(losses[order[inside[-1]]]) if len(inside) else 0.0
    # What the probabilities lack of 1 by rounding has the loss of the border.
    return float(taken @ losses[order] + max(0.0, tail - float(taken.sum())) * at_risk) / tail, at_risk


def demand_losses(routes: RouteSet, reserved: Floats, size: Floats, scenarios: Scenarios) -> Iterator[Floats]:
    """The share that each demand loses, in pieces of shape (some scenarios, demands): in order, nothing failing last."""
    demands, count = len(size), scenarios.count
    whole = np.bincount(routes.demand, weights=reserved, minlength=demands)
    route, link = routes.touched
    by_link, ends = route[np.argsort(link, kind="stable")], np.cumsum(np.bincount(link, minlength=routes.network.links))
    step = max(1, CHUNK // max(demands, 1))
    for first in range(0, count + 1, step):
        lost = np.zeros((min(step, count + 1 - first), demands))
        for row in range(min(len(lost), count - first)):
            hit = [by_link[ends[one - 1] if one else 0 : ends[one]] for one in scenarios.of(first + row)]
            routes_hit = np.unique(np.concatenate(hit)) if len(hit) > 1 else hit[0]
            lost[row] = np.bincount(routes.demand[routes_hit], weights=reserved[routes_hit], minlength=demands)
        yield np.clip(1.0 - (whole - lost) / size, 0.0, 1.0)


def largest_losses(routes: RouteSet, reserved: Floats, size: Floats, scenarios: Scenarios) -> tuple[Floats, Ints]:
    """The share that the demand loses that loses most, and which demand, in each scenario; both (scenarios + 1,), nothing failing last."""
    pieces = [(losses.max(axis=1), losses.argmax(axis=1)) for losses in demand_losses(routes, reserved, size, scenarios)]
    return np.concatenate([largest for largest, _ in pieces]), np.concatenate([worst for _, worst in pieces])
