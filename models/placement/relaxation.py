"""The linear relaxation of a large placement problem: workers of each shape on each stock of alike nodes.

It keeps CPU, memory, whole GPUs, the cutting of GPUs into shares, the ways whole GPUs of one node are split up, quotas and
how many jobs there are; it forgets which node of a stock, gangs' all-or-none, colocation, spread, anti-affinity and power.
Forgetting rules can only make the optimum better, so its dual bound holds for the full problem.

Columns: ``run[wish, option]`` workers that wishes get, ``seat[shape, stock]`` workers seated, ``cut[stock, slot, slice]`` GPUs cut
in a way, ``split[stock, pattern]`` nodes whose whole GPUs are split in a way. Slices enter one by one: ``price``.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from models.contract import NewColumns
from models.placement.cutting import Cutting
from models.placement.demand import Shape, Stock, Wish, merged, stocks, wishes
from models.placement.schema import GoalName
from models.placement.slices import maximal_slices
from models.program_builder import ProgramBuilder

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from models.placement.ledger import Ledger
    from models.placement.schema import Job
    from models.program import Bools, Floats, Ints, LinearProgram

MOST_SEATS = 30_000  # shapes times stocks: beyond this the stocks of each kind of node are merged into one
MOST_PRICED = 8  # slices of one slot that enter at once: fewer rounds, and so many of them are of no use later
MANY_PRICED = 1_000  # slices of all slots that enter at once, but for the best of each
COUNTED = (GoalName.placed_value, GoalName.allocated_gpus)  # the goals that a sum over workers tells


_Groups = tuple[list[Wish], list[Shape], list[Stock], Cutting]


class Relaxation:
    """The relaxation of what is still free in ``ledger`` for ``jobs``, aiming at ``goal``.

    ``floors`` holds earlier goals at what they attained. ``known`` is a relaxation of the same ``ledger`` and jobs whose groups and
    slices this one starts with (with floors it must: with too few slices they could not be met). ``granted`` jobs count in full.
    Implements ``models.contract.ColumnSource``.
    """

    def __init__(
        self,
        ledger: Ledger,
        jobs: Iterable[int],
        goal: GoalName,
        *,
        floors: Mapping[GoalName, float] | None = None,
        known: Relaxation | None = None,
        granted: Iterable[int] = (),
    ) -> None:
        self.ledger = ledger
        self.goal = goal
        self.floors = dict(floors or {})
        self.jobs, self.granted = tuple(jobs), frozenset(granted)
        self._groups: _Groups = _grouped(ledger, self.jobs) if known is None else known._groups  # noqa: SLF001  (another of this class)
        self.wishes, self.shapes, self.stocks, self.cutting = self._groups
        self.coarse = any(stock.members for stock in self.stocks)
        free = {counted: sum(worth_of(ledger.problem.jobs[place], counted) for place in self.granted) for counted in COUNTED}
        self.base = {counted: _already(ledger, counted) + free[counted] for counted in COUNTED}
        self.slots, self.sizes, self.size_of = self.cutting.slots, self.cutting.sizes, self.cutting.size_of
        self.runs: list[tuple[int, int]] = [(w, o) for w, wish in enumerate(self.wishes) for o in range(len(wish.options))]
        self._place_seats()
        self._known = known
        self.cuts: list[tuple[int, Ints]] = []  # slot number and slice of every cut column, in their order
        self._missing: list[Bools] = []  # which slices of each slot have no column yet

    # ------------------------------------------------------------ preparation

    def _place_seats(self) -> None:
        most = np.array([[stock.most(shape) for stock in self.stocks] for shape in self.shapes]).reshape(len(self.shapes), len(self.stocks))
        self.seat_shape, self.seat_stock = np.nonzero(most >= 1)
        self.seat_most = most[self.seat_shape, self.seat_stock]

    # ------------------------------------------------------------ the master program

    def master(self) -> LinearProgram:
        """The restricted master: every column but most of the slices; a few slices a slot to begin with."""
        builder = ProgramBuilder(maximise=True, offset=self.base.get(self.goal, 0.0))
        self._add_columns(builder)
        self._add_demand_rows(builder)
        self._add_stock_rows(builder)
        self._add_floor_rows(builder)
        program = builder.build()
        self._rows = {block.name: block.rows for block in program.row_blocks}
        return program

    def program_rows(self, name: str) -> slice:
        """Where the rows of one rule lie in the master; KeyError for a name that it does not have."""
        return self._rows[name]

    def _worths(self, goal: GoalName) -> Floats:
        return np.array([self.worth(goal, *run) for run in self.runs])

    def worth(self, goal: GoalName, wish: int, option: int) -> float:
        """What one worker of a wish's option adds to a counted goal."""
        shape, speed = self.wishes[wish].options[option]
        return self.wishes[wish].worth(goal, self.shapes[shape].gpus, speed)

    def _add_columns(self, builder: ProgramBuilder) -> None:
        upper = np.array([float(len(self.wishes[w].jobs) * self.wishes[w].workers) for w, _ in self.runs])
        self.run_columns = builder.add_columns("run", self.runs, cost=self._worths(self.goal), upper=upper)
        nodes = np.array([stock.count for stock in self.stocks])
        seats = nodes[self.seat_stock] * self.seat_most
        ids = list(zip(self.seat_shape.tolist(), self.seat_stock.tolist(), strict=True))
        self.seat_columns = builder.add_columns("seat", ids, upper=seats)
        self._splits = [(s, pattern) for s, stock in enumerate(self.stocks) for pattern in self._split_patterns(s, stock)]
        counts = np.array([float(self.stocks[s].count) for s, _ in self._splits])
        self.split_columns = builder.add_columns("split", [(k,) for k in range(len(self._splits))], upper=counts)
        self.cuts, self._missing = self._first_cuts()
        upper = np.array([float(self.slots[slot].count) for slot, _ in self.cuts])
        self.cut_columns = builder.add_columns("cut", [(k,) for k in range(len(self.cuts))], upper=upper)

    def _first_cuts(self) -> tuple[list[tuple[int, Ints]], list[Bools]]:
        """For each slot and size one slice, as much of that size as fits; or those of the known relaxation. And what is missing then."""
        if self._known is not None:
            return list(self._known.cuts), [missing.copy() for missing in self._known._missing]  # noqa: SLF001  (another of this class)
        cuts: list[tuple[int, Ints]] = []
        all_missing: list[Bools] = []
        for number, slot in enumerate(self.slots):
            slices = self.cutting.slices(slot.capacity)
            missing = np.ones(len(slices), dtype=np.bool_)
            if len(slices):
                missing[np.argmax(slices, axis=0)[slices.max(axis=0) > 0]] = False
            cuts.extend((number, slices[k]) for k in np.flatnonzero(~missing))
            all_missing.append(missing)
        return cuts, all_missing

    def _add_demand_rows(self, builder: ProgramBuilder) -> None:
        shape_of_run = np.array([self.wishes[w].options[o][0] for w, o in self.runs], dtype=np.int64)
        runs = np.arange(self.run_columns.start, self.run_columns.stop)
        seats = np.arange(self.seat_columns.start, self.seat_columns.stop)
        builder.add_rows(
            "shape",
            [(s,) for s in range(len(self.shapes))],
            upper=0.0,
            row_index=np.concatenate((shape_of_run, self.seat_shape)),
            column_index=np.concatenate((runs, seats)),
            coefficient=np.concatenate((np.ones(len(runs)), -np.ones(len(seats)))),
        )
        several = [w for w, wish in enumerate(self.wishes) if len(wish.options) > 1]
        row_of = {w: row for row, w in enumerate(several)}
        entries = [(row_of[w], k) for k, (w, _) in enumerate(self.runs) if w in row_of]
        rows, columns = np.array(entries, dtype=np.int64).reshape(-1, 2).T
        upper = np.array([float(len(self.wishes[w].jobs) * self.wishes[w].workers) for w in several])
        builder.add_rows("wish", [(w,) for w in several], upper=upper, row_index=rows, column_index=columns + self.run_columns.start)
        self._add_quota_rows(builder)

    def _add_quota_rows(self, builder: ProgramBuilder) -> None:
        tenants = list(self.ledger.quota)
        row_of = {tenant: row for row, tenant in enumerate(tenants)}
        entries = [
            (row_of[self.wishes[w].tenant], k, self.shapes[self.wishes[w].options[o][0]].gpus)
            for k, (w, o) in enumerate(self.runs)
            if self.wishes[w].tenant in row_of
        ]
        rows, columns, sizes = np.array(entries, dtype=np.float64).reshape(-1, 3).T
        left = np.array([max(self.ledger.quota[tenant], 0.0) for tenant in tenants])
        builder.add_rows(
            "tenant_quota",
            [(tenant,) for tenant in tenants],
            upper=left,
            row_index=rows,
            column_index=columns.astype(np.int64) + self.run_columns.start,
            coefficient=sizes,
        )

    def _add_stock_rows(self, builder: ProgramBuilder) -> None:
        count = np.array([float(stock.count) for stock in self.stocks])
        seats = np.arange(self.seat_columns.start, self.seat_columns.stop)
        ids = [(s,) for s in range(len(self.stocks))]
        for name, need, free in (
            ("node_cpu", [shape.cpu_cores for shape in self.shapes], [stock.cpu_cores for stock in self.stocks]),
            ("node_memory", [shape.memory_gib for shape in self.shapes], [stock.memory_gib for stock in self.stocks]),
        ):
            per_seat = np.array(need)[self.seat_shape] if len(seats) else np.zeros(0)
            builder.add_rows(name, ids, upper=np.array(free) * count, row_index=self.seat_stock, column_index=seats, coefficient=per_seat)
        self._add_gpu_rows(builder, ids, seats, count)
        self._add_split_rows(builder)
        self._add_cut_rows(builder)

    def _add_gpu_rows(self, builder: ProgramBuilder, ids: list[tuple[int]], seats: Ints, count: Floats) -> None:
        whole = np.array([float(shape.whole) for shape in self.shapes])
        of_whole = [(k, self.slots[slot].stock) for k, (slot, _) in enumerate(self.cuts) if self.slots[slot].whole]
        cut_columns, cut_stocks = np.array(of_whole, dtype=np.int64).reshape(-1, 2).T
        self.gpu_rows = builder.add_rows(
            "node_gpus",
            ids,
            upper=np.array([float(stock.whole) for stock in self.stocks]) * count,
            row_index=np.concatenate((self.seat_stock, cut_stocks)),
            column_index=np.concatenate((seats, cut_columns + self.cut_columns.start)),
            coefficient=np.concatenate((whole[self.seat_shape] if len(seats) else np.zeros(0), np.ones(len(cut_columns)))),
        )
        # GPU memory matters only where shares of one GPU compete for it: untouched GPUs were checked node by node.
        need = np.array([shape.gpu_memory_gib * shape.gpus_used for shape in self.shapes])
        per_seat = need[self.seat_shape] if len(seats) else np.zeros(0)
        free = np.array([stock.gpu_memory_gib for stock in self.stocks]) * count
        builder.add_rows("gpu_memory", ids, upper=free, row_index=self.seat_stock, column_index=seats, coefficient=per_seat)

    def _add_cut_rows(self, builder: ProgramBuilder) -> None:
        sizes, stocks_count = len(self.sizes), len(self.stocks)
        share_seats = [
            (stock * sizes + self.size_of[self.shapes[shape].share], self.seat_columns.start + k)
            for k, (shape, stock) in enumerate(zip(self.seat_shape.tolist(), self.seat_stock.tolist(), strict=True))
            if self.shapes[shape].share
        ]
        rows, columns = np.array(share_seats, dtype=np.int64).reshape(-1, 2).T
        entries = [
            (self.slots[slot].stock * sizes + size, self.cut_columns.start + k, -int(cut[size]))
            for k, (slot, cut) in enumerate(self.cuts)
            for size in np.flatnonzero(cut)
        ]
        more_rows, more_columns, amounts = np.array(entries, dtype=np.int64).reshape(-1, 3).T
        ids = [(stock, int(size)) for stock in range(stocks_count) for size in self.sizes]
        self.share_rows = builder.add_rows(
            "gpu_share",
            ids,
            upper=0.0,
            row_index=np.concatenate((rows, more_rows)),
            column_index=np.concatenate((columns, more_columns)),
            coefficient=np.concatenate((np.ones(len(rows)), amounts)),
        )
        slots = [(slot, self.cut_columns.start + k) for k, (slot, _) in enumerate(self.cuts)]
        rows, columns = np.array(slots, dtype=np.int64).reshape(-1, 2).T
        upper = np.array([float(slot.count) for slot in self.slots])
        self.slot_rows = builder.add_rows("slot", [(k,) for k in range(len(self.slots))], upper=upper, row_index=rows, column_index=columns)

    # ------------------------------------------------------------ whole GPUs of one node

    def _split_patterns(self, number: int, stock: Stock) -> list[dict[int, int]]:
        """The maximal ways to split a node's free whole GPUs into workers, where counting GPUs alone says too much.

        With sizes that divide one another and the node (1, 2, 4 of 8) the sum over nodes is exact and none are needed.
        """
        if stock.members:
            return []
        hosted = self.seat_shape[self.seat_stock == number]
        wholes = {self.shapes[shape].whole for shape in hosted.tolist()} - {0}
        if any(self.shapes[shape].share for shape in hosted.tolist()):
            wholes.add(1)  # a GPU opened for shares is taken like a worker of one GPU
        chain = [*sorted(wholes), stock.whole]
        if not wholes or all(large % small == 0 for small, large in pairwise(chain)):
            return []
        patterns = maximal_slices(np.array(sorted(wholes)), stock.whole)
        if patterns is None:
            return []  # too many ways: counting GPUs alone is weaker, not wrong
        return [dict(zip(sorted(wholes), pattern.tolist(), strict=True)) for pattern in patterns]

    def _add_split_rows(self, builder: ProgramBuilder) -> None:
        """``whole_size``: workers of a size on a stock are at most what the split patterns provide; ``split``: a node is split once."""
        split = self.split_stocks = sorted({s for s, _ in self._splits})
        sizes_of = dict(self._splits)  # every pattern of a stock names all its sizes
        keys = [(s, size) for s in split for size in sizes_of[s]]
        row_of = {key: row for row, key in enumerate(keys)}
        entries = []
        for k, (shape, stock) in enumerate(zip(self.seat_shape.tolist(), self.seat_stock.tolist(), strict=True)):
            if (stock, self.shapes[shape].whole) in row_of:
                entries.append((row_of[stock, self.shapes[shape].whole], self.seat_columns.start + k, 1))
        for k, (slot, _) in enumerate(self.cuts):
            if self.slots[slot].whole and (self.slots[slot].stock, 1) in row_of:
                entries.append((row_of[self.slots[slot].stock, 1], self.cut_columns.start + k, 1))
        for k, (stock, pattern) in enumerate(self._splits):
            entries.extend((row_of[stock, size], self.split_columns.start + k, -count) for size, count in pattern.items() if count)
        rows, columns, amounts = np.array(entries, dtype=np.int64).reshape(-1, 3).T
        self.size_rows = builder.add_rows("whole_size", keys, upper=0.0, row_index=rows, column_index=columns, coefficient=amounts)
        self.size_row_of = {key: self.size_rows.start + row for key, row in row_of.items()}
        place = {s: row for row, s in enumerate(split)}
        upper = np.array([float(self.stocks[s].count) for s in split])
        columns = np.arange(self.split_columns.start, self.split_columns.stop)
        rows = np.array([place[s] for s, _ in self._splits], dtype=np.int64)
        builder.add_rows("split", [(s,) for s in split], upper=upper, row_index=rows, column_index=columns)

    def _add_floor_rows(self, builder: ProgramBuilder) -> None:
        floors = {goal: floor for goal, floor in self.floors.items() if goal in COUNTED and goal is not self.goal}
        runs = np.arange(self.run_columns.start, self.run_columns.stop)
        worths = [self._worths(goal) for goal in floors]
        lower = np.array([floor - self.base[goal] - 1e-6 * max(1.0, abs(floor)) for goal, floor in floors.items()])
        builder.add_rows(
            "goal_floor",
            [(goal.value,) for goal in floors],
            lower=lower,
            row_index=np.repeat(np.arange(len(floors)), len(runs)),
            column_index=np.tile(runs, len(floors)),
            coefficient=np.concatenate(worths) if worths else np.zeros(0),
        )

    # ------------------------------------------------------------ pricing

    def price(self, row_duals: Floats) -> NewColumns:
        """The best missing slices of each slot at these duals, and by how much all missing slices together could raise the optimum."""
        excess, sizes = 0.0, len(self.sizes)
        added: list[tuple[int, Ints]] = []
        most = min(MOST_PRICED, max(1, MANY_PRICED // max(len(self.slots), 1)))
        for number, (slot, missing) in enumerate(zip(self.slots, self._missing, strict=True)):
            if not missing.any():
                continue
            slices = self.cutting.slices(slot.capacity)
            first = self.share_rows.start + slot.stock * sizes
            price = row_duals[self.slot_rows.start + number]
            if slot.whole:
                price += row_duals[self.gpu_rows.start + slot.stock]
                price += row_duals[self.size_row_of[slot.stock, 1]] if (slot.stock, 1) in self.size_row_of else 0.0
            gains = np.where(missing, slices @ row_duals[first : first + sizes] - price, -np.inf)
            excess += slot.count * max(float(gains.max()), 0.0)  # the columns of a slot sum to its count: no more than the best gains
            best = [k for k in np.argsort(-gains, kind="stable")[:most].tolist() if gains[k] > 0]
            missing[best] = False
            added.extend((number, slices[k]) for k in best)
        return self._columns_of(added, excess)

    def _columns_of(self, added: list[tuple[int, Ints]], excess: float) -> NewColumns:
        starts, upper = [0], []
        indices: list[int] = []
        values: list[float] = []
        for number, cut in added:
            slot = self.slots[number]
            first = self.share_rows.start + slot.stock * len(self.sizes)
            entries = [(first + int(size), -float(cut[size])) for size in np.flatnonzero(cut)]
            entries.append((self.slot_rows.start + number, 1.0))
            if slot.whole:
                entries.append((self.gpu_rows.start + slot.stock, 1.0))
                if (slot.stock, 1) in self.size_row_of:
                    entries.append((self.size_row_of[slot.stock, 1], 1.0))
            indices.extend(row for row, _ in entries)
            values.extend(value for _, value in entries)
            starts.append(len(indices))
            upper.append(float(slot.count))
        self.cuts.extend(added)
        count = len(added)
        return NewColumns(
            cost=np.zeros(count),
            lower=np.zeros(count),
            upper=np.array(upper),
            starts=np.array(starts, dtype=np.int64),
            indices=np.array(indices, dtype=np.int64),
            values=np.array(values),
            excess=excess,
        )


def _grouped(ledger: Ledger, jobs: Iterable[int]) -> _Groups:
    """What the relaxation tells apart; the stocks merged where there are too many."""
    wanted, shapes = wishes(ledger, jobs)
    found = stocks(ledger)
    if len(shapes) * len(found) > MOST_SEATS:
        found = merged(found)
    return wanted, shapes, found, Cutting(shapes, found)


def worth_of(job: Job, goal: GoalName) -> float:
    """The most that a job can add to a counted goal."""
    if goal is GoalName.allocated_gpus:
        return job.gpus_per_worker * job.workers
    return job.priority * job.value * max(job.model_speeds.values(), default=1.0)


def _already(ledger: Ledger, goal: GoalName) -> float:
    """What the booked jobs add to a counted goal."""
    total = 0.0
    for place, seats in ledger.seats.items():
        job = ledger.problem.jobs[place]
        if goal is GoalName.allocated_gpus:
            total += job.gpus_per_worker * len(seats)
        else:
            models = [ledger.problem.nodes[node].gpu_model or "" for node, _ in seats]
            speed = sum(job.model_speeds.get(model, 0.0) if job.model_speeds else 1.0 for model in models)
            total += job.priority * job.value * speed / job.workers
    return total
