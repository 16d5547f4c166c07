"""Programs that stay from one solve to the next: who solves many problems that are much alike starts each from the last.

A session is handed down explicitly: ``optimizer.study.executors.hot`` owns one, and ``search`` and conversations ask it for their solves.
It changes where a solve starts, never what counts: values are checked and bounds recomputed from duals as everywhere, and whatever is no
proved optimum after a hot start (no solution, an infeasible or unbounded program, a crash) is asked again from scratch.
"""

from __future__ import annotations

import hashlib
from collections import Counter, OrderedDict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from optimizer.backend import ProgramStatus
from optimizer.highs import HighsBackend, Options, whole_bounds
from optimizer.limits import Deadline
from optimizer.live import LiveProgram

if TYPE_CHECKING:
    import threading

    from models.program import Floats, LinearProgram
    from optimizer.backend import OnProgress, ProgramResult
    from optimizer.limits import Limits

MOST_PROGRAMS = 256
MOST_ENTRIES = 20_000_000  # coefficients of all that is kept
MOST_KEPT = 5_000_000  # of one program: a larger one is solved and let go
PATIENCE = 1.0  # times what a cold solve took: after so long a hot one is given up
LEAST_PATIENCE_S = 0.05
SWITCH = 5.0  # times what a solve without crossover took, for the one that makes a basis
LEAST_S = 1e-3

STUMBLED = (ProgramStatus.error, ProgramStatus.unbounded)  # what says nothing about an integer program that was given values to start from

Place = tuple[bytes, Options, int]


@dataclass(slots=True, eq=False)
class _Kept:
    """A program, what its last solve from scratch took, and the last values of an integer program."""

    live: LiveProgram | None
    entries: int
    cold_s: float = 0.0
    asked: int = 0
    vertex: bool = True  # whether a basis can be had in reasonable time
    values: Floats | None = None


