"""The first-order method itself, in torch: restarted Halpern iteration of reflected primal-dual hybrid gradient steps.

Many programs run side by side, one column of a matrix each, with weights, restarts and counts of their own. A program that is done makes
room for one that waits. All in float64.

Sources: A. Chambolle, T. Pock, "A first-order primal-dual algorithm for convex problems with applications to imaging", 2011 (the step);
D. Applegate et al., "Practical large-scale linear programming using primal-dual hybrid gradient", NeurIPS 2021, and "Faster first-order
primal-dual methods for linear programming using restarts and sharpness", 2023 (restarts, the primal weight); H. Lu, J. Yang,
"Restarted Halpern PDHG for linear programming", 2024, and H. Lu, Z. Peng, J. Yang, "cuPDLPx", 2025 (Halpern's average with the start of
the run in place of the plain average, reflection, restarts by the fixed-point error).
"""

from __future__ import annotations

import contextlib
import warnings
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from models.program import Floats
    from optimizer.batch.shapes import Part, Shape

Tensor = Any  # of torch, whose types are not at hand where it is not installed

STEP = 0.998  # of the largest safe step: the scaled matrix has a norm of at most 1
CHECK_EVERY = 40  # iterations
SUFFICIENT, NECESSARY, ARTIFICIAL = 0.2, 0.8, 0.36  # when to restart, as in cuPDLPx
WEIGHT_MEMORY, WEIGHT_SUM = 0.3, 0.01  # of the controller of the primal weight
HARDER = 0.3  # how much closer a point must come after one that turned out not to be good enough
CLOSED = 1e-6  # absolute, of an objective up to 1: what counts as closed whatever the tolerance
PATIENCE, LEAST_PATIENCE = 2.5, 1_000.0  # times the median of those that are done, at least; then HiGHS is the better choice
LEAST_HOPE, FAR, STRAIGHT = 400, 1e2, 1e-4  # iterations, scaled length, and how nearly a ray must be one, for giving up
ENOUGH_TAKEN = 12  # to tell a median
CPU_NUMBERS = 160_000  # of one vector of all programs side by side: what stays in the cache of a core
GPU_NUMBERS = 1 << 25
SHORT = 1 << 31
REFILL = 4  # one part in so many of the places must be free before others take them


class Judge(Protocol):
    """Who is shown points that look good enough, and the last point of programs that have had their time."""

    def __call__(self, place: int, values: Floats, duals: Floats, iterations: int) -> bool:
        """Whether the program at ``place`` is done; ``duals`` are those of minimising, whatever the program does."""
        ...


@dataclass(frozen=True, eq=False)
class Starting:
    """How to begin: ``points`` are values and duals (of minimising) of each program, or None; ``weights`` (programs,) the primal weights.

    ``gain`` is how far a restart moves a weight towards what the way so far suggests: 0 not at all, 1 all the way. ``together``: all at
    once, however many they are.
    """

    points: Sequence[tuple[Floats, Floats] | None] | None = None
    weights: Floats | None = None
    gain: float = 0.5
    together: bool = False


@dataclass(eq=False)
class _State:
    """Programs side by side: every tensor ends with the programs. ``places`` are their positions in the shape."""

    places: Tensor
    x: Tensor
    y: Tensor
    x_start: Tensor
    y_start: Tensor
    cost: Tensor
    column_lower: Tensor
    column_upper: Tensor
    low: Tensor  # rows: minus the upper side, minus the lower one
    high: Tensor
    row_unit: Tensor
    side_unit: Tensor
    cost_unit: Tensor
    offset: Tensor
    coefficients: Tensor
    weight: Tensor
    since: Tensor  # iterations since the restart
    total: Tensor
    error_start: Tensor  # inf: not known yet
    error_last: Tensor
    error_sum: Tensor
    strictness: Tensor

    def chosen(self, keep: Tensor) -> _State:
        """The programs at the positions ``keep``; coefficients that all share stay as they are."""
        parts = {one.name: getattr(self, one.name) for one in fields(self)}
        return _State(**{name: value if _is_shared(name, value) else value[..., keep] for name, value in parts.items()})

    def joined(self, other: _State) -> _State:
        """These programs, then the others."""
        pairs = {one.name: (getattr(self, one.name), getattr(other, one.name)) for one in fields(self)}
        return _State(**{name: one if _is_shared(name, one) else torch.cat((one, two), dim=-1) for name, (one, two) in pairs.items()})


def _is_shared(name: str, value: Tensor) -> bool:
    return name == "coefficients" and value.dim() == 1


