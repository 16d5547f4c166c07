"""Where one job goes, given what is free: best fit under all of the job's own rules.

Best fit leaves the fewest free GPUs behind on the nodes it touches, so that large workers find whole nodes later. A job
that is to stay together takes the tightest domain that holds all of it; speeds come first where the models differ.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from models.vocabulary import Level

if TYPE_CHECKING:
    from models.placement.ledger import Ledger
    from models.placement.schema import Job
    from models.program import Bools, Floats, Ints

_NARROWEST_FIRST = (Level.nvlink_domain, Level.rack, Level.row, Level.site)


def seat_job(ledger: Ledger, place: int, *, allowed: Bools | None = None, compact: bool = False, fastest: bool = True) -> bool:
    """Book the job at ``place`` if it fits anywhere (among ``allowed`` nodes); True when it was booked.

    ``compact`` asks for the narrowest domain that holds the whole job, as a preferred colocation does. ``fastest``
    puts the job's speed before the tightness of the fit.
    """
    job = ledger.problem.jobs[place]
    wanted = ledger.most_workers(place)
    if wanted == 0:
        return False
    room = ledger.room(place)
    if allowed is not None:
        room = np.where(allowed, room, 0)
    np.minimum(room, wanted, out=room)
    if not room.any():
        return False
    counts = _share_out(ledger, job, room, wanted, compact=compact, fastest=fastest)
    if counts is None:
        return False
    for node, count in counts:
        for _ in range(count):
            ledger.book(place, [(node, ledger.pick_gpus(place, node))])
    return True


def _share_out(ledger: Ledger, job: Job, room: Ints, wanted: int, *, compact: bool, fastest: bool) -> list[tuple[int, int]] | None:
    """How many workers on which node, or None when the job cannot have its fewest workers."""
    fewest = wanted if job.workers_min is None else job.workers_min
    speeds = ledger.speeds(job) if fastest else None
    if wanted == 1:
        return [(_best_single(ledger, job, room, speeds), 1)]
    if job.spread is not None and job.spread.level is Level.node:
        room = np.minimum(room, job.spread.max_workers)
    if job.colocate is not None and job.colocate.required:
        return _in_one_domain(ledger, job, room, (wanted, fewest), (job.colocate.level,), speeds)
    levels: tuple[Level, ...] = (job.colocate.level,) if job.colocate is not None else ()
    if compact:
        levels = _NARROWEST_FIRST
    if levels:
        found = _in_one_domain(ledger, job, room, (wanted, wanted), levels, speeds)
        if found is not None:
            return found
    return _fill(ledger, job, room, (wanted, fewest), speeds)


def _tightness(ledger: Ledger, job: Job, counts: Ints) -> Floats:
    """What would stay free after ``counts`` more workers: GPUs first, then CPU as a tie-break; smaller is better."""
    left = ledger.whole - counts * job.gpus_per_worker if job.gpus_per_worker >= 1 else ledger.share.sum(axis=1)
    return np.asarray(left + 1e-4 * np.minimum(ledger.cpu - counts * job.cpu_cores, 1000.0))


def _best_single(ledger: Ledger, job: Job, room: Ints, speeds: Floats | None) -> int:
    nodes = np.flatnonzero(room)
    if speeds is not None:
        nodes = nodes[speeds[nodes] == speeds[nodes].max()]
    size = job.gpus_per_worker
    if 0 < size < 1:
        free = ledger.share[nodes]
        fits = (free + 1e-7 >= size) & (ledger.gpu_memory[nodes] + 1e-7 >= job.gpu_memory_gib)
        score = np.where(fits, free, 2.0).min(axis=1) + 1e-4 * np.minimum(ledger.cpu[nodes], 1000.0) / 1000.0
    else:
        score = _tightness(ledger, job, np.ones_like(room))[nodes]
    return int(nodes[np.argmin(score)])


def _in_one_domain(
    ledger: Ledger, job: Job, room: Ints, workers: tuple[int, int], levels: tuple[Level, ...], speeds: Floats | None
) -> list[tuple[int, int]] | None:
    """All workers in one domain of the first of ``levels`` that has one large enough; the tightest such domain."""
    wanted, fewest = workers
    for level in levels:
        domains, count = ledger.domains(level)
        totals = np.bincount(domains, weights=room, minlength=count)
        weights = None if speeds is None else np.bincount(domains, weights=room * speeds, minlength=count) / np.maximum(totals, 1)
        for enough in (wanted, fewest):
            large = np.flatnonzero(totals >= enough)
            if not len(large):
                continue
            keys = (totals[large],) if weights is None else (totals[large], -weights[large])
            for domain in large[np.lexsort(keys)][:8]:
                found = _fill(ledger, job, np.where(domains == domain, room, 0), workers, speeds)
                if found is not None:
                    return found
    return None


def _fill(ledger: Ledger, job: Job, room: Ints, workers: tuple[int, int], speeds: Floats | None) -> list[tuple[int, int]] | None:
    """Fill nodes one after another, the fastest and then the tightest first, within spread and power."""
    wanted, fewest = workers
    nodes = np.flatnonzero(room)
    if room[nodes].sum() < fewest:
        return None
    keys: tuple[Floats, ...] = (_tightness(ledger, job, room)[nodes], -room[nodes].astype(np.float64))
    if speeds is not None:
        keys = (*keys, -speeds[nodes])
    spread = job.spread if job.spread is not None and job.spread.level is not Level.node else None
    used: dict[int, int] = {}
    power = ledger.power_left
    chosen: list[tuple[int, int]] = []
    for node in nodes[np.lexsort(keys)]:
        take = min(int(room[node]), wanted)
        if spread is not None:
            domain = int(ledger.domains(spread.level)[0][node])
            take = min(take, spread.max_workers - used.get(domain, 0))
            used[domain] = used.get(domain, 0) + max(take, 0)
        if ledger.workers[node] == 0 and take > 0:
            if ledger.power[node] > power + 1e-7:
                continue
            power -= ledger.power[node]
        if take > 0:
            chosen.append((int(node), take))
            wanted -= take
        if wanted == 0:
            return chosen
    return chosen if workers[0] - wanted >= fewest else None
