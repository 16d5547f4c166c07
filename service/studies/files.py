"""The table and the report of a study, beside its answers."""

from __future__ import annotations

import io
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from service.documents.errors import BadInputError
from service.studies.frame import frame

if TYPE_CHECKING:
    from service.studies.conclusions import Conclusions
    from service.studies.whole import Whole

CSV, PARQUET, REPORT = "table.csv", "table.parquet", "report.html"


def written(whole: Whole, told: Conclusions, folder: Path) -> list[tuple[str, str]]:
    """Write table (CSV and Parquet) and report, each whole or not at all; say what went where. Raises BadInputError."""
    from service.report.study import render_study

    made = frame(whole.table, told)
    parquet = io.BytesIO()
    made.write_parquet(parquet)
    files = (
        ("table", CSV, made.write_csv().encode()),
        ("table", PARQUET, parquet.getvalue()),
        ("report", REPORT, render_study(whole.table, whole.asks, told).encode()),
    )
    for _, name, data in files:
        put(folder / name, data)
    return [(what, str(folder / name)) for what, name, _ in files]


def put(path: Path, data: bytes) -> None:
    """A whole file in its place, or what was there before. Raises BadInputError."""
    try:
        _put(path, data)
    except OSError as error:
        raise BadInputError(f"{path.parent} cannot be written ({error.strerror or error}); the answers in it are kept") from None


def _put(path: Path, data: bytes) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".quartermaster-")
    draft = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
        draft.chmod(0o644)
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
