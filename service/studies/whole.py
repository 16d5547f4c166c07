"""A study with all that came of it: the table, and the answers to its asks; from a run, or from its folder."""

from __future__ import annotations

import hashlib
import json
import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    from models.vocabulary import Document
    from optimizer.study.executors.engine import Engine
    from optimizer.study.questions.asks import Answer
    from optimizer.study.run import StudyProgress, Table
    from optimizer.study.schema import Study
    from service.studies.shelf import Shelf

ASKS = "asks.json"


@dataclass(frozen=True, slots=True)
class Whole:
    """``asks`` are the answers to the asks of the study, as JSON (``questions.asks``); empty for none, or while they are open."""

    table: Table
    asks: tuple[dict[str, Any], ...] = ()


class Watch(Protocol):
    """Is told how a study goes on."""

    def take(self, progress: StudyProgress) -> None:
        """Something has happened to a scenario, of the table or of an ask."""

    def asking(self, number: int, count: int, what: str) -> None:
        """The ask of this number, from 0, is being answered."""


def run_whole(
    study: Study,
    base: Document,
    shelf: Shelf,
    engine: Engine,
    *,
    workers: int = 1,
    watch: Watch | None = None,
    cancel: threading.Event | None = None,
    again: bool = False,
) -> Whole:
    """Solve what is not on the shelf yet, then answer the asks; ``again`` answers anew what failed or found no plan.

    ``workers`` is how many values a search asks for at once; ``watch`` is told how it goes. Raises what ``run_study`` raises.
    """
    from optimizer.study.run import run_study

    stop = cancel or threading.Event()
    on_progress = _ignore if watch is None else watch.take
    table = run_study(study, base, shelf, engine, on_progress=on_progress, cancel=stop, again=lambda row: again and not row.answered)
    if not study.asks:
        return Whole(table)
    kept = _kept(shelf.folder, study, shelf.base_hash)
    if kept and not (again and any(one["failure"] for one in kept)):
        return Whole(table, kept)
    if stop.is_set():
        return Whole(_with(table, "the asks of the study are not answered yet; the same command goes on with them"))
    return _asked(table, base, shelf, engine, workers, watch, stop)


def load_whole(folder: Path) -> Whole:
    """The study that ran last into ``folder``. Raises ShelfError."""
    from optimizer.study.run import load_table
    from service.studies.shelf import Shelf

    shelf = Shelf.read(folder)
    table = load_table(shelf)
    kept = _kept(folder, table.study, shelf.base_hash)
    if table.study.asks and not kept:
        return Whole(_with(table, "the asks of the study are not answered; run it again into this folder"))
    return Whole(table, kept)


def _asked(table: Table, base: Document, shelf: Shelf, engine: Engine, workers: int, watch: Watch | None, stop: threading.Event) -> Whole:
    from optimizer.study.questions.answering import AskingStoppedError
    from optimizer.study.questions.asks import answered
    from optimizer.study.run import Answerer

    study = table.study
    found: list[Answer] = []
    on_progress = _ignore if watch is None else watch.take
    try:
        with Answerer(base, study.limits, shelf, engine, on_progress=on_progress, cancel=stop) as answerer:
            for number, ask in enumerate(study.asks):
                if watch is not None:
                    watch.asking(number, len(study.asks), ask.ask)
                found += answered(study.model_copy(update={"asks": (ask,)}), base, answerer, workers=workers, cancel=stop)
    except AskingStoppedError as error:
        return Whole(_with(table, f"the asks of the study are not answered: {error}"))
    told = tuple(one.as_json() for one in found)
    if not stop.is_set():  # what was cut short is asked again
        keep_asks(shelf, study, told)
    return Whole(table, told)


def _ignore(_progress: StudyProgress) -> None:
    pass


def _with(table: Table, complaint: str) -> Table:
    return replace(table, complaints=(*table.complaints, complaint))


def _of(study: Study, base_hash: str) -> str:
    """What the answers depend on, in one word."""
    from optimizer.study.store import product_version

    asked = study.model_dump(mode="json", exclude_defaults=True, include={"axes", "asks", "limits", "seed"})
    return hashlib.sha256(json.dumps([base_hash, product_version(), asked], sort_keys=True).encode()).hexdigest()


def _kept(folder: Path, study: Study, base_hash: str) -> tuple[dict[str, Any], ...]:
    """The answers in a folder, if they are those of this study."""
    try:
        told = json.loads((folder / ASKS).read_bytes())
        return tuple(told["asks"]) if told["of"] == _of(study, base_hash) else ()
    except (OSError, ValueError, TypeError, KeyError):
        return ()


def keep_asks(shelf: Shelf, study: Study, asks: tuple[dict[str, Any], ...]) -> None:
    """Keep the answers beside those of the scenarios. Raises BadInputError."""
    from service.studies.files import put

    told = {"of": _of(study, shelf.base_hash), "asks": asks}
    put(shelf.folder / ASKS, json.dumps(told, allow_nan=False, indent=1).encode())
