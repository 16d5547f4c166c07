"""The files of a comparison: every replay and every measure as CSV, everything as JSON."""

from __future__ import annotations

import csv
import json
from dataclasses import fields
from io import StringIO
from typing import TYPE_CHECKING, Any

from service.replay.comparison import CONFIDENCE, Compared
from service.replay.jobs import ReplayError
from service.replay.measures import MEASURES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from service.replay.filling import Fill
    from service.replay.replays import Replay
    from service.replay.whole import Whole

SCHEMA_VERSION = 1


def replays_csv(replays: Sequence[Replay]) -> str:
    """A line for each trace, seed and policy."""
    lines = [[one.trace, one.policy, one.seed, one.jobs, f"{one.load:.6g}", *one.measures.values(), round(one.cpu_s, 3)] for one in replays]
    return _csv(["trace", "policy", "seed", "jobs", "offered_load", *(measure.name for measure in MEASURES), "cpu_s"], lines)


def fills_csv(fills: Sequence[Fill]) -> str:
    """A line for each trace, policy and seed."""
    lines = [[one.trace, one.policy, one.seed, one.jobs, one.first_refused, *one.measures.values(), round(one.cpu_s, 3)] for one in fills]
    return _csv(["trace", "policy", "seed", "jobs", "first_refused", "allocated_percent", "refused", "moves", "cpu_s"], lines)


def comparison_csv(found: Sequence[Compared]) -> str:
    """A line for each trace, policy and measure."""
    names = [field.name for field in fields(Compared)]
    return _csv(names, [[getattr(one, name) for name in names] for one in found])


def as_object(settings: Mapping[str, Any], replays: Sequence[Replay], found: Sequence[Compared], notes: Sequence[str]) -> dict[str, Any]:
    """Everything but the series over time as one JSON object."""
    return {
        "schema_version": SCHEMA_VERSION,
        "settings": dict(settings),
        "notes": list(notes),
        "confidence": CONFIDENCE,
        "measures": [{"name": one.name, "unit": one.unit, "better": one.better, "meaning": one.meaning} for one in MEASURES],
        "replays": [
            {
                "trace": one.trace,
                "policy": one.policy,
                "seed": one.seed,
                "jobs": one.jobs,
                "offered_load": None if one.load == float("inf") else one.load,
                "measures": one.measures,
                "cpu_s": one.cpu_s,
                "planning": one.planning,
            }
            for one in replays
        ],
        "compared": [one.as_json() for one in found],
    }


def as_json(whole: Whole) -> str:
    """Everything, with the series of the first seed, as text."""
    first = min(one.seed for one in whole.replays)
    over_time = [{"trace": one.trace, "policy": one.policy, **one.series} for one in whole.replays if one.seed == first]
    return json.dumps({**whole.as_json(), "over_time": over_time}, allow_nan=False, indent=1)


def written(whole: Whole, folder: Path) -> list[tuple[str, str]]:
    """Writes the files into an existing folder; what each is, and its path. Raises ReplayError where it cannot be written."""
    from service.report.replay import render_replays

    files = {
        "report": ("replay.html", render_replays(whole)),
        "replays": ("replays.csv", replays_csv(whole.replays)),
        "comparison": ("comparison.csv", comparison_csv(whole.compared)),
        "everything": ("replay.json", as_json(whole)),
    }
    return saved(files, folder)


def saved(files: Mapping[str, tuple[str, str]], folder: Path) -> list[tuple[str, str]]:
    """Writes files, each (name, text), into an existing folder; what each is, and its path. Raises ReplayError."""
    try:
        for name, text in files.values():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise ReplayError(f"{folder}: cannot be written ({(error.strerror or str(error)).lower()}); give another folder") from None
    return [(what, str(folder / name)) for what, (name, _) in files.items()]


def _csv(columns: Sequence[str], lines: Sequence[Sequence[object]]) -> str:
    stream = StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(lines)
    return stream.getvalue()
