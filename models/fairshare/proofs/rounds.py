"""Rounds of water-filling as a plan tells them: the duals of a shortfall as prices and worths that ``verify`` can check."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from models.fairshare.columns.rows import Prices
from models.fairshare.proofs.schema import Bad, Piece, Price, Round, SlopeTable, Worth
from models.vocabulary import LARGEST_QUANTITY

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.fairshare.columns.classes import Classes
    from models.fairshare.levels.gauge import Gauged
    from models.fairshare.levels.water_filling import Settled
    from models.program import Floats, Ints

LOWERED = 1e-10  # relative: by so much thresholds lie below the speeds that meet them, so that rounding does not hide them
BESIDE = 1e-8  # relative: a job this near to a threshold stands on it
FAINT = 1e-12  # of the largest: smaller prices are noise
MANY_ROUNDS = 50
MANY = 200  # classes of which more than this get their slopes as columns


def rounds_of(classes: Classes, settled: Sequence[Settled], priority: int, told: Sequence[float], speeds: Floats) -> tuple[Round, ...]:
    """The rounds, each with what proves it; ``told`` are their levels in the unit of the goal, ``speeds`` (jobs,) what jobs end with."""
    ids, proofs = classes.market.jobs.ids, dict[tuple[int, bytes], dict[str, Any]]()
    made = []
    for one, level in zip(settled, told, strict=True):
        if not len(one.jobs):
            continue
        names = tuple(ids[job] for job in one.jobs.tolist())
        if one.proof is None:
            made.append(
                Round.model_construct(priority=priority, level=level, settled=names, worths=_full_speed(classes, one.jobs.tolist()))
            )
            continue
        at = _lowered(classes, one, speeds)
        key = id(one.proof), at.tobytes()
        if key not in proofs:
            proofs[key] = _proof(classes, replace(one.proof, at=at))
        made.append(Round.model_construct(priority=priority, level=min(level, LARGEST_QUANTITY), settled=names, **proofs[key]))
    return tuple(made)


def joined(classes: Classes, settled: Sequence[Settled]) -> list[Settled]:
    """The rounds, where they are very many with all one after another that only say that jobs are at full speed as one, at its first level.

    Full speed needs no proof: nobody is faster. Where budgets or speeds that turn out badly make it slower, it does.
    """
    if len(settled) <= MANY_ROUNDS or classes.robust or np.isfinite(classes.budget).any():
        return list(settled)
    found: list[Settled] = []
    for one in settled:
        if found and one.proof is None and found[-1].proof is None:
            found[-1] = replace(found[-1], jobs=np.concatenate((found[-1].jobs, one.jobs)))
        else:
            found.append(one)
    return found


def _lowered(classes: Classes, one: Settled, speeds: Floats) -> Floats:
    """The thresholds of a proof, those a hair lower that settle these jobs: a price begins above what they have, or rounding hides it."""
    assert one.proof is not None  # noqa: S101  (the caller looked)
    at = one.proof.at.copy()
    rows_of = classes.of[one.jobs]
    for row in np.flatnonzero((at > 0.0) & (one.proof.slope > 0.0) & np.isin(one.proof.of, rows_of)).tolist():
        mine = speeds[one.jobs[rows_of == one.proof.of[row]]]
        if (np.abs(mine - at[row]) <= BESIDE * at[row]).any():
            at[row] *= 1.0 - LOWERED
    return at


def _full_speed(classes: Classes, jobs: list[int]) -> tuple[Worth, ...]:
    """Time is all that these jobs lack, or all money where they may spend none."""
    top, ids, dearest = classes.top[classes.of], classes.market.jobs.ids, np.zeros(classes.count)
    dear = (classes.budget[classes.entry_class] == 0.0) & (classes.entry_usd > 0.0)
    np.maximum.at(dearest, classes.entry_class[dear], classes.entry_speed[dear] / classes.entry_usd[dear])
    dearest *= max(1.0, float(classes.market.factors.max()))
    slope = 1.0 / np.maximum(classes.unit, dearest)[classes.of]  # all numbers of a proof are at most about 1, whatever a step is
    return tuple(
        Worth(
            job=ids[job],
            pieces=(Piece(slope=float(slope[job])),),
            time_price=float(top[job] * slope[job]),
            budget_price=float(dearest[classes.of[job]] * slope[job]),
        )
        for job in jobs
    )


def _scaled(found: Gauged) -> Gauged:
    """The same proof with its largest number 1: steps and dollars have every size, and a plan's numbers have not."""
    prices, loss = found.prices, found.loss
    scale = 1.0 / max(
        1e-300, *(float(one.max(initial=0.0)) for one in (prices.gpu, prices.packed, prices.time, prices.budget, found.slope))
    )
    told = Prices(prices.gpu * scale, prices.packed * scale, prices.time * scale, prices.budget * scale)
    return replace(found, prices=told, slope=found.slope * scale, loss=None if loss is None else loss * scale)


