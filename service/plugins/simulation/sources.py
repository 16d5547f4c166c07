"""Where a snapshot comes from: a folder or a file that was saved, or the scheduler itself, asked once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from service.documents.errors import BadInputError

if TYPE_CHECKING:
    from models.placement.schema import Problem
    from service.plugins.cluster import Snapshot
    from service.plugins.simulation.situation import Situation
    from service.plugins.simulation.taken import Which

ANSWER_S = 30.0  # of the API server, for one page of a list


@dataclass(frozen=True, slots=True)
class Source:
    """One of a folder of Slurm's outputs and files of Kubernetes objects; ``live`` in their place asks the scheduler now.

    ``taken_at`` (seconds since the epoch) is the time of a saved snapshot, where it does not tell that itself.
    """

    LIVE: ClassVar[str] = "live"
    slurm: str | None = None
    kubernetes: tuple[str, ...] = ()
    taken_at: float | None = None

    @property
    def name(self) -> str:
        """What to call it in messages."""
        return f"slurm {self.slurm}" if self.slurm is not None else f"kubernetes {', '.join(self.kubernetes)}"

    def seen(self) -> Snapshot:
        """The cluster. Raises BadInputError."""
        from service.importers.failures import ImportFileError

        try:
            return self._slurm(self.slurm) if self.slurm is not None else self._kubernetes()
        except ImportFileError as error:
            raise BadInputError(str(error)) from None

    def _slurm(self, place: str) -> Snapshot:
        if place == self.LIVE:
            return self._live_slurm()
        from service.importers.slurm import read_slurm

        return read_slurm(Path(place), self.taken_at)

    def _kubernetes(self) -> Snapshot:
        if self.kubernetes == (self.LIVE,):
            return self._live_kubernetes()
        from service.importers.kubernetes import read_kubernetes

        return read_kubernetes([Path(one) for one in self.kubernetes], self.taken_at)

    @staticmethod
    def _live_kubernetes() -> Snapshot:
        import time

        from service.importers.kubernetes import fetched
        from service.plugins.kubernetes.connection import Connection
        from service.plugins.scheduler import SchedulerError

        try:
            return fetched(Connection.opened(timeout_s=ANSWER_S), time.time())
        except SchedulerError as error:
            raise BadInputError(f"kubernetes: live: {error}") from None

    @staticmethod
    def _live_slurm() -> Snapshot:
        from service.importers.slurm import seen
        from service.plugins.scheduler import SchedulerError
        from service.plugins.slurm.commands import Commands

        commands = Commands()
        try:
            return seen(commands.read(), "slurm")
        except SchedulerError as error:
            raise BadInputError(f"slurm: live: {error}") from None
        finally:
            commands.close()


def situation_of(source: Source, jobs: Which = "all") -> Situation:
    """The cluster as a settled situation, with its warnings. Raises BadInputError."""
    from service.plugins.simulation.situation import OverfullError, settled
    from service.plugins.simulation.taken import SnapshotError, taken

    try:
        return settled(taken(source.seen(), jobs).situation())
    except (SnapshotError, OverfullError) as error:
        raise BadInputError(f"{source.name}: {error}") from None


def problem_of(source: Source, jobs: Which = "all") -> tuple[Problem, tuple[str, ...]]:
    """The cluster as a placement problem, and what could not be taken over. Raises BadInputError."""
    found = situation_of(source, jobs)
    return found.problem, found.warnings
