"""What copies and reads cost in the period, and what moves. README.md has the formulas.

Every function takes positions as arrays that broadcast against each other, and gives an array of their common shape. So the same line
serves one copy, all copies of a plan (``held.object, held.tier, held.packed``) and a table of what could be
(``objects[:, None], tiers, packed``). Of a packed copy of an object that is never compressed every amount is NaN: see ``access.may_pack``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from models.tiering.store import DAY_S, GBIT_PER_GIB

if TYPE_CHECKING:
    from models.program import Bools, Floats, Ints
    from models.tiering.store import Packed, Store


def share(store: Store, objects: Ints, packed: Packed) -> Floats:
    """Size of a copy as a share of the object's."""
    if packed is False:
        return np.ones(np.shape(objects))
    return np.where(packed, store.objects.share[objects], 1.0)


def stored_gib(store: Store, objects: Ints, packed: Packed) -> Floats:
    """GiB that a copy takes."""
    return store.objects.size[objects] * share(store, objects, packed)


def stays(store: Store, objects: Ints, tiers: Ints, packed: Packed) -> Bools:
    """Whether a copy is where it is now, in the same form."""
    if not store.currents.count:
        return np.zeros(np.broadcast_shapes(np.shape(objects), np.shape(tiers), np.shape(packed)), dtype=np.bool_)
    now = store.current_at[objects, tiers]
    same: Bools = (now >= 0) & (store.currents.packed[now] == packed)
    return same


def storage_usd(store: Store, objects: Ints, tiers: Ints, packed: Packed) -> Floats:
    """Storage of a copy: for the days that the object lives in the period, and for the rest of the tier's minimum where it dies before."""
    of, on = store.objects, store.tiers
    days = of.live_days[objects]
    if on.minimum_days.any() and np.isfinite(of.lifetime).any():
        days = days + np.maximum(on.minimum_days[tiers] - _age(store, objects, tiers, packed) - of.lifetime[objects], 0.0)
    usd: Floats = stored_gib(store, objects, packed) * on.usd_day[tiers] * days
    return usd


def _age(store: Store, objects: Ints, tiers: Ints, packed: Packed) -> Floats:
    """Days that a copy has been where it is, 0 for one that is new there."""
    if not store.currents.count:
        return np.zeros(())
    return np.where(stays(store, objects, tiers, packed), store.currents.days[store.current_at[objects, tiers]], 0.0)


def write_requests_usd(store: Store, objects: Ints, tiers: Ints) -> Floats:
    """Write requests to a copy."""
    of = store.objects
    usd: Floats = of.live_days[objects] * DAY_S * of.writes_per_s[objects] / 1000 * store.tiers.usd_1000_writes[tiers]
    return usd


def rewrite_usd(store: Store, objects: Ints, tiers: Ints, packed: Packed) -> Floats:
    """What is rewritten of a copy, by the GiB."""
    of = store.objects
    gib = of.live_days[objects] * DAY_S * of.write_gbps[objects] / GBIT_PER_GIB * share(store, objects, packed)
    usd: Floats = gib * store.tiers.usd_written[tiers]
    return usd


def source_usd(store: Store) -> Floats:
    """Reading an object's cheapest current copy once, to make another one of it; 0 for a new object; shape (objects,)."""
    now, of = store.currents, store.objects
    cheapest = np.full(of.count, np.inf)
    size = of.size[now.object]
    usd = stored_gib(store, now.object, now.packed) * store.tiers.usd_read[now.tier] + np.where(now.packed, size * store.unpack_usd, 0.0)
    np.minimum.at(cheapest, now.object, usd)
    return np.where(store.is_stored, cheapest, 0.0)


def arrival_usd(store: Store, objects: Ints, tiers: Ints, packed: Packed, source: Floats) -> Floats:
    """Making a copy that is not there now: reading the ``source`` (of ``source_usd``) and writing the target; 0 for one that stays."""
    written = stored_gib(store, objects, packed) * store.tiers.usd_written[tiers]
    return np.where(stays(store, objects, tiers, packed), 0.0, source[objects] + written)


