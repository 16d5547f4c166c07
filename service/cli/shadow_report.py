"""What a command that follows prints in shadow mode: what would start where, what others wait for, and in the end what that came to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from service.plugins.follower import Round
    from service.plugins.gains import Gains

MOST_SHOWN = 20  # jobs of each kind at a time
HOUR_S = 3600.0


class ShadowReport:
    """Prints when another job would start, or would start elsewhere, and each new sentence of a job that waits; never by the clock.

    ``starter`` is what would start them: a command, and what it needs besides.
    """

    def __init__(self, starter: str) -> None:
        self._starter = starter
        self._shown: frozenset[tuple[str, tuple[str, ...]]] | None = None
        self._since: float | None = None
        self._last: Gains | None = None
        self._ever: set[str] = set()

    def note(self, done: Round) -> None:
        """One round."""
        gains = done.gains
        if gains is not None:
            self._since = gains.at if self._since is None else self._since
            self._last = gains
            self._ever |= {one.job for one in gains.jobs}
            shown = frozenset((one.job, one.nodes) for one in gains.jobs)
            if shown != self._shown:
                self._show(gains)
            self._shown = shown
        for wait in done.told[:MOST_SHOWN]:
            typer.echo(f"  {wait.job}: {wait.why}")

    def _show(self, gains: Gains) -> None:
        typer.echo(gains.sentence)
        for one in gains.jobs[:MOST_SHOWN]:
            typer.echo(f"  {one.name}: {one.gpus:g} GPUs on {', '.join(one.nodes)}")
        if len(gains.jobs) > MOST_SHOWN:
            typer.echo(f"  and {len(gains.jobs) - MOST_SHOWN} more")
        if gains.jobs and not self._shown:
            typer.echo(f"  {self._starter} would start them there; nothing was changed.")

    def end(self) -> None:
        """What it came to since the beginning."""
        if self._last is None or self._since is None:
            return
        lasted = self._last.at - self._since
        idle = self._last.gpu_hours
        typer.echo(
            f"In {_span(lasted)}, {len(self._ever)} jobs waited beside enough room at one time or another; {idle:.2g} GPU hours were idle "
            "meanwhile that the plan would have used."
            if self._ever
            else f"In {_span(lasted)} no job that opted in waited beside enough room."
        )


def _span(seconds: float) -> str:
    return f"{seconds / HOUR_S:.1f} h" if seconds >= HOUR_S else f"{seconds / 60:.1f} min" if seconds >= 60 else f"{seconds:.0f} s"  # noqa: PLR2004
