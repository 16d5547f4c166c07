"""What is wrong with a tiering Problem: the mistakes that no field can see alone, and what is legal but suspicious.

Every finding has a JSON pointer to its place, a stable code, and one sentence that names the cure. What is asked of each object is asked of
arrays, because a Problem may hold millions of them and is checked each time it is made.
"""

from __future__ import annotations

from itertools import chain, islice
from typing import TYPE_CHECKING

import numpy as np

from models.contract import Warned
from models.repeated import repeated

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from models.program import Bools, Ints
    from models.tiering.schema import Problem
    from models.tiering.store import Store

MAX_ERRORS = 10  # enough to correct a file in one go; a broken generator makes the same mistake 10,000 times
MAX_WARNINGS = 100
LEAST_LIMIT = 1e-3  # a limit is kept to within 1e-6, which must be little beside it
LARGEST_USD = 1e15  # solvers refuse larger coefficients, and beyond it doubles are more than 0.1 apart
BLOCK = 1 << 16  # objects looked at together, to keep tables of objects and tiers small


def errors(problem: Problem) -> tuple[Warned, ...]:
    """The first MAX_ERRORS mistakes; those that need arrays only when names and lengths are right."""
    names = _ids(problem), _references(problem), _links(problem), _tiny(problem)
    for checks in ((_lengths(problem),), names, (_objects(problem), _magnitudes(problem))):
        found = tuple(islice(chain.from_iterable(checks), MAX_ERRORS))
        if found:
            return found
    return ()


def warnings(problem: Problem) -> tuple[Warned, ...]:
    """The first MAX_WARNINGS things in a valid problem that are legal but probably not meant."""
    checks = (_odd_tiers(problem), _odd_names(problem), _hopeless(problem), _totals(problem), _odd_links(problem))
    return tuple(islice(chain.from_iterable(checks), MAX_WARNINGS))


def _first(mask: Bools, most: int = MAX_ERRORS) -> Sequence[int]:
    found: list[int] = np.flatnonzero(mask)[:most].tolist()
    return found


def _pointer(problem: Problem, place: int, field: str) -> str:
    """Where a field of an object stands, in the list or in the table."""
    return f"/objects/{place}/{field}" if problem.object_table is None else f"/object_table/{field}/{place}"


# ---------------------------------------------------------------- errors


def _lengths(problem: Problem) -> Iterator[Warned]:
    table = problem.object_table
    if table is None:
        return
    if problem.objects:
        yield Warned("/object_table", "two_lists", "objects are given as a list and as a table; give one of them")
    count = len(table.size_gib)
    for name in type(table).model_fields:
        column = getattr(table, name)
        if column is not None and len(column) != count:
            detail = f"has {len(column):,} items, expected {count:,}, one for each size_gib; make the columns equally long"
            yield Warned(f"/object_table/{name}", "wrong_length", detail)


def _ids(problem: Problem) -> Iterator[Warned]:
    yield from repeated((tier.id for tier in problem.tiers), "tiers", "/tiers/{}/id")
    yield from repeated((one.id for one in problem.objects), "objects", "/objects/{}/id")
    table = problem.object_table
    if table is not None and table.id is not None:
        yield from repeated(table.id, "objects", "/object_table/id/{}")
    yield from repeated((reader.id for reader in problem.readers), "readers", "/readers/{}/id")
    for place, goal in enumerate(problem.goals):
        if goal in problem.goals[:place]:
            yield Warned(f"/goals/{place}", "duplicate_goal", f"the goal '{goal.value}' is given twice; leave one of them out")