def moved_gib(store: Store, objects: Ints, tiers: Ints, packed: Packed) -> Floats:
    """GiB that a copy moves: its size where the object has copies now, and none there in this form."""
    moves = store.is_stored[objects] & ~stays(store, objects, tiers, packed)
    return np.where(moves, stored_gib(store, objects, packed), 0.0)


def leaving_usd(store: Store) -> Floats:
    """What a current copy pays when it leaves: the rest of the tier's minimum duration; shape (currents,)."""
    now = store.currents
    rest = np.maximum(store.tiers.minimum_days[now.tier] - now.days, 0.0)
    usd: Floats = stored_gib(store, now.object, now.packed) * store.tiers.usd_day[now.tier] * rest
    return usd


def leaving_usd_at(store: Store, objects: Ints, tiers: Ints, packed: Packed, leaving: Floats) -> Floats:
    """What the copy that is there now in this form would pay for ``leaving`` (of ``leaving_usd``), 0 where there is none."""
    if not store.currents.count:
        return np.zeros(np.broadcast_shapes(np.shape(objects), np.shape(tiers), np.shape(packed)))
    return np.where(stays(store, objects, tiers, packed), leaving[store.current_at[objects, tiers]], 0.0)


def copy_usd(store: Store, objects: Ints, tiers: Ints, packed: Packed, source: Floats, leaving: Floats) -> Floats:
    """All that a copy adds to the cost, its reads apart. One that stays is credited what leaving would cost.

    So the cost of a plan is the sum of its copies and reads plus the sum of ``leaving``, the same for all plans.
    """
    usd = storage_usd(store, objects, tiers, packed)
    if store.objects.writes_per_s.any():
        usd = usd + write_requests_usd(store, objects, tiers)
    if store.objects.write_gbps.any():
        usd = usd + rewrite_usd(store, objects, tiers, packed)
    usd = usd + arrival_usd(store, objects, tiers, packed, source)
    return usd - leaving_usd_at(store, objects, tiers, packed, leaving) if leaving.any() else usd


def migration_usd(store: Store, objects: Ints, tiers: Ints, packed: Packed, source: Floats, leaving: Floats) -> Floats:
    """What a copy adds to the money of the migration, less what leaving would cost, as in ``copy_usd``; a new object adds nothing."""
    moved = np.where(store.is_stored[objects], arrival_usd(store, objects, tiers, packed, source), 0.0)
    usd: Floats = moved - leaving_usd_at(store, objects, tiers, packed, leaving)
    return usd


# ---------------------------------------------------------------- reads


def read_requests_usd(store: Store, reads: Ints, tiers: Ints) -> Floats:
    """The requests of a read, when all of them go to one tier."""
    seconds = store.objects.live_days[store.reads.object[reads]] * DAY_S
    usd: Floats = seconds * store.reads.per_s[reads] / 1000 * store.tiers.usd_1000_reads[tiers]
    return usd


def transfer_usd(store: Store, reads: Ints, tiers: Ints, packed: Packed) -> Floats:
    """The bytes of a read, when all come from one tier: the tier, the site link and unpacking."""
    objects = store.reads.object[reads]
    gib = store.objects.live_days[objects] * DAY_S * store.reads.gbps[reads] / GBIT_PER_GIB
    by_gib = share(store, objects, packed) * (store.tiers.usd_read[tiers] + store.ways.usd[store.reads.way[reads], tiers])
    return gib * (by_gib + np.where(packed, store.unpack_usd, 0.0))


def read_usd(store: Store, reads: Ints, tiers: Ints, packed: Packed) -> Floats:
    """All that a read adds to the cost when all of it is served by the copy on one tier."""
    return read_requests_usd(store, reads, tiers) + transfer_usd(store, reads, tiers, packed)


def read_load_gbps(store: Store, reads: Ints, packed: Packed) -> Floats:
    """Gbit/s that a read takes of the tier that serves all of it, and of the site link on its way."""
    load: Floats = store.reads.gbps[reads] * share(store, store.reads.object[reads], packed)
    return load


def write_load_gbps(store: Store, objects: Ints, packed: Packed) -> Floats:
    """Gbit/s that a copy takes of its tier's write bandwidth."""
    load: Floats = store.objects.write_gbps[objects] * share(store, objects, packed)
    return load
