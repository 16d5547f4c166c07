"""How fast jobs rise under ``hierarchical``: every tenant raises its weight, spread over its jobs or on the earliest of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from models.fairshare.market import groups_of, market_of

if TYPE_CHECKING:
    from models.fairshare.schema import Problem
    from models.program import Bools, Floats


def rising_rates(problem: Problem, rising: Bools) -> Floats:
    """The rate of one copy of each job, shape (jobs,), when those of ``rising`` (jobs,) are not settled and of one class.

    A fair tenant spreads its weight over the jobs that are left, each copy by the job's weight; a FIFO tenant puts all of it on the job
    that came first (arrival, then the order in the file), spread over its copies. A job without tenant rises at its own weight.
    """
    jobs, groups = market_of(problem).jobs, groups_of(problem)
    rates = np.zeros(jobs.count)
    left = np.flatnonzero(rising)
    fifo = groups.fifo[groups.of[left]]
    fair = left[~fifo]
    weights = jobs.weight * jobs.copies
    total = np.bincount(groups.of[fair], weights=weights[fair], minlength=len(groups.weight))
    rates[fair] = groups.weight[groups.of[fair]] * jobs.weight[fair] / total[groups.of[fair]]
    queue = left[fifo]
    queue = queue[np.lexsort((queue, jobs.arrival_s[queue]))]
    _, earliest = np.unique(groups.of[queue], return_index=True)
    first = queue[earliest]
    rates[first] = groups.weight[groups.of[first]] / jobs.copies[first]
    return rates


def starting_rates(problem: Problem) -> Floats:
    """The rates of the first round of every class, shape (jobs,)."""
    jobs = market_of(problem).jobs
    rates = np.zeros(jobs.count)
    for priority in jobs.classes:
        own = jobs.priority == priority
        rates[own] = rising_rates(problem, own)[own]
    return rates