def _references(problem: Problem) -> Iterator[Warned]:
    tiers = {tier.id for tier in problem.tiers}
    for place, one in enumerate(problem.objects):
        seen: set[str] = set()
        for number, copy in enumerate(one.current):
            pointer = f"/objects/{place}/current/{number}"
            if copy.tier not in tiers:
                yield Warned(f"{pointer}/tier", "unknown_tier", _unknown_tier(one.id, copy.tier, tiers))
            if copy.tier in seen:
                detail = f"object '{one.id}' has two current copies on tier '{copy.tier}'; a tier keeps one copy of an object"
                yield Warned(f"{pointer}/tier", "duplicate_copy", detail)
            seen.add(copy.tier)
            if copy.compressed and one.compressed_share is None:
                detail = f"a copy of object '{one.id}' is compressed and nothing says to what share; give the object a compressed_share"
                yield Warned(f"{pointer}/compressed", "share_missing", detail)
    table = problem.object_table
    if table is not None and table.current_tier is not None:
        unknown = set(table.current_tier) - tiers - {None}
        for place, name in enumerate(table.current_tier) if unknown else ():
            if name is not None and name in unknown:
                yield Warned(f"/object_table/current_tier/{place}", "unknown_tier", _unknown_tier(f"number {place}", name, tiers))
    yield from _reads(problem)


def _unknown_tier(name: str, tier: str, tiers: set[str]) -> str:
    return f"object '{name}' is on a tier '{tier}' that does not exist; there are: {', '.join(sorted(tiers)[:8])}"


def _reads(problem: Problem) -> Iterator[Warned]:
    if not problem.readers:
        return
    table = problem.object_table
    if table is None:
        known: set[str] = {one.id for one in problem.objects}
    else:
        known = set(table.id if table.id is not None else (f"o{place}" for place in range(len(table.size_gib))))
    for place, reader in enumerate(problem.readers):
        seen: set[str] = set()
        for number, read in enumerate(reader.reads):
            pointer = f"/readers/{place}/reads/{number}/object"
            if read.object not in known:
                detail = f"reader '{reader.id}' reads an object '{read.object}' that does not exist; correct its id or add the object"
                yield Warned(pointer, "unknown_object", detail)
            if read.object in seen:
                detail = f"reader '{reader.id}' has two entries for object '{read.object}'; add them up"
                yield Warned(pointer, "duplicate_read", detail)
            seen.add(read.object)


def _links(problem: Problem) -> Iterator[Warned]:
    seen: dict[tuple[str, str], int] = {}
    for place, link in enumerate(problem.site_links):
        if link.source == link.target:
            detail = f"the site link leads from '{link.source}' to itself; within a site no link is needed: leave it out"
            yield Warned(f"/site_links/{place}", "loop", detail)
        first = seen.setdefault((link.source, link.target), place)
        if first != place:
            detail = f"site link {first} leads from '{link.source}' to '{link.target}' already; add up what they carry"
            yield Warned(f"/site_links/{place}", "duplicate_link", detail)


def _objects(problem: Problem) -> Iterator[Warned]:
    """More copies than may be, or than there are failure domains for."""
    from models.tiering.store import store_of

    store = store_of(problem)
    of, on = store.objects, store.tiers
    for place in _first(of.copies_max < of.replicas):
        detail = (
            f"object '{of.ids[place]}' may have {of.copies_max[place]} copies and wants {of.replicas[place]} replicas; raise copies_max"
        )
        yield Warned(_pointer(problem, place, "copies_max"), "too_few_copies", detail)
    several = np.flatnonzero(of.replicas > 1)
    for start in range(0, len(several), BLOCK):
        objects = several[start : start + BLOCK]
        allowed = _allowed(store, objects)
        domains = np.zeros((len(objects), len(on.domain_names)), dtype=np.bool_)
        for tier, domain in enumerate(on.domain.tolist()):
            domains[:, domain] |= allowed[:, tier]
        for at in _first(domains.sum(axis=1) < of.replicas[objects]):
            place = int(objects[at])
            names = [on.domain_names[domain] for domain in np.flatnonzero(domains[at])]
            there = f"{len(names)}: {', '.join(names[:8])}" if names else "none"
            detail = (
                f"object '{of.ids[place]}' wants {of.replicas[place]} replicas in different failure domains, and the tiers that it may "
            )
            detail += f"be on are in {there}; ask for fewer replicas, or allow more regions or protections"
            yield Warned(_pointer(problem, place, "replicas"), "too_few_domains", detail)


def _allowed(store: Store, objects: Ints) -> Bools:
    """Which tiers residency and protection allow, shape (objects, tiers)."""
    allowed: Bools = store.resident[store.objects.region[objects]] & store.guarded[store.objects.guard[objects]]
    return allowed


