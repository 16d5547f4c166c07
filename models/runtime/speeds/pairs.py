"""Speeds of two jobs on one device, predicted by the interference model from pairs that were measured there.

A plan chooses among the predictions those that flatter, so that medians promise more than the chosen pairs keep: pairs that were not
measured are told by their tenth percentile, unless the median is asked for, to find out which pairs to measure next.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from models.runtime.prediction.memory import fits_probability
from models.runtime.records import Sharing
from models.runtime.speeds.interference import JobType, PairSpeed, filled_pairs, fit
from models.runtime.speeds.predicted import LEAST_FIT, listed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from models.runtime.job import JobSpec
    from models.runtime.records import PairRecord
    from models.runtime.speeds.interference import FilledPair
    from models.runtime.speeds.predicted import Offer, Speed, Speeds

ONE_DEVICE = frozenset({Sharing.same_core, Sharing.same_device})  # in turns or at once; two cores are two devices


def paired(speeds: Speeds, measured: Mapping[str, Sequence[PairRecord]], *, least_fit: float = LEAST_FIT, medians: bool = False) -> Speeds:
    """The speeds with pairs of one-device jobs on the accelerators where pairs were ``measured``; warnings tell how many are predicted.

    A pair is left out where the memory of both does not suffice, and where taking turns does more. Raises ValueError for an accelerator
    that is not on offer, or without a pair that ran on one device.
    """
    offers = {offer.id: offer for offer in speeds.offers}
    pairs, warnings = list(speeds.pairs), list(speeds.warnings)
    for accelerator, rows in measured.items():
        if accelerator not in offers:
            raise ValueError(f"pairs were measured on '{accelerator}', which is not on offer (there are: {', '.join(offers)})")
        here = [one for one in speeds.found if one.accelerator == accelerator and speeds.specs[one.workload].parallel.devices == 1]
        specs = {one.workload: speeds.specs[one.workload].spec for one in here}
        types, known = _normalised(specs, rows)
        if not known:
            raise ValueError(f"no accepted pair ran on one '{accelerator}'; measure some (quartermaster runtime measure --pairs N)")
        model = fit(types, known)
        filled = filled_pairs(
            model, {one.workload: one.steps_per_s for one in here}, known, fits=_fits(offers[accelerator], here, least_fit)
        )
        useful = _useful(filled if medians else [_slow(one) for one in filled], here)
        pairs += [_document(accelerator, one) for one in useful]
        guessed = sum(one.predicted for one in useful)
        told = f"{accelerator}: {guessed} of {len(useful)} pairs are predicted from {len(known)} measured ones"
        seen = {job.name for job, there in zip(model.jobs, model.measured, strict=True) if there}
        strange = [name for name in specs if name not in seen]
        warnings.append(told + (f"; extrapolated, since in no measured pair: {listed(strange)}" if strange else ""))
    return replace(speeds, pairs=tuple(pairs), warnings=tuple(warnings))


def _normalised(specs: Mapping[str, JobSpec], rows: Sequence[PairRecord]) -> tuple[list[JobType], list[PairSpeed]]:
    """The types of all jobs, and what each attained beside another of its speed alone; the last measurement of a pair counts."""
    names = {_key(spec): name for name, spec in specs.items()}  # a workload that was measured in pairs is found by what it is
    types = {name: _type(name, spec) for name, spec in specs.items()}
    known: dict[frozenset[str], PairSpeed] = {}
    for row in rows:
        slow_downs = row.slow_downs
        if not row.accepted or slow_downs is None or row.sharing not in ONE_DEVICE:
            continue
        first, second = (names.get(_key(spec), _key(spec)) for spec in (row.first, row.second))
        types |= {name: _type(name, spec) for name, spec in ((first, row.first), (second, row.second)) if name not in types}
        one, other = (min(1.0, 1.0 / slow) for slow in slow_downs)
        if first == second:  # two jobs of one workload are alike
            one = other = (one + other) / 2
        known[frozenset((first, second))] = PairSpeed(first, second, one, other)
    return list(types.values()), list(known.values())


def _fits(offer: Offer, here: Sequence[Speed], least_fit: float) -> Callable[[str, str], bool]:
    """Whether two workloads fit into the device's memory together."""
    need = {one.workload: one.need.total_gib for one in here}

    def fits(first: str, second: str) -> bool:
        return fits_probability(need[first] + need[second], offer.device.memory_gib, offer.device.memory_log_sd) >= least_fit

    return fits


def _slow(pair: FilledPair) -> FilledPair:
    """The pair at its tenth percentiles."""
    return pair._replace(first_steps_per_s=pair.first_slow_steps_per_s, second_steps_per_s=pair.second_slow_steps_per_s)


def _useful(pairs: Sequence[FilledPair], here: Sequence[Speed]) -> list[FilledPair]:
    """Those in which both together do at least what taking turns does; no plan uses another."""
    alone = {one.workload: one.steps_per_s for one in here}
    return [one for one in pairs if one.first_steps_per_s / alone[one.first] + one.second_steps_per_s / alone[one.second] >= 1.0]


def _document(accelerator: str, pair: FilledPair) -> dict[str, Any]:
    """The pair of a problem."""
    return {
        "accelerator": accelerator,
        "first": pair.first,
        "second": pair.second,
        "first_steps_per_s": pair.first_steps_per_s,
        "second_steps_per_s": pair.second_steps_per_s,
    }


def _key(spec: JobSpec) -> str:
    """What is the same for two specs of one job, whatever they are called and however long they run."""
    return spec.model_copy(update={"id": "", "steps": 1}).model_dump_json(exclude_defaults=True)


def _type(name: str, spec: JobSpec) -> JobType:
    return JobType(name, f"{spec.family.value} {spec.mode.value}", float(spec.batch))
