"""The page of an executed validation: each job predicted against measured, and what must hold, with other forecasts and rules beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from models.runtime.evaluation.evaluate import Errors, HeldOut, Split
from service.report import wording
from service.report.drawing import Figure, Table
from service.report.runtime import duration, picture
from service.wording import words

if TYPE_CHECKING:
    from collections.abc import Mapping

CLAIMS = {
    "makespan_error": ("Makespan error", "predicted against measured, median of batches"),
    "regret": ("Regret", "longer than the best schedule there is"),
    "saving": ("Below random", "mean over all random schedules"),
}


def render(told: Mapping[str, Any]) -> str:
    """The HTML page of ``results.json``: no script, style, font or picture from elsewhere."""
    environment = Environment(
        loader=PackageLoader("service.report", ""), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(number=wording.number, words=words)
    runs = told["runs"]
    return environment.get_template("validation.html.j2").render(
        devices=", ".join(f"{place['name']} ({place['title']})" for place in told["devices"]),
        frozen=f"Frozen {told['frozen_at']}, SHA-256 {told['sha256']}",
        lead=f"{runs['counted']} of {runs['batches']} batches count; {runs['refused']} of {runs['made']} runs were refused as disturbed.",
        flags=told["flags"],
        figures=[_figure(name, told["claims"][name]) for name in CLAIMS],
        drawn=picture(_jobs(told)),
        tables=[_forecasts(told["forecasts"]), _batches(told), _rules(told["rules"])],
    )


def _figure(name: str, row: Mapping[str, Any]) -> Figure:
    label, what = CLAIMS[name]
    limit = f"at least {row['at_least']:.0%}" if row["at_least"] is not None else f"at most {row['at_most']:.0%}"
    met = {True: "met", False: "missed", None: "not claimed"}[row["met"]]
    return Figure(label, f"{row['value']:.1%}", f"{what}; {row['low']:.1%} to {row['high']:.1%}; must be {limit}: {met}")


def _jobs(told: Mapping[str, Any]) -> Split:
    """The jobs as the picture of the runtime model takes them; intervals are p10 to p90."""
    rows = tuple(
        HeldOut(
            job=f"{row['job']} on {row['device']}",
            family=row["family"],
            mode=row["mode"],
            measured_s=row["measured_s"],
            predicted_s=row["p50"],
            low_s=row["p10"],
            high_s=row["p90"],
            naive_s=row["p50"],
            ridge_s=row["p50"],
        )
        for row in told["jobs"]
    )
    predicted, measured = (np.array([getattr(row, name) for row in rows]) for name in ("predicted_s", "measured_s"))
    errors = Errors.of(predicted, measured)
    cover = float(np.mean([row.low_s <= row.measured_s <= row.high_s for row in rows]))
    return Split(rows, errors, errors, errors, cover, 1.0, 1.0, {}, extrapolated=False)


def _forecasts(forecasts: Mapping[str, Any]) -> Table:
    rows = tuple(
        (
            name if name == "model" else f"{name} (replayed)",
            f"{row['job_error_median']:.1%}",
            f"{row['job_error_p90']:.1%}",
            *(_both(row[what]) for what in ("makespan_error", "regret", "saving")),
        )
        for name, row in forecasts.items()
    )
    return Table("Forecasts", ("of", "error of a job", "90th percentile", "makespan error", "regret", "below random"), rows)


def _batches(told: Mapping[str, Any]) -> Table:
    rows = tuple(
        (
            str(row["batch"] + 1),
            *(duration(row[name]) for name in ("predicted_s", "measured_s", "wall_s", "oracle_s", "random_s")),
            f"{row['error']:+.1%}",
            f"{row['regret']:.1%}",
            f"{row['saving']:.1%}",
        )
        for row in told["batches"]
    )
    head = ("batch", "predicted", "measured", "wall", "oracle", "random (mean)", "error", "regret", "below random")
    return Table("Batches", head, rows)


def _rules(rules: Mapping[str, Any]) -> Table:
    rows = tuple((name, _both(row["replayed"]), _both(row["executed"]) if "executed" in row else "") for name, row in rules.items())
    return Table("Other rules: longer than ours by", ("rule", "replayed", "executed"), rows)


def _both(row: Mapping[str, float]) -> str:
    return f"{row['value']:.1%} ({row['low']:.1%} to {row['high']:.1%})"