def _magnitudes(problem: Problem) -> Iterator[Warned]:
    """Prices times amounts that no solver could tell apart."""
    from models.tiering.store import DAY_S, GBIT_PER_GIB, store_of

    store = store_of(problem)
    of, on, reads = store.objects, store.tiers, store.reads
    days = max(problem.period_days, float(on.minimum_days.max()))
    gib, gbps = float(of.size.max(initial=0.0)), float(reads.gbps.max(initial=0.0)) + float(of.write_gbps.max(initial=0.0))
    per_s = float(reads.per_s.max(initial=0.0)) + float(of.writes_per_s.max(initial=0.0))
    by_gib = float(max(on.usd_read.max() + store.ways.usd.max() + store.unpack_usd, on.usd_written.max()))
    for pointer, usd, what in (
        ("/tiers", gib * days * float(on.usd_day.max()), "storing the largest object for the period"),
        ("/tiers", (gib + days * DAY_S * gbps / GBIT_PER_GIB) * by_gib, "moving the bytes of one object in the period"),
        (
            "/tiers",
            days * DAY_S * per_s / 1000 * float(max(on.usd_1000_reads.max(), on.usd_1000_writes.max())),
            "the requests of one object",
        ),
    ):
        if usd > LARGEST_USD:
            detail = f"{what} may cost {usd:g} USD, beyond {LARGEST_USD:g}, the most that is exact; use larger units or a shorter period"
            yield Warned(pointer, "too_large", detail)


# ---------------------------------------------------------------- warnings


def _tiny(problem: Problem) -> Iterator[Warned]:
    """Limits that what may be exceeded is not small beside. No room at all is fine."""
    limits: list[tuple[str, str, float | None, str]] = [
        (f"/tiers/{place}/{field}", f"tier '{tier.id}'", getattr(tier, field), unit)
        for place, tier in enumerate(problem.tiers)
        for field, unit in (("capacity_gib", "GiB"), ("read_gbps", "Gbit/s"), ("write_gbps", "Gbit/s"))
    ]
    for place, link in enumerate(problem.site_links):
        limits.append((f"/site_links/{place}/gbps", f"the site link from '{link.source}' to '{link.target}'", link.gbps, "Gbit/s"))
    limits.append(("/migration/gib", "the migration", problem.migration.gib, "GiB"))
    limits.append(("/migration/usd", "the migration", problem.migration.usd, "USD"))
    limits.append(("/budget_usd", "the budget", problem.budget_usd, "USD"))
    for pointer, what, limit, unit in limits:
        if limit is not None and 0 < limit < LEAST_LIMIT:
            detail = f"{what}: a limit of {limit:g} {unit} cannot be told from rounding; make it 0, or at least {LEAST_LIMIT:g}"
            yield Warned(pointer, "too_small", detail)


def _odd_tiers(problem: Problem) -> Iterator[Warned]:
    for place, tier in enumerate(problem.tiers):
        if tier.capacity_gib == 0:
            yield Warned(
                f"/tiers/{place}/capacity_gib", "no_capacity", f"tier '{tier.id}' can hold nothing; leave it out or give it a capacity"
            )
        if tier.stream_gbps is not None and tier.read_gbps is not None and tier.stream_gbps > tier.read_gbps:
            detail = f"one read of tier '{tier.id}' is faster than all its reads together; lower stream_gbps or raise read_gbps"
            yield Warned(f"/tiers/{place}/stream_gbps", "fast_stream", detail)
    if problem.budget_usd == 0:
        yield Warned("/budget_usd", "no_budget", "with a budget of 0 only what is free is allowed; null means no limit")


def _odd_names(problem: Problem) -> Iterator[Warned]:
    """Regions and protections that no tier has."""
    from models.tiering.store_columns import classes, columns_of

    columns = columns_of(problem)
    for field, given, offered in (
        ("regions", columns.regions, {tier.region for tier in problem.tiers}),
        ("protections", columns.protections, {name for tier in problem.tiers for name in tier.protections}),
    ):
        number, values = classes(given, len(columns.size))
        for at, value in enumerate(values):
            missing = [name for name in value or () if name not in offered]
            if missing:
                place = int(np.flatnonzero(number == at)[0])
                named = ", ".join(map(repr, missing[:4]))
                detail = f"object '{columns.ids[place]}' names {named} in its {field}, which no tier has; check the spelling"
                yield Warned(_pointer(problem, place, field), f"unknown_{field[:-1]}", detail)


