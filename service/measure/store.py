"""Rows on disk: one JSON object per line, flushed and synced as it comes, so that a run that is cut off loses no row."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, TypeVar

from pydantic import TypeAdapter, ValidationError

from models.runtime.records import AnyRow, Machine, OperatorRecord, Record
from service.measure.disturbance import Disturbance

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ROWS, MACHINE = "rows.jsonl", "machine.json"
_ANY: TypeAdapter[AnyRow] = TypeAdapter(AnyRow)
Row = TypeVar("Row")


class StoredRowsError(ValueError):
    """A file of rows that cannot be read, or rows of another machine; the message names the place and the cure."""


def key(row: AnyRow) -> str:
    """What a row measures: rows of one key are repeats of each other."""
    if isinstance(row, Record):
        parts = [job_key(row.job.model_dump(mode="json"))]
    elif isinstance(row, OperatorRecord):
        parts = [row.name]
    else:
        parts = [row.sharing.value, *(job_key(job.model_dump(mode="json")) for job in (row.first, row.second))]
    return " ".join([row.row, row.device.value, *parts])


def job_key(job: dict[str, object]) -> str:
    """A job without its name, as text."""
    return json.dumps({name: value for name, value in job.items() if name != "id"}, sort_keys=True)


def is_settled(row: AnyRow) -> bool:
    """Whether the row need not be measured again: it counts, or failed for a reason of its own and not by a disturbance."""
    return row.accepted or not set(row.reasons) <= set(Disturbance)


class Store:
    """A folder with the rows of one machine and its description."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows_file, self.machine_file = folder / ROWS, folder / MACHINE

    def open(self, machine: Machine) -> None:
        """Makes the folder, or checks that its rows are of this machine; raises StoredRowsError."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._end_whole()
        if self.machine_file.exists():
            there = Machine.model_validate_json(self.machine_file.read_text(encoding="utf-8"))
            if there.name != machine.name or there.versions != machine.versions:
                raise StoredRowsError(
                    f"{self.machine_file}: these rows are of {there.name} with {there.versions}, this is {machine.name} with "
                    f"{machine.versions}; give another folder"
                )
            return
        self.machine_file.write_text(machine.model_dump_json(indent=2) + "\n", encoding="utf-8")

    def _end_whole(self) -> None:
        """Takes away a last line that was cut off, so that the next row has a line of its own."""
        if self.rows_file.exists():
            data = self.rows_file.read_bytes()
            if not data.endswith(b"\n"):
                self.rows_file.write_bytes(data[: data.rfind(b"\n") + 1])

    def add(self, row: AnyRow) -> None:
        """Appends a row and waits until it is on disk."""
        with self.rows_file.open("a", encoding="utf-8") as stream:
            stream.write(row.model_dump_json(exclude_none=True) + "\n")
            stream.flush()
            os.fsync(stream.fileno())

    def rows(self) -> Iterator[AnyRow]:
        """All rows, in their order; a last line that was cut off is left out. Raises StoredRowsError for any other bad line."""
        yield from read_rows(self.rows_file) if self.rows_file.exists() else ()

    def settled(self) -> set[str]:
        """Keys that need no further run."""
        return {key(row) for row in self.rows() if is_settled(row)}


def read_rows(path: Path) -> Iterator[AnyRow]:
    """The rows of a file of JSON lines; raises StoredRowsError."""
    return stored(path, _ANY)


def stored(path: Path, form: TypeAdapter[Row]) -> Iterator[Row]:
    """The rows of a file of JSON lines; a last line that was cut off is left out. Raises StoredRowsError for any other bad line."""
    lines = path.read_text(encoding="utf-8").split("\n")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            yield form.validate_json(line)
        except ValidationError as error:
            if number == len(lines):  # no newline after it: the run was cut off while it wrote
                return
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"])
            raise StoredRowsError(f"{path}: line {number}: {place}: {first['msg']}; mend or remove the line") from None


def accepted_jobs(path: Path) -> list[Record]:
    """The jobs' rows that count: one for each job, the last. Raises StoredRowsError."""
    return list({key(row): row for row in read_rows(path) if isinstance(row, Record) and row.accepted}.values())
