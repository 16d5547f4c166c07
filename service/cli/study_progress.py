"""The progress of a study, on standard error: one bar for all, and a line for each scenario at work."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from optimizer.result import relative_gap
from service.studies.wording import label_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from optimizer.study.executors.engine import Step
    from optimizer.study.run import StudyProgress

LONGEST_LABEL = 48
COLUMNS = (
    SpinnerColumn(),
    TextColumn("{task.description}"),
    BarColumn(bar_width=24),
    TextColumn("{task.fields[count]}"),
    TimeElapsedColumn(),
    TextColumn("{task.fields[told]}"),
)


@contextmanager
def shown_study(*, wanted: bool) -> Iterator[Shown]:
    """What moves the bars, or does nothing when none are wanted or standard error is no terminal."""
    console = Console(stderr=True)
    if not (wanted and console.is_terminal):
        yield Shown()
        return
    with Progress(*COLUMNS, console=console, transient=True) as bars:
        yield Bars(bars)


class Shown:
    """Is told how a study goes on, and shows nothing."""

    def take(self, progress: StudyProgress) -> None:
        """Something has happened to a scenario."""

    def asking(self, number: int, count: int, what: str) -> None:
        """The ask of this number, from 0, is being answered."""


class Bars(Shown):
    """All scenarios in the first bar; below it those that are at work; below these the asks."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._whole = bars.add_task("scenarios", total=None, told="", count="")
        self._at_work: dict[str, TaskID] = {}
        self._asks: TaskID | None = None

    def lines(self) -> list[tuple[str, str, str]]:
        """What the bars say: name, count and the rest."""
        return [(task.description, task.fields["count"], task.fields["told"]) for task in self._bars.tasks]

    def asking(self, number: int, count: int, what: str) -> None:
        """The bar of the asks; what they solve is no scenario of the table, so the first bar stays."""
        if self._asks is None:
            self._asks = self._bars.add_task("asks", total=count, told="", count="")
        self._bars.update(self._asks, completed=number, told=escape(what), count=f"{number}/{count}")

    def take(self, progress: StudyProgress) -> None:
        """The first bar, and the line of a scenario."""
        if self._asks is None:
            done = progress.reused + progress.solved
            count = f"{done}/{progress.total}"
            self._bars.update(self._whole, total=progress.total, completed=done, told=_told(progress), count=count)
        scenario = progress.scenario
        if scenario is None:
            return
        if progress.state == "done":
            gone = self._at_work.pop(scenario.id, None)
            if gone is not None:
                self._bars.remove_task(gone)
            return
        if scenario.id not in self._at_work:
            label = label_of(scenario)
            label = label if len(label) <= LONGEST_LABEL else f"{label[: LONGEST_LABEL - 1]}…"
            self._at_work[scenario.id] = self._bars.add_task(escape(label), total=None, told="", count="")
        self._bars.update(self._at_work[scenario.id], told=_figures(progress.step))


def _told(progress: StudyProgress) -> str:
    parts = [f"{progress.reused} known before"] if progress.reused else []
    parts += [f"{progress.failed} failed"] if progress.failed else []
    parts += [f"about {progress.remaining_s:,.0f} s left"] if progress.remaining_s is not None and progress.left else []
    return ", ".join(parts)


def _figures(step: Step | None) -> str:
    if step is None:
        return ""
    if step.state == "lost":
        return "its process was lost; it is tried again"
    parts = [f"{name} {value:,.6g}" for name, value in (("incumbent", step.incumbent), ("bound", step.bound)) if value is not None]
    if step.incumbent is not None and step.bound is not None:
        parts.append(f"gap {relative_gap(step.incumbent, step.bound):.2%}")
    return "  ".join(parts)
