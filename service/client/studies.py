"""Studies over HTTP: the steps that either client carries out, and what each gives to hold a study by."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from urllib.parse import quote

from service.client.exchange import (
    NEVER_ANSWERED_S,
    Ask,
    Emit,
    Link,
    Sleep,
    Steps,
    content_in,
    exchanged,
    monotonic,
    object_in,
    squeezed,
    viewed,
)
from service.client.operations import POLL_S, READING_S, WAIT_S, HasJson, with_wait
from service.client.views import StudyPageView, StudyTableView, StudyView
from service.runs.states import CancelMode

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from typing import TypeAlias

T = TypeVar("T")
Document: TypeAlias = "Mapping[str, Any] | HasJson"
TableFile = Literal["csv", "parquet"]
MEDIA = {"csv": "text/csv", "parquet": "application/vnd.apache.parquet"}


def sent(link: Link, document: Document, priority: int | None, key: str | None) -> Steps[StudyView]:
    """The study, stored durably with all its runs. It may be sent again: its key makes a second copy find the first."""
    dump = getattr(document, "model_dump_json", None)
    text = str(dump(exclude_unset=True)) if dump is not None else json.dumps(document, allow_nan=False)
    content, headers = squeezed(text.encode())
    params = {"priority": str(priority)} if priority is not None else {}
    headers = headers | {"Idempotency-Key": key or f"client-{uuid.uuid4().hex}"}
    ask = Ask("POST", "/v1/studies", params, headers=headers, content=content, wait_s=READING_S)
    return viewed(link, StudyView, (yield from exchanged(link, ask)))


def shown(link: Link, study_id: str) -> Steps[StudyView]:
    """The study as it stands."""
    return viewed(link, StudyView, (yield from exchanged(link, Ask("GET", _study(study_id), wait_s=READING_S))))


def waited(link: Link, study_id: str, timeout_s: float | None) -> Steps[StudyView]:
    """The study when every run has ended, or as it is after ``timeout_s``."""
    until = None if timeout_s is None else monotonic() + timeout_s
    while True:
        left = None if until is None else max(until - monotonic(), 0.0)
        ask = with_wait(Ask("GET", _study(study_id), wait_s=READING_S), WAIT_S if left is None else left)
        response = yield from exchanged(link, ask, None if left is None else max(left, NEVER_ANSWERED_S))
        study = viewed(link, StudyView, response)
        if study.ended or left == 0.0:
            return study
        if "preference-applied" not in response.headers:
            yield Sleep(POLL_S if left is None else min(left, POLL_S))


def listed(link: Link, page: int) -> Steps[None]:
    """Emits the studies, the newest first, asking for a page at a time."""
    params = {"limit": str(page)}
    while True:
        found = viewed(link, StudyPageView, (yield from exchanged(link, Ask("GET", "/v1/studies", params))))
        for study in found.studies:
            yield Emit(study)
        if found.next is None:
            return
        params = params | {"cursor": found.next}


def table(link: Link, study_id: str) -> Steps[StudyTableView]:
    """The table as far as it is known."""
    return viewed(link, StudyTableView, (yield from exchanged(link, Ask("GET", f"{_study(study_id)}/table", wait_s=READING_S))))


def table_file(link: Link, study_id: str, form: TableFile) -> Steps[bytes]:
    """The same as a file."""
    response = yield from exchanged(link, Ask("GET", f"{_study(study_id)}/table", {"format": form}, wait_s=READING_S))
    return content_in(link, response, MEDIA[form])


def report(link: Link, study_id: str) -> Steps[str]:
    """The report, an HTML page."""
    response = yield from exchanged(link, Ask("GET", f"{_study(study_id)}/report", wait_s=READING_S))
    return content_in(link, response, "text/html").decode()


def charts(link: Link, study_id: str) -> Steps[dict[str, Any]]:
    """Vega-Lite specifications by name."""
    found: dict[str, Any] = object_in(link, (yield from exchanged(link, Ask("GET", f"{_study(study_id)}/charts", wait_s=READING_S))))[
        "charts"
    ]
    return found


def difference(link: Link, study_id: str, a: str, b: str, goal: str | None) -> Steps[dict[str, Any]]:
    """The certified difference of two scenarios."""
    params = {"a": a, "b": b} | ({"goal": goal} if goal is not None else {})
    ask = Ask("GET", f"{_study(study_id)}/differences", params, wait_s=READING_S)
    found: dict[str, Any] = object_in(link, (yield from exchanged(link, ask)))["difference"]
    return found


def cancelled(link: Link, study_id: str, mode: CancelMode | str) -> Steps[StudyView]:
    """The study after every run was asked to end."""
    ask = Ask("POST", f"{_study(study_id)}:cancel", {"mode": CancelMode(mode).value}, wait_s=READING_S)
    return viewed(link, StudyView, (yield from exchanged(link, ask)))


def _study(study_id: str) -> str:
    return f"/v1/studies/{quote(study_id, safe='')}"


# ---------------------------------------------------------------- what a client gives to hold


class Study:
    """A study of a service, by its id. Every method raises ClientError."""

    def __init__(self, link: Link, study_id: str, do: Callable[[Steps[Any]], Any]) -> None:
        self._link, self.id, self._do = link, study_id, do

    def show(self) -> StudyView:
        """The study as it stands; with its conclusions once every run has ended."""
        return self._asked(shown(self._link, self.id))

    def wait(self, timeout_s: float | None = None) -> StudyView:
        """The study when every run has ended, or as it is after ``timeout_s``. A restart of the service is waited out."""
        return self._asked(waited(self._link, self.id, timeout_s))

    def table(self) -> StudyTableView:
        """The table, as far as it is known."""
        return self._asked(table(self._link, self.id))

    def table_file(self, form: TableFile) -> bytes:
        """The table as CSV or Parquet."""
        return self._asked(table_file(self._link, self.id, form))

    def report(self) -> str:
        """The report, an HTML page that needs nothing else."""
        return self._asked(report(self._link, self.id))

    def charts(self) -> dict[str, Any]:
        """Vega-Lite specifications by name."""
        return self._asked(charts(self._link, self.id))

    def difference(self, a: str, b: str, goal: str | None = None) -> dict[str, Any]:
        """The certified difference of two scenarios (ids or labels) in a goal or metric; left out: the first goal."""
        return self._asked(difference(self._link, self.id, a, b, goal))

    def cancel(self, mode: CancelMode | str = CancelMode.keep_best) -> StudyView:
        """End every run that has not ended."""
        return self._asked(cancelled(self._link, self.id, mode))

    def _asked(self, steps: Steps[T]) -> T:
        found: T = self._do(steps)
        return found


class AsyncStudy:
    """As ``Study``, to be awaited."""

    def __init__(self, link: Link, study_id: str, do: Callable[[Steps[Any]], Awaitable[Any]]) -> None:
        self._link, self.id, self._do = link, study_id, do

    async def show(self) -> StudyView:
        """The study as it stands; with its conclusions once every run has ended."""
        return await self._asked(shown(self._link, self.id))

    async def wait(self, timeout_s: float | None = None) -> StudyView:
        """The study when every run has ended, or as it is after ``timeout_s``. A restart of the service is waited out."""
        return await self._asked(waited(self._link, self.id, timeout_s))

    async def table(self) -> StudyTableView:
        """The table, as far as it is known."""
        return await self._asked(table(self._link, self.id))

    async def table_file(self, form: TableFile) -> bytes:
        """The table as CSV or Parquet."""
        return await self._asked(table_file(self._link, self.id, form))

    async def report(self) -> str:
        """The report, an HTML page that needs nothing else."""
        return await self._asked(report(self._link, self.id))

    async def charts(self) -> dict[str, Any]:
        """Vega-Lite specifications by name."""
        return await self._asked(charts(self._link, self.id))

    async def difference(self, a: str, b: str, goal: str | None = None) -> dict[str, Any]:
        """The certified difference of two scenarios (ids or labels) in a goal or metric; left out: the first goal."""
        return await self._asked(difference(self._link, self.id, a, b, goal))

    async def cancel(self, mode: CancelMode | str = CancelMode.keep_best) -> StudyView:
        """End every run that has not ended."""
        return await self._asked(cancelled(self._link, self.id, mode))

    async def _asked(self, steps: Steps[T]) -> T:
        found: T = await self._do(steps)
        return found