@dataclass(slots=True, eq=False)
class KeptPrograms:
    """The programs of one session, the least lately used go first. For one thread.

    Programs are known by their structure, and by how often in one problem's search the same structure was asked for before.
    ``memory`` is what conversations of a kind leave to the next (``scale.REMEMBERS``). ``hot`` and ``cold`` count solves of
    linear programs, ``integer`` those of others.
    """

    memory: dict[str, Any] = field(default_factory=dict)
    hot: int = 0
    cold: int = 0
    integer: int = 0
    _kept: OrderedDict[Place, _Kept] = field(default_factory=OrderedDict)
    _asked: Counter[bytes] = field(default_factory=Counter)

    def begin(self) -> None:
        """A new problem: its programs are matched with those of the problem before, in their order."""
        self._asked.clear()

    def forget(self) -> None:
        """Drop everything: after a failure nothing that is kept is to be trusted."""
        self._kept.clear()
        self._asked.clear()
        self.memory.clear()

    def solver(self, options: Options | None = None) -> KeptSolver:
        """A backend that solves in this session."""
        return KeptSolver(self, Options() if options is None else options)

    def solve(
        self,
        program: LinearProgram,
        limits: Limits,
        options: Options,
        *,
        start: Floats | None = None,
        on_progress: OnProgress | None = None,
        cancel: threading.Event | None = None,
    ) -> ProgramResult:
        """As ``HighsBackend.solve``, from what is kept where that helps."""
        backend = HighsBackend(options)
        if program.columns == 0 or len(program.indices) > MOST_KEPT:
            return backend.solve(program, limits, start=start, on_progress=on_progress, cancel=cancel)
        kept = self._at(program, options)
        if program.is_mip:
            return self._solved_whole(kept, program, limits, backend, start, on_progress, cancel)
        deadline = Deadline.after(limits.time_limit_s)
        hot = self._solved_hot(kept, program, limits, cancel)
        if hot is not None:
            return hot
        left = replace(limits, time_limit_s=max(deadline.remaining_s(), LEAST_S))
        return self._solved_cold(kept, program, left, options, start, cancel)

    def _solved_whole(
        self,
        kept: _Kept,
        program: LinearProgram,
        limits: Limits,
        backend: HighsBackend,
        start: Floats | None,
        on_progress: OnProgress | None,
        cancel: threading.Event | None,
    ) -> ProgramResult:
        """An integer program, from the last values where no others are given; where the solver stumbles over them, without."""
        self.integer += 1
        deadline = Deadline.after(limits.time_limit_s)
        given = start if start is not None else _whole(program, kept.values)
        result = backend.solve(program, limits, start=given, on_progress=on_progress, cancel=cancel)
        if given is not start and result.status in STUMBLED:
            left = replace(limits, time_limit_s=max(deadline.remaining_s(), LEAST_S))
            result = backend.solve(program, left, start=start, on_progress=on_progress, cancel=cancel)
        kept.values = result.values if result.values is not None else kept.values
        return result

    # ------------------------------------------------------------ linear programs

    def _solved_hot(self, kept: _Kept, program: LinearProgram, limits: Limits, cancel: threading.Event | None) -> ProgramResult | None:
        """The proved optimum from the last basis; None when there is none, or it takes longer than from scratch."""
        live = kept.live
        if live is None or not live.hot or not live.become(program):
            return None
        patience = max(PATIENCE * kept.cold_s, LEAST_PATIENCE_S)
        result = live.solve(replace(limits, time_limit_s=min(patience, limits.time_limit_s)), cancel=cancel)
        if result.status is not ProgramStatus.optimal or result.row_duals is None:
            return None
        self.hot += 1
        return result

    def _solved_cold(
        self,
        kept: _Kept,
        program: LinearProgram,
        limits: Limits,
        options: Options,
        start: Floats | None,
        cancel: threading.Event | None,
    ) -> ProgramResult:
        """From scratch. What is asked for a second time is brought to a vertex, where that is not far: from there on it is hot."""
        self.cold += 1
        kept.asked += 1
        deadline = Deadline.after(limits.time_limit_s)
        if not options.crossover and kept.asked > 1 and kept.vertex:
            brief = replace(limits, time_limit_s=min(max(SWITCH * kept.cold_s, LEAST_PATIENCE_S), limits.time_limit_s))
            kept.live = LiveProgram(program, limits, replace(options, crossover=True))
            result = kept.live.solve(brief, start=start, cancel=cancel)
            kept.vertex = result.status is ProgramStatus.optimal
            if kept.vertex:
                return result
        kept.live = LiveProgram(program, limits, options)
        result = kept.live.solve(replace(limits, time_limit_s=max(deadline.remaining_s(), LEAST_S)), start=start, cancel=cancel)
        kept.cold_s = result.seconds
        if result.status in (ProgramStatus.optimal, ProgramStatus.infeasible, ProgramStatus.no_solution) or deadline.passed:
            return result
        kept.live = None  # what is odd goes the way that has answers for it
        left = replace(limits, time_limit_s=max(deadline.remaining_s(), LEAST_S))
        return HighsBackend(options).solve(program, left, start=start, cancel=cancel)

    # ------------------------------------------------------------ what is kept

    def _at(self, program: LinearProgram, options: Options) -> _Kept:
        structure = _structure(program)
        place = (structure, options, self._asked[structure])
        self._asked[structure] += 1
        kept = self._kept.get(place)
        if kept is None:
            kept = self._kept[place] = _Kept(None, len(program.indices))
            self._make_room()
        self._kept.move_to_end(place)
        return kept

    def _make_room(self) -> None:
        entries = sum(one.entries for one in self._kept.values())
        while len(self._kept) > 1 and (len(self._kept) > MOST_PROGRAMS or entries > MOST_ENTRIES):
            entries -= self._kept.popitem(last=False)[1].entries


@dataclass(frozen=True, slots=True)
class KeptSolver:
    """``KeptPrograms.solve`` with fixed options, as a backend; see ``optimizer.backend.Backend``."""

    session: KeptPrograms
    options: Options

    @property
    def name(self) -> str:
        """What certificates call it, with the version."""
        return HighsBackend(self.options).name

    def solve(
        self,
        program: LinearProgram,
        limits: Limits,
        *,
        start: Floats | None = None,
        on_progress: OnProgress | None = None,
        cancel: threading.Event | None = None,
    ) -> ProgramResult:
        """Solve within the limits; see ``optimizer.backend.Backend.solve``."""
        return self.session.solve(program, limits, self.options, start=start, on_progress=on_progress, cancel=cancel)


def _structure(program: LinearProgram) -> bytes:
    """A digest of everything but the numbers, see ``optimizer.live.same_structure``."""
    digest = hashlib.blake2b(digest_size=16)
    digest.update(f"{program.maximise} {program.rows} {program.columns}".encode())
    for array in (program.starts, program.indices, program.integer):
        digest.update(array.tobytes())
    return digest.digest()


def _whole(program: LinearProgram, values: Floats | None) -> Floats | None:
    """The integer columns of an earlier answer, moved into the bounds, as a start: the solver finds what goes with them."""
    if values is None:
        return None
    lower, upper = whole_bounds(program.integer, program.column_lower, program.column_upper)
    # HiGHS refuses a value outside the bounds, and all the others with it.
    return np.where(program.integer & (lower <= upper), np.clip(values, lower, upper), np.nan)
