"""The hold-out jobs as a file to predict, and their predictions against what was measured: ``python -m service.measure.validate_holdout``.

Predictions are those that ``quartermaster runtime predict --out`` froze: a file that no longer has the SHA-256 beside it is refused.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from models.runtime.records import Record
from service.measure.gpu_jobs import holdout_jobs
from service.measure.store import ROWS, read_rows

if TYPE_CHECKING:
    from collections.abc import Sequence


def compared(predictions: Path, rows: Path) -> dict[str, Any]:
    """Each hold-out job's step as predicted and as measured, and the median error.

    Raises ValueError for predictions that changed after they were frozen, and where no measured job counts.
    """
    data = predictions.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    if digest != Path(f"{predictions}.sha256").read_text(encoding="utf-8").split()[0]:
        raise ValueError(f"{predictions}: has changed since it was frozen")
    told = {row["id"]: row for row in json.loads(data)["predictions"]}
    measured = {row.job.id: row.seconds for row in read_rows(rows / ROWS) if isinstance(row, Record) and row.accepted and row.seconds}
    found = [
        {
            "id": name,
            "measured_s": seconds,
            "predicted_s": told[name]["step_s"]["p50"],
            "error": told[name]["step_s"]["p50"] / seconds - 1.0,
            "inside": told[name]["step_s"]["low"] <= seconds <= told[name]["step_s"]["high"],
            "extrapolated": told[name]["extrapolated"],
        }
        for name, seconds in measured.items()
        if name in told
    ]
    if not found:
        raise ValueError(f"{rows}: no accepted row of a predicted job; measure the hold-out jobs on a quiet machine")
    errors = np.abs([row["error"] for row in found])
    return {
        "sha256": digest,
        "jobs": found,
        "median_error": float(np.median(errors)),
        "p90_error": float(np.quantile(errors, 0.9)),
        "intervals_cover": float(np.mean([row["inside"] for row in found])),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the jobs, or the comparison as JSON beside the predictions; 2 where nothing can be compared."""
    parser = argparse.ArgumentParser(prog="python -m service.measure.validate_holdout")
    parser.add_argument("--tiny", action="store_true", help="networks a CPU runs in milliseconds")
    parser.add_argument("--compare", nargs=2, metavar=("PREDICTIONS", "ROWS"), help="frozen predictions, and the folder of measured rows")
    asked = parser.parse_args(arguments)
    if asked.compare is None:
        sys.stdout.write(
            json.dumps({"jobs": [job.model_dump(mode="json", exclude_defaults=True) for job in holdout_jobs(tiny=asked.tiny)]})
        )
        return 0
    predictions, rows = (Path(text) for text in asked.compare)
    try:
        told = compared(predictions, rows)
    except (ValueError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    predictions.with_name("holdout.json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(
        f"{len(told['jobs'])} hold-out jobs: median error {told['median_error']:.1%}, 90th percentile {told['p90_error']:.1%}; "
        f"intervals of 90% cover {told['intervals_cover']:.0%}\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
