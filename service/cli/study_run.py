"""How the ``study`` commands solve: the engine by name, the table, and then what the study asks."""

from __future__ import annotations

import threading
from enum import StrEnum
from typing import TYPE_CHECKING

import typer

from service.cli.errors import INTERRUPTED, BadInputError
from service.cli.output import complain
from service.cli.stopping import soft_stop

if TYPE_CHECKING:
    from pathlib import Path

    from optimizer.study.executors.engine import Engine
    from service.documents.study import ReadStudy
    from service.studies.whole import Whole

KEPT = "what is answered is kept, and the same command goes on from there"


class EngineName(StrEnum):
    """Who solves the scenarios."""

    local = "local"
    ray = "ray"
    batch = "batch"
    here = "here"


def chosen(engine: EngineName, workers: int | None, address: str | None) -> Engine:
    """The engine of that name; raises BadInputError where it cannot be had."""
    if engine is EngineName.here:
        from optimizer.study.executors.in_process import InProcess

        return InProcess()
    if engine is EngineName.local:
        from optimizer.study.executors.pool import LocalPool, cores

        return LocalPool(workers or cores())
    if engine is EngineName.ray:
        from optimizer.study.executors.ray_pool import RayPool

        return RayPool(workers, address)
    from optimizer.study.executors.batches import BatchEngine

    return BatchEngine()


def at_once(engine: EngineName) -> int:
    """How many values a search asks for at once where nobody says."""
    if engine is not EngineName.local:
        return 1
    from optimizer.study.executors.pool import cores

    return cores()


def solved(found: ReadStudy, folder: Path, engine: Engine, *, workers: int, resume: bool, again: bool, bar: bool) -> Whole:
    """The study, solved into ``folder`` as far as Ctrl-C lets it. Raises BadInputError."""
    from optimizer.study.executors.engine import EngineError
    from service.cli.study_progress import shown_study
    from service.studies.shelf import Shelf, ShelfError
    from service.studies.whole import run_whole

    cancel = threading.Event()
    try:
        with (
            Shelf.opened(folder, found.study, found.base, resume=resume) as shelf,
            soft_stop(cancel, KEPT),
            shown_study(wanted=bar) as shown,
        ):
            return run_whole(found.study, found.base, shelf, engine, workers=workers, watch=shown, cancel=cancel, again=again)
    except ShelfError as error:
        raise BadInputError(f"--out {error}") from None
    except EngineError as error:
        raise BadInputError(f"--engine: {error}") from None
    except KeyboardInterrupt:
        complain(f"stopped at once; {KEPT}")
        raise typer.Exit(INTERRUPTED) from None
