"""Objects, tiers and reads of a problem as arrays: what every other module of the kind reckons with.

An object can have one copy on each tier, plain or **packed** (compressed). A **read** is what one reader reads of one object; an
object's own reads, which come from nowhere in particular, are a read without a reader. A **way** is how readers at one place, on one
accelerator, reach the tiers; way 0 is that of the own reads, which reach every tier directly.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from models.kept import Kept
from models.named import Named
from models.tiering.store_columns import AGE_DAYS, Columns, classes, columns_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from models.program import Bools, Floats, Ints
    from models.tiering.schema import Problem, Reader, Tier

GBIT_PER_GIB = 8.589934592
MONTH_DAYS = 365 / 12
DAY_S = 86_400.0
Packed: TypeAlias = "Bools | bool"  # whether copies are compressed: of each, or of all alike
OWN = -1  # the reader of an object's own reads


@dataclass(frozen=True, eq=False)
class Tiers(Named):
    """The tiers by position, each array of shape (tiers,); a missing limit is inf. ``domain`` counts from 0.

    ``stream`` is the Gbit/s of one read. ``usd_day`` is USD for a GiB and day.
    """

    ids: tuple[str, ...]
    domain_names: tuple[str, ...]
    domain: Ints
    capacity: Floats
    read_gbps: Floats
    write_gbps: Floats
    stream: Floats
    latency_ms: Floats
    usd_day: Floats
    usd_1000_reads: Floats
    usd_1000_writes: Floats
    usd_read: Floats
    usd_written: Floats
    minimum_days: Floats


@dataclass(frozen=True, eq=False)
class Objects(Named):
    """The objects by position, each array of shape (objects,).

    ``share`` is the compressed share, NaN where an object is never compressed; a missing latency limit or lifetime is inf.
    ``live_days`` is the part of the period in which the object exists. ``region`` and ``guard`` are rows of ``Store.resident`` and
    ``Store.guarded``.
    """

    ids: Sequence[str]
    size: Floats
    read_gbps: Floats
    reads_per_s: Floats
    write_gbps: Floats
    writes_per_s: Floats
    latency_limit: Floats
    replicas: Ints
    copies_max: Ints
    share: Floats
    stay_days: Floats
    lifetime: Floats
    live_days: Floats
    region: Ints
    guard: Ints


@dataclass(frozen=True, eq=False)
class Currents:
    """The copies that exist now, in the order of the objects, each array of shape (currents,)."""

    object: Ints
    tier: Ints
    packed: Bools
    days: Floats

    @property
    def count(self) -> int:
        """How many."""
        return len(self.object)


@dataclass(frozen=True, eq=False)
class Reads:
    """What is read: own reads first, in the order of the objects that have any, then those of the readers; arrays of shape (reads,)."""

    reader: Ints
    object: Ints
    gbps: Floats
    per_s: Floats
    way: Ints

    @property
    def count(self) -> int:
        """How many."""
        return len(self.object)


@dataclass(frozen=True, eq=False)
class Ways:
    """How each way reaches each tier, arrays of shape (ways, tiers).

    ``latency_ms`` is that of tier and site link; ``s_per_gbit`` what one Gbit takes at the slower of the two; ``usd`` the link's price
    of a GiB; ``link`` the position of the site link, -1 where none is used.
    """

    reach: Bools
    latency_ms: Floats
    s_per_gbit: Floats
    usd: Floats
    link: Ints


@dataclass(frozen=True, eq=False)
class Store:
    """A problem as arrays.

    ``resident`` and ``guarded`` have a row for each set of regions and of protections that occurs, a column for each tier.
    """

    tiers: Tiers
    objects: Objects
    currents: Currents
    reads: Reads
    ways: Ways
    reader_ids: tuple[str, ...]
    resident: Bools
    guarded: Bools
    link_gbps: Floats
    link_names: tuple[tuple[str, str], ...]
    unpack_ms: float
    unpack_usd: float
    period_days: float

    @cached_property
    def current_at(self) -> Ints:
        """Which current copy an object has on a tier, -1 for none; shape (objects, tiers)."""
        found = np.full((self.objects.count, self.tiers.count), -1, dtype=np.int64)
        found[self.currents.object, self.currents.tier] = np.arange(self.currents.count)
        return found

    @cached_property
    def is_stored(self) -> Bools:
        """Which objects have a copy now, shape (objects,)."""
        found = np.zeros(self.objects.count, dtype=np.bool_)
        found[self.currents.object] = True
        return found

    @cached_property
    def must_stay(self) -> Bools:
        """Which current copies have not been where they are for long enough, shape (currents,)."""
        stay: Bools = self.currents.days < self.objects.stay_days[self.currents.object]
        return stay

    @cached_property
    def read_starts(self) -> tuple[Ints, Ints]:
        """CSR of each object's reads: ``starts`` (objects + 1,) and ``reads`` in that order."""
        order = np.argsort(self.reads.object, kind="stable")
        counts = np.bincount(self.reads.object, minlength=self.objects.count)
        return np.concatenate(([0], np.cumsum(counts))).astype(np.int64), order

    @cached_property
    def reader_at(self) -> dict[str, int]:
        """Position of each reader; "" is that of the own reads."""
        return {"": OWN} | {name: place for place, name in enumerate(self.reader_ids)}

    @cached_property
    def _read_keys(self) -> tuple[Ints, Ints]:
        """The reads' keys in ascending order, and the reads in that order."""
        keys = (self.reads.reader + 1) * self.objects.count + self.reads.object
        order = np.argsort(keys, kind="stable")
        return keys[order], order

    def reads_of(self, readers: Ints, objects: Ints) -> Ints:
        """Which read it is by reader (``OWN`` for own reads) and object, -1 where there is none; shapes (n,)."""
        return position((readers + 1) * self.objects.count + objects, *self._read_keys)

    @cached_property
    def id_array(self) -> npt.NDArray[np.object_]:
        """The names of the objects, to be taken by position."""
        found = np.empty(self.objects.count, dtype=object)
        found[:] = self.objects.ids
        return found


