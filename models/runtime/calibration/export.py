"""A calibrated device as a plain ``DeviceSpec``: factors and context folded into its coefficients, the curves left behind."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from models.runtime.calibration.terms import CONTEXT_STARTS, CONTEXTS, Context
from models.runtime.device import DeviceSpec, Source, Uncertainty
from models.runtime.evaluation.uncertainty import REPORTED
from models.runtime.operators import CLASSES

if TYPE_CHECKING:
    from models.program import Floats
    from models.runtime.calibration.ladder import Calibration

NORMAL_P95 = 1.6448536269514722  # an interval of 90% of the normal law reaches so far


def plain_device(known: Calibration) -> DeviceSpec:
    """The device for ``models.runtime.prediction.predict.predict``, with its uncertainty; less exact than ``calibrate_predict.predicted``.

    The dispatch of a call joins every class's overhead, a step's fixed time its step overhead; caches and page faults, which hang on the
    job, are left out. Residuals are widened until normal intervals of 90% reach as far as the conformal ones.
    """
    factors = known.posterior.coefficients
    at = {one: len(CLASSES) + place for place, one in enumerate(CONTEXTS)}
    there = known.device.coefficients()
    dispatch = CONTEXT_STARTS[Context.dispatch][0] * float(factors[at[Context.dispatch]])
    values = {"step_overhead_s": CONTEXT_STARTS[Context.step][0] * float(factors[at[Context.step]])}
    for cls, factor in zip(CLASSES, factors.tolist(), strict=False):
        if f"efficiency.{cls.value}" in there:
            values[f"efficiency.{cls.value}"] = there[f"efficiency.{cls.value}"].value / factor
            values[f"traffic.{cls.value}"] = there[f"traffic.{cls.value}"].value * factor
            values[f"overhead_s.{cls.value}"] = there[f"overhead_s.{cls.value}"].value * factor + dispatch
    made = known.device.with_values(values, source=Source.measured, note="whole jobs")
    return made.model_copy(update={"uncertainty": _uncertainty(known, tuple(values))})


def _uncertainty(known: Calibration, paths: tuple[str, ...]) -> Uncertainty:
    """Covariance of the folded coefficients: each moves with its class's factor, efficiencies against it."""
    covariance = known.posterior.covariance
    rows: Floats = np.zeros((len(paths), len(covariance)))
    names = {cls.value: place for place, cls in enumerate(CLASSES)}
    for row, path in enumerate(paths):
        kind, _, name = path.partition(".")
        rows[row, names.get(name, len(CLASSES) + CONTEXTS.index(Context.step))] = -1.0 if kind == "efficiency" else 1.0
    scores, scale = known.scores, max(known.factors.scale, known.scores.residual_log_sd)
    reach = [max(1.0, scores.reach(REPORTED, extrapolated=flag) / NORMAL_P95) for flag in (False, True)]
    return Uncertainty(
        paths=paths,
        covariance=tuple(tuple(row) for row in (rows @ covariance @ rows.T).tolist()),
        residual_log_sd=scale * reach[0],
        repeat_log_sd=scores.repeat_log_sd,
        extrapolated_log_sd=scale * reach[1],
    )
