"""``study run --server``: a service solves the study; table, report, answers and exit code are what a run here would leave."""

from __future__ import annotations

import hashlib
import json
import threading
import time
import zlib
from typing import TYPE_CHECKING, Any

import typer

from optimizer.study.executors.desk import FAST
from optimizer.study.executors.engine import Done
from optimizer.study.rows import Row, scenario_key
from optimizer.study.run import StudyProgress, Table, limits_of
from optimizer.study.schema import Base
from optimizer.study.store import product_version
from service.cli.errors import INTERRUPTED, BadInputError
from service.cli.output import complain
from service.cli.stopping import soft_stop
from service.cli.study_progress import shown_study
from service.cli.study_run import KEPT
from service.studies.shelf import Shelf, ShelfError
from service.studies.whole import Whole, keep_asks

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from models.contract import Kind
    from models.vocabulary import Document
    from service.cli.remote import Remote
    from service.client import Client, Study
    from service.client.views import StudyTableView, StudyView
    from service.documents.study import ReadStudy
    from service.studies.whole import Watch

LOOK_S = 1.0  # how often the service is asked how far it is
CANCELLED_S = 30.0  # a cancelled study has so long to end
MOST_SENT = 1_000  # cancelled or failed studies of one kind in a row, before something is wrong


def problem_of(service: Remote, kind: Kind, problem_id: str) -> Document:
    """A stored problem. Raises BadInputError for one of another kind, ClientError."""
    found = service.client.problem(problem_id)
    if found.kind != kind.name:
        raise BadInputError(f"/base/problem_id: {problem_id} is a problem of kind {found.kind}, and the study of {kind.name}; correct one")
    made: Document = kind.problem.model_validate(found.problem)
    return made


def solved_there(service: Remote, found: ReadStudy, folder: Path, *, resume: bool, again: bool, bar: bool) -> Whole:
    """The study, solved by a service as far as Ctrl-C lets it, its answers in ``folder``. Raises BadInputError, ClientError."""
    cancel = threading.Event()
    client = service.client
    made: Study | None = None
    try:
        with Shelf.opened(folder, found.study, found.base, resume=resume) as shelf, soft_stop(cancel, KEPT):
            made, first = _sent(client, found, again=again)
            complain(f"{made.id} on {client.base_url}")
            began = time.monotonic()
            with shown_study(wanted=bar) as shown:
                last = followed(made, first, shown, cancel)
            counts = first.counts["succeeded"], time.monotonic() - began
            return _fetched(client, found, shelf, made.table(), last, counts)
    except ShelfError as error:
        raise BadInputError(f"--out {error}") from None
    except KeyboardInterrupt:
        if made is not None:
            made.cancel("discard")
        complain(f"stopped at once; {KEPT}")
        raise typer.Exit(INTERRUPTED) from None


def _sent(client: Client, found: ReadStudy, *, again: bool) -> tuple[Study, StudyView]:
    """The study as the service has it: the one of the same content that runs or has ended, unless it was cut short, else a new one."""
    problem = client.add_problem(found.kind.name, found.base).id
    document = found.study.model_copy(update={"base": Base(problem_id=problem)})
    said = f"{product_version()} {document.model_dump_json(exclude_unset=True)}"  # another version has other answers
    key = hashlib.sha256(said.encode()).hexdigest()
    for _ in range(MOST_SENT):
        made = client.study(document, idempotency_key=f"study-{key}")
        view = made.show()
        cut = view.state in ("cancelling", "cancelled") or (view.ended and any(map(_is_open, view.asks or ())))
        if not cut and not (again and view.ended and view.counts["failed"]):
            return made, view
        key = hashlib.sha256(f"{key} {made.id}".encode()).hexdigest()
    raise BadInputError(f"{client.base_url}: this study was cancelled {MOST_SENT:,} times; change its name")


def _is_open(ask: Mapping[str, Any]) -> bool:
    """Whether the same study sent again goes on with this ask."""
    return bool(ask.get("open"))


def followed(made: Study, view: StudyView, shown: Watch, cancel: threading.Event) -> StudyView:
    """The study when it has ended, told to ``shown`` on the way; ``cancel`` ends it. A restart of the service is waited out."""
    from service.client import Unavailable, Unreachable

    began, before, give_up = time.monotonic(), view.counts["succeeded"], float("inf")
    while True:
        counts = view.counts
        done = counts["succeeded"] + counts["failed"] + counts["cancelled"]
        seconds = time.monotonic() - began
        shown.take(StudyProgress(view.runs, before, done - before, counts["failed"], seconds, "looked_up"))
        if view.ended or time.monotonic() > give_up:
            return view
        if cancel.is_set() and give_up == float("inf"):
            give_up = time.monotonic() + CANCELLED_S
            view = made.cancel()
            continue
        try:
            view = made.wait(LOOK_S)
        except (Unavailable, Unreachable):
            view = made.show()  # which has the patience for a restart


def _fetched(client: Client, found: ReadStudy, shelf: Shelf, table: StudyTableView, view: StudyView, counts: tuple[int, float]) -> Whole:
    """Rows and plans into the folder, and the table that they make; ``counts``: how many were known before, and the seconds it took."""
    rows: dict[str, Row] = {}
    for line in table.rows:
        if line.row is None or line.state == "cancelled":  # solved further, it would be another row
            continue
        row = rows[line.scenario] = Row.from_json(line.row.model_dump())
        if shelf.row(row.key) is None or (row.goals and shelf.plan(row.key) is None):
            shelf.put(Done(row, zlib.compress(_plan(client, line.run), FAST) if row.goals else None))
    mine = tuple(rows.get(scenario.id) for scenario in found.scenarios)
    limits, version = found.study.limits, shelf.version
    keys = tuple(scenario_key(shelf.base_hash, one.changes, limits_of(limits, one.seed), version) for one in found.scenarios)
    complaints = list(shelf.complaints)
    if any(row is not None and row.key != key for row, key in zip(mine, keys, strict=True)):
        complaints.append("the service has another version or other limits: `study show` does not know its answers")
    asks = tuple(one for one in view.asks or () if not _is_open(one))
    if len(asks) < len(found.study.asks):
        complaints.append("the asks of the study are not all answered; the same command goes on with them")
    elif found.study.asks:
        keep_asks(shelf, found.study, asks)
    told = tuple(key if row is None else row.key for row, key in zip(mine, keys, strict=True))
    count = len({row.key for row in mine if row is not None})
    reused = min(counts[0], count)
    return Whole(Table(found.study, found.scenarios, told, mine, reused, count - reused, counts[1], tuple(complaints)), asks)


def _plan(client: Client, run_id: str) -> bytes:
    return json.dumps(client.plan(run_id), separators=(",", ":")).encode()
