"""What the exact program decides about, as arrays: which copies there may be, which reads each may serve, and what both take.

A **cell** is one possible copy: an object, a tier, plain or compressed. An object that can have one copy only is **single**: where its copy
is, all its reads go, so that they need no columns of their own and belong to the cell.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from models.tiering import access, money
from models.tiering.schema import GoalName
from models.tiering.store import store_of

if TYPE_CHECKING:
    from models.program import Bools, Floats, Ints
    from models.tiering.schema import Problem
    from models.tiering.store import Store

PLAIN, COMPRESSED = "plain", "compressed"


@dataclass(frozen=True, eq=False)
class Cells:
    """Possible copies by object, tier and form, arrays of shape (cells,); and servings, (servings,): which cell may serve which read.

    With ``open_all`` there are cells for what rules forbid, so that rows can forbid it; and no object is single.
    """

    store: Store
    open_all: bool

    @cached_property
    def single(self) -> Bools:
        """Which objects are single, shape (objects,)."""
        of = self.store.objects
        return np.zeros(of.count, dtype=np.bool_) if self.open_all else of.copies_max == 1

    @cached_property
    def _found(self) -> tuple[Ints, Ints, Bools]:
        store = self.store
        objects, tiers = np.arange(store.objects.count)[:, None], np.arange(store.tiers.count)
        may = np.zeros((store.objects.count, store.tiers.count, 2), dtype=np.bool_)
        for form in (False, True):
            may[:, :, int(form)] = (
                access.may_pack(store, objects, form) if self.open_all else access.admissible(store, objects, tiers, form)
            )
        reads = np.flatnonzero(self.single[store.reads.object])
        for form in (False, True):
            could = access.servable(store, reads[:, None], tiers, form)
            np.logical_and.at(may[:, :, int(form)], store.reads.object[reads], could)
        where = np.nonzero(may)
        return where[0], where[1], where[2] == 1

    @property
    def object(self) -> Ints:
        """The object of each cell."""
        return self._found[0]

    @property
    def tier(self) -> Ints:
        """The tier of each cell."""
        return self._found[1]

    @property
    def packed(self) -> Bools:
        """Whether each cell is a compressed copy."""
        return self._found[2]

    @cached_property
    def _pairs(self) -> tuple[Ints, Ints]:
        """All reads with all cells of their objects that can serve them: positions of reads and of cells."""
        store = self.store
        starts = np.concatenate(([0], np.cumsum(np.bincount(self.object, minlength=store.objects.count))))
        count = np.diff(starts)[store.reads.object]
        read = np.repeat(np.arange(store.reads.count), count)
        within = np.arange(len(read)) - np.repeat(np.cumsum(count) - count, count)
        cell = np.repeat(starts[store.reads.object], count) + within
        tier, packed = self.tier[cell], self.packed[cell]
        can = store.ways.reach[store.reads.way[read], tier] if self.open_all else access.servable(store, read, tier, packed)
        return read[can], cell[can]

    @cached_property
    def _apart(self) -> Bools:
        """Which of the pairs have a column of their own."""
        return ~self.single[self.store.reads.object[self._pairs[0]]]

    @property
    def read(self) -> Ints:
        """The read of each serving."""
        return self._pairs[0][self._apart]

    @property
    def server(self) -> Ints:
        """The cell of each serving."""
        return self._pairs[1][self._apart]

    def amounts(self, of_copy: Floats, of_read: Floats) -> tuple[Floats, Floats]:
        """Coefficients of cells and of servings: ``of_copy`` by cell, and ``of_read`` by pair, those of single objects put into cells."""
        cells = of_copy.astype(np.float64)
        np.add.at(cells, self._pairs[1][~self._apart], of_read[~self._apart])
        return cells, of_read[self._apart]

    @cached_property
    def gib(self) -> Floats:
        """GiB of each cell."""
        return money.stored_gib(self.store, self.object, self.packed)

    @cached_property
    def write_gbps(self) -> Floats:
        """Write load of each cell."""
        return money.write_load_gbps(self.store, self.object, self.packed)

    @cached_property
    def read_gbps(self) -> tuple[Floats, Floats]:
        """Read load of each cell and serving."""
        read, cell = self._pairs
        return self.amounts(np.zeros(len(self.object)), money.read_load_gbps(self.store, read, self.packed[cell]))

    def link_gbps(self, link: int) -> tuple[Floats, Floats]:
        """Load on one site link of each cell and serving."""
        store, (read, cell) = self.store, self._pairs
        over = store.ways.link[store.reads.way[read], self.tier[cell]] == link
        return self.amounts(np.zeros(len(self.object)), np.where(over, money.read_load_gbps(store, read, self.packed[cell]), 0.0))

    @cached_property
    def migration_usd(self) -> Floats:
        """Money of the migration of each cell."""
        return money.migration_usd(self.store, self.object, self.tier, self.packed, money.source_usd(self.store), self.leaving)

    @cached_property
    def moved_gib(self) -> Floats:
        """GiB moved by each cell."""
        return money.moved_gib(self.store, self.object, self.tier, self.packed)

    @cached_property
    def leaving(self) -> Floats:
        """What each current copy would pay for leaving, shape (currents,)."""
        return money.leaving_usd(self.store)

    def goal(self, goal: GoalName) -> tuple[Floats, Floats, float]:
        """A goal's coefficients of cells and servings, and its constant."""
        store, (read, cell) = self.store, self._pairs
        tier, packed = self.tier[cell], self.packed[cell]
        nothing = np.zeros(len(self.object))
        if goal is GoalName.access_time:
            return *self.amounts(nothing, access.read_time(store, read, tier, packed)), 0.0
        if goal is GoalName.moved_gib:
            return *self.amounts(self.moved_gib, np.zeros(len(read))), 0.0
        copies = money.copy_usd(store, self.object, self.tier, self.packed, money.source_usd(store), self.leaving)
        return *self.amounts(copies, money.read_usd(store, read, tier, packed)), float(self.leaving.sum())

    def cell_ids(self) -> list[tuple[str, str, str]]:
        """Object, tier and form of each cell, by name."""
        store = self.store
        return [
            (store.objects.ids[o], store.tiers.ids[t], COMPRESSED if packed else PLAIN)
            for o, t, packed in zip(self.object.tolist(), self.tier.tolist(), self.packed.tolist(), strict=True)
        ]

    def serving_ids(self) -> list[tuple[str, str, str, str]]:
        """Reader ("" for own reads), object, tier and form of each serving, by name."""
        cells, readers = self.cell_ids(), (*self.store.reader_ids, "")
        reader = self.store.reads.reader[self.read].tolist()
        return [(readers[at], *cells[cell]) for at, cell in zip(reader, self.server.tolist(), strict=True)]

    @cached_property
    def spreads(self) -> tuple[Ints, Ints]:
        """Objects and failure domains for which a row must tell whether the object has copies there.

        Needed where an object wants several replicas and a domain has several tiers for it: else counting copies counts domains.
        """
        store = self.store
        pairs, tiers = np.unique(
            np.unique(np.stack((self.object, store.tiers.domain[self.tier], self.tier), axis=1), axis=0)[:, :2], axis=0, return_counts=True
        )
        crowded = np.zeros(store.objects.count, dtype=np.bool_)
        crowded[pairs[tiers > 1, 0]] = True
        needed = (crowded & (store.objects.replicas > 1))[pairs[:, 0]]
        return pairs[needed, 0], pairs[needed, 1]


def cells_of(problem: Problem, *, open_all: bool = False) -> Cells:
    """The cells of a problem."""
    return Cells(store_of(problem), open_all)
