"""The interference model as a ``placement`` problem takes it: a level, and a sensitivity and a pressure for each class of jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from models.runtime.speeds.interference import EDGE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from models.runtime.speeds.interference import Interference


def sharing_section(model: Interference, jobs: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """``interference`` of a placement problem; ``jobs`` says which jobs are of each job type of the model.

    Fitted without habits the model is a sum of the two and nothing is lost; with habits their mean over the other types is what
    remains of them. Raises ValueError for a name that is no job type of the model, or for no job at all.
    """
    names = [name for name, there in jobs.items() if there]
    if not names:
        raise ValueError("no job is of any job type; name at least one")
    count = len(names)
    firsts, seconds = [name for name in names for _ in names], names * count
    speed = model.predict(firsts, seconds).p50.reshape(count, count)
    inside = EDGE + (1.0 - 2.0 * EDGE) * speed
    logits = np.log(inside / (1.0 - inside))
    level = float(logits.mean())
    classes = [
        {
            "id": name,
            "jobs": list(jobs[name]),
            "sensitivity": float(logits[place].mean() - level),
            "pressure": float(logits[:, place].mean() - level),
        }
        for place, name in enumerate(names)
    ]
    return {"level": level, "classes": classes}
