"""The proof that a level of fairness cannot rise, as a plan carries it. ``proofs.verify`` recomputes what it is worth.

A proof has a price ``y >= 0`` for a GPU of each accelerator (``Price``) and, for some jobs, what speed is worth (``Worth``): a convex
function ``phi(T) = sum_k slope_k * max(T - threshold_k, 0)`` with slopes >= 0. A job with a worth of its own uses that one; any other uses
that of its workload, if there is one; otherwise 0. With one threshold of 0 the slope is the usual dual ``w_j`` of the job's level row;
thresholds per workload are the duals of the majorisation rows of a class of jobs that differ only in need. Time prices ``c >= 0`` are for
one job each; verify raises them where they are too low, so that every proof that comes in is worth something, and none too much:

    sum_j count_j phi_j(T_j) <= sum_a y_a count_a + sum_a q_a packed_a + sum_j count_j (c_j + b_j budget_j)     for every allocation.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from models.vocabulary import Document, Id, Quantity

Number = Annotated[float, Field(ge=-1e12, le=1e12, allow_inf_nan=False)]


class Price(Document):
    """What one more GPU is worth: in a proof in its own scale, in a plan in units of the first goal."""

    accelerator: Id
    price: Quantity = Field(default=0.0, description="Of one more GPU.")
    packed_price: Quantity = Field(default=0.0, description="Of one more GPU that stands in a block whole enough for gangs.")


class Piece(Document):
    """One piece of a worth: ``slope * max(T - threshold_steps_per_s, 0)``."""

    threshold_steps_per_s: Quantity = 0.0
    slope: Quantity = Field(description="Worth of one more step/s above the threshold.")


class Bad(Document):
    """Which speeds a robust proof speaks of: a scenario and its weight (sum 1), or an accelerator and how far it is slow (0 to 1).

    Any choice within the robust set gives a valid proof, since the worst speeds are no better than any chosen ones.
    """

    id: Id
    weight: Annotated[float, Field(ge=0, le=1)] = Field(description="A number without unit.")


class Worth(Document):
    """What speed is worth to one job, or to each job of a workload: exactly one of ``job`` and ``workload``."""

    job: Id | None = None
    workload: Id | None = None
    pieces: tuple[Piece, ...] = Field(min_length=1)
    time_price: Quantity = Field(default=0.0, description="Price of all the time of one job.")
    budget_price: Quantity = Field(default=0.0, description="Price of 1 USD per hour of one job's budget; needs a budget.")
    bad: tuple[Bad, ...] = Field(default=(), description="For robust problems; left out: nothing is slow, or the first scenario.")


class SlopeTable(Document):
    """Worths with one piece and threshold 0 as columns, for very many jobs that have each their own."""

    job: tuple[Id, ...]
    slope: tuple[Quantity, ...] = Field(description="Worth of one more step/s.")
    time_price: tuple[Quantity, ...] | None = Field(default=None, description="Price of all the time of one job; left out: 0.")


class Round(Document):
    """One round of water-filling: all jobs of the class that no earlier round settled rise together, up to ``level``.

    Jobs that are settled here keep what they have from then on. Rounds of a class stand in their order; classes the most important first.
    ``level`` is told in the unit of the policy's goal: the share (max_min_fair), seconds (makespan), the ratio (finish_time_fair), and for
    hierarchical how long tenants have been rising (the sum of the dt of all rounds up to this one).
    """

    priority: int = Field(default=0, description="The class of jobs that rise.")
    level: Quantity = Field(description="In the unit of the policy's goal; a makespan or ratio of 1e12 means: nothing.")
    settled: tuple[Id, ...] = Field(description="Jobs that cannot rise further.")
    prices: tuple[Price, ...] = ()
    worths: tuple[Worth, ...] = ()
    slopes: SlopeTable | None = None
