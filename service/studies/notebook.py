"""Studies from Python: run a file, load a folder, and look at the table as a Polars frame (``frame``)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from service.studies.conclusions import conclusions
from service.studies.frame import frame

if TYPE_CHECKING:
    from collections.abc import Callable

    from optimizer.study.executors.engine import Engine
    from optimizer.study.run import StudyProgress, Table

__all__ = ["conclusions", "frame", "run_file", "table_of"]


def run_file(
    file: str | Path,
    folder: str | Path,
    *,
    workers: int | None = None,
    engine: Engine | None = None,
    on_progress: Callable[[StudyProgress], None] = lambda _progress: None,
) -> Table:
    """The table of a study file, of which only what ``folder`` does not hold yet is solved: by ``engine``, or by ``workers`` processes.

    ``workers`` left out: one for each CPU; 0: this process, which needs no ``if __name__ == "__main__"`` around it. Raises BadInputError
    for a file that cannot be, ShelfError for a folder that is not for it, and EngineError.
    """
    from optimizer.study.run import run_study
    from service.cli.files import read
    from service.documents.study import read_study
    from service.studies.frozen import frozen_in
    from service.studies.shelf import Shelf

    found = read_study(read(str(file)), Path(file).parent, read, frozen=frozen_in(lambda _: Path(folder)))
    with Shelf.opened(Path(folder), found.study, found.base) as shelf:
        return run_study(found.study, found.base, shelf, engine or _engine(workers), on_progress=on_progress)


def table_of(folder: str | Path) -> Table:
    """The table of the study that ran last into ``folder``, as far as it is. Raises ShelfError."""
    from optimizer.study.run import load_table
    from service.studies.shelf import Shelf

    return load_table(Shelf.read(Path(folder)))


def _engine(workers: int | None) -> Engine:
    if workers == 0:
        from optimizer.study.executors.in_process import InProcess

        return InProcess()
    from optimizer.study.executors.pool import LocalPool, cores

    return LocalPool(workers or cores())