def _hopeless(problem: Problem) -> Iterator[Warned]:
    """Objects that no tier can take, and reads that no tier can serve: no plan exists."""
    from models.tiering import access, money
    from models.tiering.store import store_of

    store = store_of(problem)
    tiers = np.arange(store.tiers.count)
    for start in range(0, store.objects.count, BLOCK):
        objects = np.arange(start, min(start + BLOCK, store.objects.count))
        may, fits = (np.zeros((len(objects), len(tiers)), dtype=np.bool_) for _ in range(2))
        for packed in (False, True):
            could = access.admissible(store, objects[:, None], tiers, packed)
            may |= could
            fits |= could & (np.nan_to_num(money.stored_gib(store, objects, packed))[:, None] <= store.tiers.capacity)
        for at in _first(~np.asarray(may.any(axis=1)), MAX_WARNINGS):
            name = store.objects.ids[start + at]
            detail = f"object '{name}' may be on no tier, by residency, protection or latency; no plan exists until one of them gives way"
            yield Warned(_pointer(problem, start + at, "id"), "no_tier", detail)
        for at in _first(np.asarray(may.any(axis=1) & ~fits.any(axis=1)), MAX_WARNINGS):
            name, size = store.objects.ids[start + at], store.objects.size[start + at]
            detail = f"object '{name}' has {size:g} GiB, more than any tier that it may be on; no plan exists: enlarge a tier or split it"
            yield Warned(_pointer(problem, start + at, "size_gib"), "too_large_for_tiers", detail)
    reads = np.flatnonzero(store.reads.reader >= 0)
    could = np.zeros((len(reads), len(tiers)), dtype=np.bool_)
    for packed in (False, True):
        could |= access.servable(store, reads[:, None], tiers, packed) & access.admissible(
            store, store.reads.object[reads][:, None], tiers, packed
        )
    for at in _first(~np.asarray(could.any(axis=1)), MAX_WARNINGS):
        reader, name = int(store.reads.reader[reads[at]]), store.objects.ids[int(store.reads.object[reads[at]])]
        detail = f"reader '{store.reader_ids[reader]}' can reach no tier that object '{name}' may be on, or none in time; add a site link"
        yield Warned(f"/readers/{reader}", "out_of_reach", detail)


def _totals(problem: Problem) -> Iterator[Warned]:
    """More than all tiers together hold, read or write: no plan exists."""
    from models.tiering.store import store_of

    store = store_of(problem)
    of, on, reads = store.objects, store.tiers, store.reads
    least = np.fmin(of.share, 1.0)  # of NaN and 1: 1
    for field, needed, offered, unit in (
        ("capacity_gib", float((of.size * least * of.replicas).sum()), float(on.capacity.sum()), "GiB"),
        ("read_gbps", float((reads.gbps * least[reads.object]).sum()), float(on.read_gbps.sum()), "Gbit/s"),
        ("write_gbps", float((of.write_gbps * least * of.replicas).sum()), float(on.write_gbps.sum()), "Gbit/s"),
    ):
        if needed > offered * (1 + 1e-9):
            detail = f"all objects need {needed:g} {unit} together, and all tiers have {offered:g}; no plan exists until {field} grows"
            yield Warned("/tiers", f"too_little_{field.rpartition('_')[0]}", detail)


def _odd_links(problem: Problem) -> Iterator[Warned]:
    sources, targets = {tier.site for tier in problem.tiers}, {reader.site for reader in problem.readers}
    for place, link in enumerate(problem.site_links):
        if link.source not in sources or link.target not in targets:
            odd = f"no tier is at '{link.source}'" if link.source not in sources else f"no reader is at '{link.target}'"
            yield Warned(
                f"/site_links/{place}", "unused_link", f"{odd}, so that the site link carries nothing; check the names of the sites"
            )
