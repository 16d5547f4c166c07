"""Whole nodes packed to a pattern: the relaxation turned into a plan, stock by stock, without losing what it promised.

A *pattern* is what one node of a stock holds: workers of each shape and the cuts of its shared GPUs. Patterns are found by
a small integer program that values workers at the relaxation's own prices (the column of Dantzig and Wolfe,
Operations Research 8, 1960), so a pattern worth as much as its node costs nothing; it is then given to as many nodes as the
relaxation has workers for. The relaxation of the rest is solved again and the search dives on.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from models.contract import RowEdits
from models.placement.ledger import SLACK
from models.program_builder import ProgramBuilder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.placement.demand import Shape
    from models.placement.ledger import Ledger, Seat
    from models.placement.relaxation import Relaxation
    from models.program import Floats, Ints, LinearProgram

USED = 1e-6  # a column of the relaxation counts as used above this
LOSS = 0.0025  # patterns that lose up to this share of their node's price are all taken in one round
FREE = ("node_cpu", "node_memory", "node_gpus", "gpu_memory")  # rules about what is free on a node, one row a stock
PRICELESS = 1e-4  # of the dearest worker: prices below this are rounding
LEANING = 1e-2  # of the highest price, per node filled: tips the scale, among patterns of equal worth, to the one that fills more


@dataclass(frozen=True, slots=True)
class _Pattern:
    """What one node of a stock holds: (shape, workers) pairs and (slot, slice) pairs, one for each cut GPU."""

    workers: tuple[tuple[int, int], ...]
    cuts: tuple[tuple[int, tuple[int, ...]], ...]


class Packing:
    """Packs the nodes of a relaxation; implements ``models.contract.Dive``. ``book`` seats the jobs when the dive is over."""

    def __init__(self, relaxation: Relaxation, program: LinearProgram) -> None:
        self.relaxation = relaxation
        self._program = program
        self.left = [list(stock.nodes) for stock in relaxation.stocks]
        self.packed: list[tuple[int, _Pattern]] = []  # node and its pattern
        self._asked: list[tuple[int, Ints, list[int]]] = []
        self._values: Floats = np.zeros(0)
        self._duals: Floats = np.zeros(0)
        self._seats_of: dict[int, Ints] = {k: np.flatnonzero(relaxation.seat_stock == k) for k in range(len(relaxation.stocks))}
        self._cuts_of: defaultdict[int, list[int]] = defaultdict(list)
        for k, (slot, _) in enumerate(relaxation.cuts):
            self._cuts_of[relaxation.slots[slot].stock].append(k)
        # The cuts are the master's last block, so priced ones follow it in order; the last ones priced may not have entered.
        self._cut_column = relaxation.cut_columns.start + np.arange(len(relaxation.cuts))
        self._entered = program.columns
        self._dearest = max((relaxation.worth(relaxation.goal, w, o) for w, o in relaxation.runs), default=0.0)
        self._supply = np.zeros(len(relaxation.shapes))
        self._demand = np.zeros(len(relaxation.shapes))  # workers that all wishes together want of each shape
        for wish in relaxation.wishes:
            for shape, _ in wish.options:
                self._demand[shape] += len(wish.jobs) * wish.workers

    # ------------------------------------------------------------ the dive

    def programs(self, values: Floats, row_duals: Floats) -> list[LinearProgram]:
        """One pattern program for each stock that still has nodes, at the relaxation's values and prices."""
        self._values, self._duals = values, row_duals
        self._asked, programs = [], []
        if self.relaxation.coarse:
            return []  # merged nodes are no nodes to pack
        for stock, nodes in enumerate(self.left):
            if not nodes:
                continue
            seats = self._seats_of[stock]
            seats = seats[values[self.relaxation.seat_columns][seats] > USED]
            if len(seats):
                cuts = [k for k in self._cuts_of[stock] if self._cut_column[k] < self._entered and values[self._cut_column[k]] > USED]
                self._asked.append((stock, seats, cuts))
                programs.append(self._pattern_program(stock, seats, cuts))
        return programs

    def _pattern_program(self, number: int, seats: Ints, cuts: list[int]) -> LinearProgram:
        relaxation = self.relaxation
        stock = relaxation.stocks[number]
        shapes = [relaxation.shapes[shape] for shape in relaxation.seat_shape[seats].tolist()]
        worth = self._duals[relaxation.program_rows("shape")][relaxation.seat_shape[seats]]
        gpus = np.array([shape.gpus for shape in shapes])
        amounts = self._values[relaxation.seat_columns][seats]
        builder = ProgramBuilder(maximise=True)
        wanted = (self._demand - self._supply)[relaxation.seat_shape[seats]]
        upper = np.minimum(np.minimum(relaxation.seat_most[seats], np.ceil(amounts - USED)), np.maximum(wanted, 0.0))
        worth = np.maximum(worth, 0.0)
        # Size on both scales: a pattern that fills GPUs and leaves cores idle is as poor as the other way round. Once there
        # is room for everybody the prices are all 0, and size alone decides.
        cores = np.array([shape.cpu_cores for shape in shapes])
        size = gpus / max(stock.whole + sum(stock.slots), 1.0) + cores / max(stock.cpu_cores, 1.0)
        cost = worth + LEANING * worth.max() * size if worth.max() > PRICELESS * self._dearest else size
        cost = cost / cost.max() if cost.max() > 0 else np.ones(len(cost))
        place = builder.add_columns("place", [(int(s),) for s in seats], cost=cost, upper=upper, integer=True)
        per_node = [self._slots_per_node(relaxation.cuts[k][0]) for k in cuts]
        cut = builder.add_columns("cut", [(k,) for k in cuts], upper=per_node, integer=True)
        columns = np.arange(place.start, place.stop)
        cut_columns = np.arange(cut.start, cut.stop)
        whole_cut = np.array([relaxation.slots[relaxation.cuts[k][0]].whole for k in cuts], dtype=np.float64)
        for name, need, free, more in (
            ("node_cpu", [shape.cpu_cores for shape in shapes], stock.cpu_cores, None),
            ("node_memory", [shape.memory_gib for shape in shapes], stock.memory_gib, None),
            ("gpu_memory", [shape.gpu_memory_gib * shape.gpus_used for shape in shapes], stock.gpu_memory_gib, None),
            ("node_gpus", [shape.whole for shape in shapes], float(stock.whole), whole_cut),
        ):
            index = columns if more is None else np.concatenate((columns, cut_columns))
            value = np.array(need, dtype=np.float64) if more is None else np.concatenate((need, more))
            scale = max(free, 1.0)  # rows near 1: HiGHS's tolerance is absolute
            builder.add_rows(name, [()], upper=free / scale, row_index=0, column_index=index, coefficient=value / scale)
        self._add_cut_rows(builder, shapes, columns, cuts, cut_columns)
        return builder.build()

    def _slots_per_node(self, slot: int) -> float:
        relaxation = self.relaxation
        return relaxation.slots[slot].count / len(relaxation.stocks[relaxation.slots[slot].stock].nodes)

    def _add_cut_rows(self, builder: ProgramBuilder, shapes: Sequence[Shape], columns: Ints, cuts: list[int], cut_columns: Ints) -> None:
        relaxation = self.relaxation
        sized = [(shape.share, int(column)) for shape, column in zip(shapes, columns, strict=True) if shape.share]
        entries = [(relaxation.size_of[share], column, 1.0) for share, column in sized]
        slots = sorted({relaxation.cuts[k][0] for k in cuts})
        slot_entries = []
        for k, column in zip(cuts, cut_columns.tolist(), strict=True):
            slot, cut = relaxation.cuts[k]
            entries.extend((int(size), column, -float(cut[size])) for size in np.flatnonzero(cut))
            slot_entries.append((slots.index(slot), column))
        rows, places, amounts = np.array(entries, dtype=np.float64).reshape(-1, 3).T
        ids = [(size,) for size in range(len(relaxation.sizes))]
        builder.add_rows("gpu_share", ids, upper=0.0, row_index=rows, column_index=places.astype(np.int64), coefficient=amounts)
        slot_rows, slot_columns = np.array(slot_entries, dtype=np.int64).reshape(-1, 2).T
        upper = np.array([self._slots_per_node(slot) for slot in slots])
        builder.add_rows("slot", [(slot,) for slot in slots], upper=upper, row_index=slot_rows, column_index=slot_columns)

    def take(self, answers: Sequence[Floats | None]) -> RowEdits | None:
        """Give nodes to the patterns that lose least; the rows to change in the relaxation, or None when nothing is left to pack."""
        found = []
        for (stock, seats, cuts), values in zip(self._asked, answers, strict=True):
            if values is not None:
                pattern = self._pattern(seats, cuts, values)
                if pattern.workers:
                    found.append((self._loss(stock, pattern), stock, pattern))
        if not found:
            return None
        found.sort(key=lambda one: (one[0], one[1]))
        least = found[0][0]
        for loss, stock, pattern in found:
            if loss <= max(1.5 * least, LOSS):
                self._give(stock, pattern)
        return self._edits()

    def _pattern(self, seats: Ints, cuts: list[int], values: Floats) -> _Pattern:
        relaxation = self.relaxation
        counts = np.round(values).astype(np.int64)
        workers = [(int(relaxation.seat_shape[s]), int(count)) for s, count in zip(seats, counts, strict=False) if count]
        made = []
        for k, count in zip(cuts, counts[len(seats) :], strict=True):
            slot, cut = relaxation.cuts[k]
            made.extend([(slot, tuple(int(n) for n in cut))] * int(count))
        return _Pattern(tuple(workers), tuple(made))

    def _loss(self, number: int, pattern: _Pattern) -> float:
        """How much of the node's price the pattern does not earn, as a share of the price."""
        relaxation, duals = self.relaxation, self._duals
        stock = relaxation.stocks[number]
        free = zip(FREE, (stock.cpu_cores, stock.memory_gib, float(stock.whole), stock.gpu_memory_gib), strict=True)
        price = sum(float(duals[relaxation.program_rows(name)][number]) * amount for name, amount in free)
        worth = duals[relaxation.program_rows("shape")]
        earned = sum(float(worth[shape]) * count for shape, count in pattern.workers)
        return max(0.0, price - earned) / max(price, 1e-9)

    def _give(self, stock: int, pattern: _Pattern) -> None:
        """Pack as many nodes as the relaxation has workers for; half of them when many, so that prices keep up."""
        relaxation = self.relaxation
        amounts = np.zeros(len(relaxation.shapes))
        seats = self._seats_of[stock]
        amounts[relaxation.seat_shape[seats]] = self._values[relaxation.seat_columns][seats]
        most = min(int((amounts[shape] + USED) // count) for shape, count in pattern.workers)
        wanted = min(int((self._demand[shape] - self._supply[shape] + USED) // count) for shape, count in pattern.workers)
        times = min(max(1, most // 2 if most > 3 else most), len(self.left[stock]), wanted)  # noqa: PLR2004
        for _ in range(times):
            self.packed.append((self.left[stock].pop(), pattern))
        for shape, count in pattern.workers:
            self._supply[shape] += count * times

    def _edits(self) -> RowEdits:
        relaxation = self.relaxation
        left = np.array([float(len(nodes)) for nodes in self.left])
        rows, upper = [], []
        for name, free in (
            ("node_cpu", [stock.cpu_cores for stock in relaxation.stocks]),
            ("node_memory", [stock.memory_gib for stock in relaxation.stocks]),
            ("node_gpus", [float(stock.whole) for stock in relaxation.stocks]),
            ("gpu_memory", [stock.gpu_memory_gib for stock in relaxation.stocks]),
        ):
            rows.append(np.arange(len(left)) + relaxation.program_rows(name).start)
            upper.append(np.array(free) * left)
        slots = relaxation.program_rows("slot")
        rows.append(np.arange(slots.start, slots.stop))
        upper.append(np.array([self._slots_per_node(k) * left[slot.stock] for k, slot in enumerate(relaxation.slots)]))
        splits = relaxation.program_rows("split")
        rows.append(np.arange(splits.start, splits.stop))
        upper.append(np.array([left[stock] for stock in relaxation.split_stocks]))
        shapes = relaxation.program_rows("shape")
        rows.append(np.arange(shapes.start, shapes.stop))
        upper.append(self._supply)
        at = np.concatenate(rows).astype(np.int64)
        return RowEdits(at, np.full(len(at), -np.inf), np.concatenate(upper))

    # ------------------------------------------------------------ from patterns to jobs

    def book(self, ledger: Ledger) -> None:
        """Seat jobs on the packed nodes: as many of each wish as the relaxation ran, then whatever else uses the seats."""
        seats = self._seats(ledger)
        runs = self._values[self.relaxation.run_columns] if len(self._values) else np.zeros(len(self.relaxation.runs))
        waiting = {w: list(wish.jobs) for w, wish in enumerate(self.relaxation.wishes)}
        for guided in (True, False):
            for k in self._run_order():
                w, option = self.relaxation.runs[k]
                wish = self.relaxation.wishes[w]
                pool = seats[wish.options[option][0]]
                jobs = len(waiting[w]) if not guided else min(int((runs[k] + USED) // wish.workers), len(waiting[w]))
                for _ in range(min(jobs, len(pool) // wish.workers)):
                    if ledger.most_workers(waiting[w][-1]) < wish.workers:
                        break
                    ledger.book(waiting[w].pop(), [pool.pop() for _ in range(wish.workers)])

    def _run_order(self) -> list[int]:
        """Runs by worth per worker, the best first; larger gangs first among equals."""
        relaxation = self.relaxation
        worth = [relaxation.worth(relaxation.goal, w, o) for w, o in relaxation.runs]
        return sorted(range(len(worth)), key=lambda k: (-worth[k], -relaxation.wishes[relaxation.runs[k][0]].workers))

    def _seats(self, ledger: Ledger) -> defaultdict[int, list[Seat]]:
        """Every seat of the packed nodes by shape, with its GPU indices; neighbouring nodes lie together."""
        pools: defaultdict[int, list[Seat]] = defaultdict(list)
        power = ledger.power_left
        for node, pattern in sorted(self.packed, key=lambda one: one[0]):
            if ledger.workers[node] == 0:
                if ledger.power[node] > power:
                    continue
                power -= ledger.power[node]
            for shape, seat in self._seats_on(ledger, node, pattern):
                pools[shape].append(seat)
        for pool in pools.values():
            pool.reverse()
        return pools

    def _seats_on(self, ledger: Ledger, node: int, pattern: _Pattern) -> list[tuple[int, Seat]]:
        relaxation = self.relaxation
        free = [int(gpu) for gpu in np.flatnonzero(ledger.share[node] >= 1.0 - SLACK)]
        cut_before = np.flatnonzero((ledger.share[node] > SLACK) & (ledger.share[node] < 1.0 - SLACK))
        partly = {int(gpu): relaxation.cutting.parts(round(float(ledger.share[node, gpu]), 6)) for gpu in cut_before}
        room: defaultdict[int, list[int]] = defaultdict(list)  # GPU indices by size of share
        for slot, cut in pattern.cuts:
            kind = relaxation.slots[slot]
            if kind.whole:
                gpu = free.pop()
            else:
                gpu = next(gpu for gpu, parts in partly.items() if parts == kind.capacity)
                del partly[gpu]
            for size, count in enumerate(cut):
                room[size].extend([gpu] * count)
        seats: list[tuple[int, Seat]] = []
        memory = {gpu: float(ledger.gpu_memory[node, gpu]) for gpu in range(ledger.share.shape[1])}
        share = {gpu: float(ledger.share[node, gpu]) for gpu in range(ledger.share.shape[1])}
        for number, count in pattern.workers:
            shape = relaxation.shapes[number]
            for _ in range(count):
                pool = room[relaxation.size_of[shape.share]] if shape.share else free
                gpus = _take(shape, pool, share, memory)
                if gpus is not None:
                    seats.append((number, (node, gpus)))
        return seats


def _take(shape: Shape, gpus: list[int], shares: dict[int, float], memory: dict[int, float]) -> tuple[int, ...] | None:
    """GPUs for one worker out of ``gpus``; None when memory, or a share rounded down on a coarse grid, does not fit after all."""
    if shape.whole:
        fits = [gpu for gpu in gpus if memory[gpu] + SLACK >= shape.gpu_memory_gib][: shape.whole]
        if len(fits) < shape.whole:
            return None
        for gpu in fits:
            gpus.remove(gpu)
        return tuple(fits)
    if not shape.share:
        return ()
    for gpu in gpus:
        if memory[gpu] + SLACK >= shape.gpu_memory_gib and shares[gpu] + SLACK >= shape.share:
            gpus.remove(gpu)
            memory[gpu] -= shape.gpu_memory_gib
            shares[gpu] -= shape.share
            return (gpu,)
    return None