def _proof(classes: Classes, found: Gauged) -> dict[str, Any]:
    found = _scaled(found)
    market, prices = classes.market, found.prices
    gpu, packed = _clear(prices.gpu), _clear(prices.packed)
    told: dict[str, Any] = {
        "prices": tuple(
            Price(accelerator=name, price=float(price), packed_price=float(more))
            for name, price, more in zip(market.accelerators.ids, gpu, packed, strict=True)
            if price > 0.0 or more > 0.0
        )
    }
    slope = _clear(found.slope)
    by_job = classes.robust or bool(np.isfinite(classes.budget).any()) or _apart(classes)
    if by_job and not classes.robust and classes.count > MANY and not np.isfinite(classes.budget).any():
        return told | {"slopes": _slopes(classes, found)}
    worths = []
    paying = (_clear(prices.time) > 0.0) | (_clear(prices.budget) > 0.0)  # company may cost the proof something, too
    paying[found.of[slope > 0.0]] = True
    paying |= classes.budget == 0.0
    for k in np.flatnonzero(paying).tolist():
        rows = np.flatnonzero((found.of == k) & (slope > 0.0))
        worths += _worths(classes, found, k, rows, by_job=by_job)
    return told | {"worths": tuple(worths)}


def _apart(classes: Classes) -> bool:
    return len(classes.workload) != len(np.unique(classes.workload)) or classes.count > MANY


def _slopes(classes: Classes, found: Gauged) -> SlopeTable:
    total = np.zeros(classes.count)
    np.add.at(total, found.of, found.slope)
    paying = (total > 0.0) | (found.prices.time > 0.0)  # company may cost the proof something, too
    jobs = np.flatnonzero((classes.of >= 0) & paying[classes.of])
    of = classes.of[jobs]
    ids = classes.market.jobs.ids
    return SlopeTable(
        job=tuple(ids[job] for job in jobs.tolist()),
        slope=tuple(total[of].tolist()),
        time_price=tuple((found.prices.time[of]).tolist()),
    )


def _worths(classes: Classes, found: Gauged, k: int, rows: Ints, *, by_job: bool) -> list[Worth]:
    market = classes.market
    bad: tuple[Bad, ...] = ()
    if market.scenario_ids and len(rows):
        total = float(found.slope[rows].sum())
        bad = tuple(
            Bad(id=market.scenario_ids[found.scenario[row]], weight=min(1.0, float(found.slope[row]) / total)) for row in rows.tolist()
        )
        pieces: tuple[Piece, ...] = (Piece(slope=total),)
    else:
        pieces = tuple(Piece(threshold_steps_per_s=float(found.at[row]), slope=float(found.slope[row])) for row in rows.tolist())
    pieces = pieces or (Piece(slope=0.0),)
    if market.budget is not None and found.loss is not None and len(rows):
        fallen = found.loss[k] / float(found.slope[rows].sum())
        bad = tuple(
            Bad(id=name, weight=float(min(1.0, weight)))
            for name, weight in zip(market.accelerators.ids, fallen.tolist(), strict=True)
            if weight > 0.0
        )
    time, budget = float(found.prices.time[k]), float(found.prices.budget[k])
    if classes.budget[k] == 0.0:
        budget = _forbidding(classes, found, k)
    if not by_job:
        return [Worth(workload=market.workloads.ids[classes.workload[k]], pieces=pieces, time_price=time)]
    return [
        Worth(job=market.jobs.ids[job], pieces=pieces, time_price=time, budget_price=budget, bad=bad) for job in classes.members[k].tolist()
    ]


def _forbidding(classes: Classes, found: Gauged, k: int) -> float:
    """A price of money at which a class that may spend none is worth nothing where GPUs cost, whoever is beside it."""
    total = np.bincount(found.of, weights=found.slope, minlength=classes.count)
    usd = classes.entry_usd[(classes.entry_class == k) & (classes.entry_usd > 0.0)]
    if not len(usd):
        return 0.0
    dearest = float((total[classes.entry_class] * classes.entry_speed).max()) * max(1.0, float(classes.market.factors.max()))
    return min(4.0 * dearest / float(usd.min()), LARGEST_QUANTITY)


def _clear(values: Floats) -> Floats:
    return np.where(values > FAINT * values.max(initial=0.0), values, 0.0)
