"""Where copies may be, which of them can serve a read, and how long reading takes. Positions broadcast as in ``money``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from models.contract import TOLERANCE
from models.tiering.money import share

if TYPE_CHECKING:
    from models.program import Bools, Floats, Ints
    from models.tiering.store import Packed, Store


def copy_latency_ms(store: Store, tiers: Ints, packed: Packed) -> Floats:
    """How long a copy takes to answer."""
    latency: Floats = store.tiers.latency_ms[tiers] + np.where(packed, store.unpack_ms, 0.0)
    return latency


def read_latency_ms(store: Store, reads: Ints, tiers: Ints, packed: Packed) -> Floats:
    """How long a copy takes to answer a read, the site link included."""
    latency: Floats = store.ways.latency_ms[store.reads.way[reads], tiers] + np.where(packed, store.unpack_ms, 0.0)
    return latency


def in_time(latency_ms: Floats, limit_ms: Floats) -> Bools:
    """Whether a latency keeps its limit, as ``verify`` judges it; an infinite limit is none."""
    timely: Bools = latency_ms <= limit_ms + TOLERANCE * np.maximum(1.0, np.where(np.isinf(limit_ms), 1.0, limit_ms))
    return timely


def may_pack(store: Store, objects: Ints, packed: Packed) -> Bools:
    """Whether an object may have a copy in this form."""
    possible: Bools = ~np.isnan(store.objects.share[objects]) | ~np.asarray(packed)
    return possible


def admissible(store: Store, objects: Ints, tiers: Ints, packed: Packed) -> Bools:
    """Whether residency, protection, the latency limit and compression allow an object's copy on a tier. What must stay is not asked."""
    of = store.objects
    allowed: Bools = (
        store.resident[of.region[objects], tiers]
        & store.guarded[of.guard[objects], tiers]
        & in_time(copy_latency_ms(store, tiers, packed), of.latency_limit[objects])
        & may_pack(store, objects, packed)
    )
    return allowed


def servable(store: Store, reads: Ints, tiers: Ints, packed: Packed) -> Bools:
    """Whether an admissible copy can serve a read: it can be reached, and in time."""
    limit = store.objects.latency_limit[store.reads.object[reads]]
    possible: Bools = store.ways.reach[store.reads.way[reads], tiers] & in_time(read_latency_ms(store, reads, tiers, packed), limit)
    return possible


def read_time(store: Store, reads: Ints, tiers: Ints, packed: Packed) -> Floats:
    """Seconds spent reading in each second, when one copy serves all of a read: bytes over bandwidth, plus requests times latency."""
    seconds = (
        store.reads.gbps[reads] * share(store, store.reads.object[reads], packed) * store.ways.s_per_gbit[store.reads.way[reads], tiers]
    )
    waiting = store.reads.per_s[reads] * read_latency_ms(store, reads, tiers, packed) / 1000
    time: Floats = seconds + waiting
    return time