def position(keys: Ints, known: Ints, order: Ints) -> Ints:
    """Where each key is among ``known`` (ascending), told as its entry of ``order``; -1 where it is not; shape of ``keys``."""
    if not len(known):
        return np.full(np.shape(keys), -1, dtype=np.int64)
    at = np.minimum(np.searchsorted(known, keys), len(known) - 1)
    return np.where(known[at] == keys, order[at], -1)


def store_of(problem: Problem) -> Store:
    """The arrays of a problem, kept as long as the problem lives."""
    return _stores.of(problem)


def tiers_of(problem: Problem) -> Tiers:
    """The tiers of a problem."""
    tiers = problem.tiers
    # A tier that names no failure domain fails alone: its domain is itself, and no name another tier gives its domain.
    keys = [(tier.failure_domain is None, tier.failure_domain or tier.id) for tier in tiers]
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    read = _limits(tier.read_gbps for tier in tiers)
    stream = np.array([np.nan if tier.stream_gbps is None else tier.stream_gbps for tier in tiers])
    return Tiers(
        ids=tuple(tier.id for tier in tiers),
        domain_names=tuple(name for _, name in numbers),
        domain=np.array([numbers[key] for key in keys], dtype=np.int64),
        capacity=_limits(tier.capacity_gib for tier in tiers),
        read_gbps=read,
        write_gbps=_limits(tier.write_gbps for tier in tiers),
        stream=np.where(np.isnan(stream), read, stream),
        latency_ms=_each(tiers, "latency_ms"),
        usd_day=_each(tiers, "usd_per_gib_month") / MONTH_DAYS,
        usd_1000_reads=_each(tiers, "usd_per_1000_reads"),
        usd_1000_writes=_each(tiers, "usd_per_1000_writes"),
        usd_read=_each(tiers, "usd_per_gib_read"),
        usd_written=_each(tiers, "usd_per_gib_written"),
        minimum_days=_each(tiers, "minimum_days"),
    )


def _each(tiers: Sequence[Tier], name: str) -> Floats:
    return np.array([getattr(tier, name) for tier in tiers], dtype=np.float64)


def _limits(given: object) -> Floats:
    return np.array([np.inf if one is None else one for one in given], dtype=np.float64)  # type: ignore[attr-defined]


def _store(problem: Problem) -> Store:
    tiers, columns = tiers_of(problem), columns_of(problem)
    objects, resident, guarded = _objects(problem, columns)
    places = dict.fromkeys((reader.site, reader.accelerator) for reader in problem.readers)
    way_at = {place: number for number, place in enumerate(places, 1)}
    return Store(
        tiers=tiers,
        objects=objects,
        currents=_currents(problem, columns, tiers),
        reads=_reads(problem.readers, objects, way_at),
        ways=_ways(problem, tiers, tuple(places)),
        reader_ids=tuple(reader.id for reader in problem.readers),
        resident=resident,
        guarded=guarded,
        link_gbps=_limits(link.gbps for link in problem.site_links),
        link_names=tuple((link.source, link.target) for link in problem.site_links),
        unpack_ms=problem.compression.latency_ms,
        unpack_usd=problem.compression.usd_per_gib,
        period_days=problem.period_days,
    )


