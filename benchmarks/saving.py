"""Where measurements are kept: files with the date, never overwritten."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path


def free_name(folder: Path, kind: str, now: datetime) -> Path:
    """A file name with the date that is not taken in ``folder``: 2026-01-31-placement.json, then -2, -3."""
    stem = f"{now:%Y-%m-%d}-{kind}"
    number = 1
    while (path := folder / (f"{stem}.json" if number == 1 else f"{stem}-{number}.json")).exists():
        number += 1
    return path


def save(path: Path, report: dict[str, Any]) -> None:
    """Writes the report; raises FileExistsError rather than overwrite one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("x", encoding="utf-8") as file:
        json.dump(report, file, indent=1, allow_nan=False)
        file.write("\n")