class Iteration:
    """One shape on one device. ``hurried``: whoever takes much longer than the others is given up."""

    def __init__(self, shape: Shape, device: str, tolerance: float, most_iterations: int, *, hurried: bool) -> None:
        self._shape, self._device, self._tolerance = shape, torch.device(device), tolerance
        self._most, self._hurried, self._taken = most_iterations, hurried, list[float]()
        self._slots = _slots(shape, self._device.type)
        self._starting = Starting()
        rows, columns = (torch.as_tensor(one.copy(), device=self._device) for one in (shape.entry_rows, shape.entry_columns))
        self._by_row, self._by_column = (
            _Pattern(rows, columns, shape.rows, shape.columns),
            _Pattern(columns, rows, shape.columns, shape.rows),
        )
        self._forward: Tensor = None
        self._backward: Tensor = None

    def run(self, starting: Starting, judge: Judge, stopped: Callable[[], bool]) -> None:
        """Work until every program is done or has had its iterations, or until ``stopped``: then each program's last point is shown."""
        self._starting = starting
        places = list(range(len(self._shape.programs)))
        slots = max(len(places), 1) if starting.together else self._slots
        state, waiting = self._admitted(places[:slots]), places[slots:]
        self._arrange(state)
        while len(state.places):
            late = stopped()
            going = self._stretch(state, judge, last=late)
            if late:
                return
            if going is None:
                continue
            state = state.chosen(going)
            room = slots - len(state.places)
            if waiting and room >= slots // REFILL:
                state = state.joined(self._admitted(waiting[:room]))
                waiting = waiting[room:]
            self._arrange(state)

    # ------------------------------------------------------------ programs in and out

    def _admitted(self, places: list[int]) -> _State:
        part: Part = self._shape.part(places)
        count = len(places)
        x, y = np.zeros((self._shape.columns, count)), np.zeros((self._shape.rows, count))
        for column, place in enumerate(places):
            start = self._starting.points[place] if self._starting.points is not None else None
            if start is not None:
                x[:, column] = start[0] / self._shape.column_scale * part.side_unit[column]
                y[:, column] = start[1] / self._shape.row_scale * part.cost_unit[column]
        x = np.clip(x, part.column_lower, part.column_upper)
        arrays = {
            "x": x,
            "y": y,
            "x_start": x,
            "y_start": y,
            "cost": part.cost,
            "column_lower": part.column_lower,
            "column_upper": part.column_upper,
            "low": -part.row_upper,
            "high": -part.row_lower,
            "row_unit": part.row_unit,
            "side_unit": part.side_unit,
            "cost_unit": part.cost_unit,
            "offset": part.offset,
            "coefficients": part.coefficients,
            "weight": self._starting.weights[places] if self._starting.weights is not None else np.ones(count),
            "since": np.zeros(count),
            "total": np.zeros(count),
            "error_start": np.full(count, np.inf),
            "error_last": np.full(count, np.inf),
            "error_sum": np.zeros(count),
            "strictness": np.full(count, 0.5),
        }
        made = {name: torch.tensor(np.ascontiguousarray(one), dtype=torch.float64, device=self._device) for name, one in arrays.items()}
        return _State(places=torch.tensor(places, device=self._device), **made)

    def _arrange(self, state: _State) -> None:
        """The matrix and its transpose for these programs; of matrices that differ, one with a block for each program."""
        if self._shape.common and self._forward is not None:
            return
        values = state.coefficients if state.coefficients.dim() == 2 else state.coefficients[:, None]  # noqa: PLR2004
        self._forward, self._backward = self._by_row.matrix(values), self._by_column.matrix(values)

    def _product(self, matrix: Tensor, vectors: Tensor) -> Tensor:
        if self._shape.common:
            return matrix @ vectors
        return torch.mv(matrix, vectors.reshape(-1)).reshape(-1, vectors.shape[1])

    # ------------------------------------------------------------ iterations

    def _stretch(self, state: _State, judge: Judge, *, last: bool) -> Tensor | None:
        """Some iterations, then a check; positions of the programs that go on, None for all of them."""
        for number in range(CHECK_EVERY - 1):
            x, y = self._step(state)
            if not number:
                self._first_errors(state, x, y)
            self._average(state, x, y)
        x, y = self._step(state)
        self._restart(state, x, y)
        return self._check(state, x, y, judge, last=last)

    def _step(self, state: _State) -> tuple[Tensor, Tensor]:
        """One primal-dual step from the current point."""
        descent = self._product(self._backward, state.y).sub_(state.cost)
        x = torch.addcmul(state.x, descent, STEP / state.weight)
        torch.clamp(x, state.column_lower, state.column_upper, out=x)
        ahead = self._product(self._forward, torch.lerp(state.x, x, 2.0))
        length = STEP * state.weight
        over = torch.div(state.y, length).sub_(ahead)
        over.sub_(torch.clamp(over, state.low, state.high))
        return x, over.mul_(length)

    def _average(self, state: _State, x: Tensor, y: Tensor) -> None:
        """Halpern's average of the start of the run and the reflected step."""
        state.since += 1.0
        state.total += 1.0
        share = state.since / (state.since + 1.0)
        state.x = torch.lerp(state.x_start, torch.lerp(state.x, x, 2.0), share)
        state.y = torch.lerp(state.y_start, torch.lerp(state.y, y, 2.0), share)

    def _errors(self, state: _State, x: Tensor, y: Tensor) -> Tensor:
        """How far a step moves in the norm in which steps are contractions, shape (programs,)."""
        along_x, along_y = x - state.x, y - state.y
        crossed = (along_y * self._product(self._forward, along_x)).sum(0)
        squared = along_x.square().sum(0) * state.weight / STEP + along_y.square().sum(0) / (STEP * state.weight) - 2.0 * crossed
        return squared.clamp_(min=0.0).sqrt_()

    def _first_errors(self, state: _State, x: Tensor, y: Tensor) -> None:
        fresh = torch.isinf(state.error_start)
        if bool(fresh.any()):
            state.error_start = torch.where(fresh, self._errors(state, x, y), state.error_start)

    def _restart(self, state: _State, x: Tensor, y: Tensor) -> None:
        """Begin anew from the last step where the error has fallen enough, and weigh the two sides by how far each has come."""
        error = self._errors(state, x, y)
        fallen = (error <= SUFFICIENT * state.error_start) | ((error <= NECESSARY * state.error_start) & (error > state.error_last))
        again = fallen | (state.since >= ARTIFICIAL * state.total)
        state.error_last = error
        way_x, way_y = (x - state.x_start).norm(dim=0), (y - state.y_start).norm(dim=0)
        off = torch.log(way_y) - torch.log(way_x) - torch.log(state.weight)
        told = again & torch.isfinite(off)
        state.error_sum = torch.where(told, WEIGHT_MEMORY * state.error_sum + off, state.error_sum)
        change = torch.exp(self._starting.gain * off + WEIGHT_SUM * state.error_sum)
        self._average(state, x, y)
        state.weight = torch.where(told, state.weight * change, state.weight)
        state.x, state.y = torch.where(again, x, state.x), torch.where(again, y, state.y)
        state.x_start, state.y_start = torch.where(again, x, state.x_start), torch.where(again, y, state.y_start)
        state.since = torch.where(again, 0.0, state.since)
        state.error_start = torch.where(again, torch.inf, state.error_start)
        state.error_last = torch.where(again, torch.inf, state.error_last)

    # ------------------------------------------------------------ what is good enough

    def _check(self, state: _State, x: Tensor, y: Tensor, judge: Judge, *, last: bool) -> Tensor | None:
        """Show the judge what looks good enough, and whatever has had its time."""
        good = self._looks_good(state, x, y)
        spent = (state.total >= self._patience()) | self._looks_hopeless(state, x, y) | last
        shown = torch.nonzero(good | spent).reshape(-1).tolist()
        if not shown:
            return None
        gone, harder = spent.clone(), []
        values = (x[:, shown] / state.side_unit[shown]).cpu().numpy() * self._shape.column_scale[:, None]
        duals = (y[:, shown] / state.cost_unit[shown]).cpu().numpy() * self._shape.row_scale[:, None]
        for number, column in enumerate(shown):
            done = judge(int(state.places[column]), values[:, number], duals[:, number], int(state.total[column]))
            if done:
                gone[column] = True
                self._taken.append(float(state.total[column]))
            else:
                harder.append(column)
        state.strictness[harder] *= HARDER
        return torch.nonzero(~gone).reshape(-1) if bool(gone.any()) else None

    def _looks_hopeless(self, state: _State, x: Tensor, y: Tensor) -> Tensor:
        """Where duals or values have become a ray that (nearly) proves that there is no feasible or no best point; shape (programs,).

        A wrong guess costs a solve by HiGHS and nothing else.
        """
        long_x, long_y = x.norm(dim=0), y.norm(dim=0)
        ray = y / long_y.clamp(min=1.0)
        pull = -self._product(self._backward, ray)
        side = torch.where(pull > 0.0, state.column_lower, state.column_upper)
        endless = torch.isinf(side)
        gain = torch.where(endless, 0.0, pull * torch.where(endless, 0.0, side)).sum(0) + _priced(state, ray)
        no_point = (torch.where(endless, pull, 0.0).abs().amax(0) <= STRAIGHT) & (gain > STRAIGHT)
        way = x / long_x.clamp(min=1.0)
        across = self._product(self._forward, way)
        leaves = torch.maximum(_beyond(across, -state.high, -state.low), _beyond(way, state.column_lower, state.column_upper))
        no_best = (leaves <= STRAIGHT) & ((state.cost * way).sum(0) < -STRAIGHT)
        hopeless: Tensor = (state.total >= LEAST_HOPE) & ((no_point & (long_y > FAR)) | (no_best & (long_x > FAR)))
        return hopeless

    def _patience(self) -> float:
        """How many iterations a program may take: not much more than the others did."""
        if not self._hurried or len(self._taken) < ENOUGH_TAKEN:
            return self._most
        return min(self._most, max(LEAST_PATIENCE, PATIENCE * float(np.median(self._taken))))

    def _looks_good(self, state: _State, x: Tensor, y: Tensor) -> Tensor:
        """Where rows hold, costs are paid for and the two objectives meet, nearly; shape (programs,)."""
        activity = self._product(self._forward, x)
        broken = torch.maximum(activity + state.low, -state.high - activity).clamp_(min=0.0)
        violation = (broken * state.row_unit).amax(0)
        reduced = state.cost - self._product(self._backward, y)
        side = torch.where(reduced > 0.0, state.column_lower, state.column_upper)
        endless = torch.isinf(side)
        unpaid = torch.where(endless, reduced, 0.0).norm(dim=0)
        paid = torch.where(endless, 0.0, reduced * torch.where(endless, 0.0, side)).sum(0)
        paid += _priced(state, y)
        scale = 1.0 / (state.side_unit * state.cost_unit)
        objective = (state.cost * x).sum(0) * scale + state.offset
        apart = (objective - paid * scale - state.offset).abs()
        size = objective.abs()
        near = torch.maximum(self._tolerance * size, CLOSED * size.clamp(min=1.0))
        close = state.strictness * self._tolerance
        small: Tensor = (violation <= close) & (unpaid <= close) & (apart <= 2.0 * state.strictness * near)
        return small