def _objects(problem: Problem, columns: Columns) -> tuple[Objects, Bools, Bools]:
    """The objects, and which tiers each set of regions and of protections allows."""
    count = len(columns.size)
    region, regions = classes(columns.regions, count)
    guard, guards = classes(columns.protections, count)
    tiers = problem.tiers
    resident = np.array([[wanted is None or tier.region in wanted for tier in tiers] for wanted in regions], dtype=np.bool_)
    guarded = np.array([[set(wanted or ()) <= set(tier.protections) for tier in tiers] for wanted in guards], dtype=np.bool_)
    lifetime = columns.numbers("lifetime_days", np.inf)
    replicas = columns.numbers("replicas", 1.0).astype(np.int64)
    most = columns.numbers("copies_max", np.nan)
    objects = Objects(
        ids=columns.ids,
        size=columns.size,
        read_gbps=columns.numbers("read_gbps", 0.0),
        reads_per_s=columns.numbers("reads_per_s", 0.0),
        write_gbps=columns.numbers("write_gbps", 0.0),
        writes_per_s=columns.numbers("writes_per_s", 0.0),
        latency_limit=columns.numbers("latency_limit_ms", np.inf),
        replicas=replicas,
        copies_max=np.where(np.isnan(most), replicas, most).astype(np.int64),
        share=columns.numbers("compressed_share", np.nan),
        stay_days=columns.numbers("minimum_stay_days", 0.0),
        lifetime=lifetime,
        live_days=np.minimum(lifetime, problem.period_days),
        region=region,
        guard=guard,
    )
    return objects, resident.reshape(-1, len(tiers)), guarded.reshape(-1, len(tiers))


def _currents(problem: Problem, columns: Columns, tiers: Tiers) -> Currents:
    if problem.object_table is None:
        found = [(place, copy) for place, one in enumerate(problem.objects) for copy in one.current]
        return Currents(
            object=np.array([place for place, _ in found], dtype=np.int64),
            tier=np.array([tiers.at[copy.tier] for _, copy in found], dtype=np.int64),
            packed=np.array([copy.compressed for _, copy in found], dtype=np.bool_),
            days=np.array([copy.stored_days for _, copy in found], dtype=np.float64),
        )
    names = columns.lists["current_tier"]
    at: dict[str | None, int] = {None: -1}
    at.update(tiers.at.items())
    tier = np.full(len(columns.size), -1, dtype=np.int64) if names is None else np.fromiter((at[name] for name in names), np.int64)
    here = np.flatnonzero(tier >= 0)
    return Currents(here, tier[here], np.zeros(len(here), dtype=np.bool_), columns.numbers("current_days", AGE_DAYS)[here])


def _reads(readers: Sequence[Reader], objects: Objects, way_at: dict[tuple[str, str | None], int]) -> Reads:
    own = np.flatnonzero((objects.read_gbps > 0) | (objects.reads_per_s > 0))
    found = [(number, reader, read) for number, reader in enumerate(readers) for read in reader.reads]
    at = objects.at if found else {}
    return Reads(
        reader=np.concatenate((np.full(len(own), OWN), [number for number, _, _ in found])).astype(np.int64),
        object=np.concatenate((own, [at[read.object] for _, _, read in found])).astype(np.int64),
        gbps=np.concatenate((objects.read_gbps[own], [read.read_gbps for _, _, read in found])),
        per_s=np.concatenate((objects.reads_per_s[own], [read.reads_per_s for _, _, read in found])),
        way=np.concatenate((np.zeros(len(own)), [way_at[reader.site, reader.accelerator] for _, reader, _ in found])).astype(np.int64),
    )


def _ways(problem: Problem, tiers: Tiers, places: Sequence[tuple[str, str | None]]) -> Ways:
    links = {(link.source, link.target): (number, link) for number, link in enumerate(problem.site_links)}
    shape = (1 + len(places), tiers.count)
    reach, link_at = np.zeros(shape, dtype=np.bool_), np.full(shape, -1, dtype=np.int64)
    latency, usd, stream = np.tile(tiers.latency_ms, (shape[0], 1)), np.zeros(shape), np.tile(tiers.stream, (shape[0], 1))
    reach[0] = True
    for way, (site, accelerator) in enumerate(places, 1):
        for at, tier in enumerate(problem.tiers):
            if tier.site == site or accelerator in tier.accelerators:
                reach[way, at] = True
            elif (tier.site, site) in links:
                reach[way, at] = True
                link_at[way, at], link = links[tier.site, site]
                latency[way, at] += link.latency_ms
                usd[way, at] = link.usd_per_gib
                limits = [one for one in (link.stream_gbps or link.gbps, stream[way, at]) if one is not None]
                stream[way, at] = min(limits)
    # Nothing can be read at 0 Gbit/s, which the bandwidth says: no time is needed for it.
    with np.errstate(divide="ignore"):
        s_per_gbit = np.where(stream > 0, 1.0 / stream, 0.0)
    return Ways(reach, latency, s_per_gbit, usd, link_at)


_stores: Kept[Problem, Store] = Kept(_store)
