"""The progress bar of a solve, on standard error: phase, incumbent, bound and gap of the first goal, and the time."""

from __future__ import annotations

import math
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from optimizer.result import Progress as Step


@contextmanager
def shown_progress(time_limit_s: float, *, wanted: bool) -> Iterator[Callable[[Step], None] | None]:
    """A callback that moves the bar, or None when no bar is wanted or standard error is no terminal."""
    console = Console(stderr=True)
    if not (wanted and console.is_terminal):
        yield None
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=12),
        TimeElapsedColumn(),
        TextColumn("{task.fields[figures]}"),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("starting", total=time_limit_s, figures="")

        def step(progress: Step) -> None:
            bar.update(task, completed=min(progress.seconds, time_limit_s), description=progress.phase, figures=figures(progress))

        yield step


def figures(step: Step) -> str:
    """``incumbent 5,990  bound 6,020  gap 0.50%``, without what is not known yet."""
    parts = [f"{name} {value:,.6g}" for name, value in (("incumbent", step.incumbent), ("bound", step.bound)) if _known(value)]
    if step.gap is not None and _known(step.gap):
        parts.append(f"gap {step.gap:.2%}")
    return "  ".join(parts)


def _known(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