def _priced(state: _State, y: Tensor) -> Tensor:
    """What duals make of the sides of rows that they push against, shape (programs,)."""
    price = torch.where(y > 0.0, -state.high, -state.low)
    return torch.where(y == 0.0, 0.0, y * torch.where(torch.isinf(price), 0.0, price)).sum(0)


def _beyond(direction: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """How far a direction leads out of what has a finite side there, at most, shape (programs,)."""
    falls = torch.where(torch.isinf(lower), 0.0, -direction)
    rises = torch.where(torch.isinf(upper), 0.0, direction)
    return torch.maximum(falls, rises).amax(0)


class _Pattern:
    """Where entries lie, for a matrix by rows (CSR) with a block for each program: row r of program b is row ``r * programs + b``."""

    def __init__(self, rows: Tensor, columns: Tensor, row_count: int, column_count: int) -> None:
        self._order = torch.argsort(rows * column_count + columns)
        self._rows, self._columns = rows[self._order], columns[self._order]
        self._lengths = torch.bincount(rows, minlength=row_count)
        self._starts = torch.cumsum(self._lengths, 0) - self._lengths
        self._within = torch.arange(len(rows), device=rows.device) - self._starts[self._rows]
        self._shape = row_count, column_count

    def matrix(self, values: Tensor) -> Tensor:
        """The matrix of these values, (entries, programs)."""
        entries, programs = values.shape
        along = torch.arange(programs, device=values.device)
        rows = self._rows
        at = (self._starts[rows] * programs + self._within)[:, None] + self._lengths[rows][:, None] * along
        starts = (self._starts * programs)[:, None] + self._lengths[:, None] * along
        shape = self._shape[0] * programs, self._shape[1] * programs
        places = torch.int32 if max(*shape, entries * programs) < SHORT else torch.int64  # what libraries take without a copy
        columns = torch.empty(entries * programs, dtype=places, device=values.device)
        columns[at] = (self._columns[:, None] * programs + along).to(places)
        sorted_ = torch.empty(entries * programs, dtype=values.dtype, device=values.device)
        sorted_[at] = values[self._order]
        starts = torch.cat((starts.reshape(-1), torch.tensor([entries * programs], device=values.device))).to(places)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # torch calls its sparse matrices a beta
            return torch.sparse_csr_tensor(starts, columns, sorted_, size=shape, check_invariants=False)


def _slots(shape: Shape, device: str) -> int:
    """How many programs are worked on side by side."""
    each = shape.rows + shape.columns
    if device == "cpu":
        return max(1, CPU_NUMBERS // each)
    return max(1, GPU_NUMBERS // (each if shape.common else each + len(shape.entry_rows)))


def available(wanted: str | None) -> str | None:
    """The device to work on: the one that is wanted, or a GPU where there is one; None where the wanted one is not there."""
    gpu = torch.cuda.is_available()
    if wanted == "cuda" and not gpu:
        return None
    return wanted or ("cuda" if gpu else "cpu")


@contextlib.contextmanager
def threads(count: int) -> Iterator[None]:
    """Hold torch at so many threads of the CPU; sums, and so answers, may depend on it."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
