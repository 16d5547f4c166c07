"""A plan as other people want to see it: plain documents of dictionaries and lists."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from models.placement.goals import Tally
from models.placement.sharing import shared_gpus, sharing_metrics

if TYPE_CHECKING:
    from models.placement.schema import Plan, Problem


def sharing(problem: Problem, plan: Plan) -> dict[str, Any]:
    """Every GPU that several workers share, with each one's predicted speed relative to alone (null: its class is not known).

    ``extrapolated``: more than two share it, and the model is one of pairs. Plans are not chosen by these speeds.
    """
    placed = Tally(problem, plan).placed
    gpus = [
        {
            "node": one.node,
            "gpu": one.gpu,
            "workers": [{"job": job, "speed": speed} for job, speed in zip(one.jobs, one.speeds, strict=True)],
            "extrapolated": one.extrapolated,
        }
        for one in shared_gpus(problem, placed)
    ]
    note = "" if problem.interference is not None else "the problem has no interference model, so no speeds are predicted"
    return {"gpus": gpus, "metrics": sharing_metrics(problem, placed), "note": note}


VIEWS = {"sharing": sharing}
