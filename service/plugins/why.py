"""Why a job waits and what would help, in one sentence for whoever waits for it."""

from __future__ import annotations

import re
from collections import Counter
from datetime import datetime
from typing import TYPE_CHECKING

from service.plugins.orders import Wait

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import tzinfo

    from models.contract import Reason
    from service.plugins.cluster import SeenJob
    from service.plugins.evictions import Evictions
    from service.plugins.forecast import Forecast
    from service.plugins.planner import Planned
    from service.plugins.problem import Asked

MOST_NAMES = 3
ALIKE = re.compile(r"\s*And [\d,.]+ alike\.$")  # said of a group; here each job has a sentence of its own
LEVELS = {"site": "site", "row": "row", "rack": "rack", "nvlink_domain": "NVLink domain", "node": "node"}


def waits(
    asked: Asked,
    found: Planned | None,
    now: float,
    *,
    forecasts: Mapping[str, Forecast] | None = None,
    evictions: Mapping[str, Evictions] | None = None,
    passed: Mapping[str, Sequence[str]] | None = None,
    zone: tzinfo | None = None,
) -> dict[str, Wait]:
    """A sentence for each planned job that the plan leaves out. ``now`` and the forecasts are by the scheduler's clock.

    Times are told by the wall clock of ``zone``, or of this machine. A sentence is ``proved`` only when all of it is.
    """
    known = _refusals(asked, found.reasons if found is not None else ())
    placed = found.placements if found is not None else {}
    told = {}
    for name in asked.planned:
        if name not in placed:
            job = asked.jobs[name]
            by = (passed or {}).get(name, ())
            told[name] = _wait(asked, job, known.get(name), (forecasts or {}).get(name), (evictions or {}).get(name), by, now, zone)
    return told


def need(job: SeenJob) -> str:
    """What a job asks for, in words: 8 GPUs on one rack."""
    gpus, workers = job.gpus_per_worker, job.workers
    if gpus == 0:
        what = f"{_amount(job.cpu_cores * workers)} CPU core{'' if job.cpu_cores * workers == 1 else 's'}"
    else:
        total = gpus * workers
        what = f"{_amount(total)} {_either(job.gpu_models)}GPU{'' if total == 1 else 's'}" if total >= 1 else f"{_amount(total)} of a GPU"
    if workers > 1:
        what += f" ({workers} workers of {_amount(gpus)})" if gpus else f" ({workers} workers)"
    if job.together is not None and job.together_required and workers > 1:
        return f"{what} on one {LEVELS.get(job.together, job.together)}"
    return f"{what} on one node" if workers == 1 and gpus > 1 else what


def clock_text(at: float, now: float, zone: tzinfo | None = None) -> str:
    """A moment by the wall clock: 14:10 today, 2026-03-01 14:10 on another day."""
    try:
        moment, today = datetime.fromtimestamp(at, zone), datetime.fromtimestamp(now, zone)
    except (ValueError, OverflowError, OSError):  # a limit of many thousand years
        return "a time that no calendar has"
    return moment.strftime("%H:%M" if moment.date() == today.date() else "%Y-%m-%d %H:%M")


def _wait(
    asked: Asked,
    job: SeenJob,
    refusal: Reason | None,
    forecast: Forecast | None,
    evicted: Evictions | None,
    passed: Sequence[str],
    now: float,
    zone: tzinfo | None,
) -> Wait:
    parts = []
    if passed:
        verbs = "starts instead and weighs" if len(passed) == 1 else "start instead and together weigh"
        parts.append(f"{_called(asked, passed)} of lower priority {verbs} more")
    if forecast is not None:
        parts.append(_when(asked, job, forecast, now, zone))
    elif refusal is not None and not passed:
        text = ALIKE.sub("", refusal.text)
        parts.append(text[:1].lower() + text[1:].rstrip("."))
    elif not passed:
        parts.append("what runs and what goes first leave no room")
    if forecast is None:
        parts.append("no time limit of a running job says when there is room")
    if evicted is not None:
        parts.append(f"or evict {_called(asked, evicted.jobs)}" + ("" if evicted.fewest else ", perhaps fewer"))
    proved = refusal is not None and refusal.status == "proved" and forecast is None and not passed and (evicted is None or evicted.fewest)
    text = f"waiting for {need(job)}: {'; '.join(parts)}"
    return Wait(job.id, job.identity, text, "proved" if proved else "heuristic", forecast.at if forecast is not None else None)


def _when(asked: Asked, job: SeenJob, forecast: Forecast, now: float, zone: tzinfo | None) -> str:
    if not forecast.after:
        return (
            "there is room, and a later round may start it"
            if forecast.at <= now
            else f"there is room at {clock_text(forecast.at, now, zone)}"
        )
    where = f"{len(forecast.nodes)} nodes free" if len(forecast.nodes) > 1 else f"node {forecast.nodes[0]} frees"
    if job.together is not None and job.together_required and job.workers > 1 and job.together != "node":
        domain = getattr(asked.nodes[forecast.nodes[0]].topology, job.together)
        where = f"{LEVELS.get(job.together, job.together)} {domain} frees"
    limits = f"time limit{'s' if len(forecast.after) > 1 else ''} of {_called(asked, forecast.after)}"
    return f"{where} at {clock_text(forecast.at, now, zone)} at the latest ({limits})"


def _refusals(asked: Asked, reasons: Iterable[Reason]) -> dict[str, Reason]:
    """The first refusal of each job; alike jobs are explained once, so a job gets that of the one it is like."""
    first: dict[str, Reason] = {}
    for reason in reasons:
        if reason.code == "why_not":
            first.setdefault(reason.subject, reason)
    alike = {_wish(asked.jobs[name]): reason for name, reason in first.items() if name in asked.jobs}
    found = {}
    for name in asked.planned:
        known = first.get(name) or alike.get(_wish(asked.jobs[name]))
        if known is not None:
            found[name] = known
    return found


def _wish(job: SeenJob) -> tuple[object, ...]:
    sizes = (job.tenant, job.workers, job.gpus_per_worker, job.gpu_memory_gib, job.cpu_cores, job.memory_gib)
    places = (job.gpu_models, frozenset(job.node_selector.items()), job.nodes_allowed, job.together if job.together_required else None)
    return (*sizes, *places, job.one_worker_per_node)


def _either(models: tuple[str, ...]) -> str:
    return f"{' or '.join(models)} " if 0 < len(models) <= MOST_NAMES else ""


def _called(asked: Asked, ids: Sequence[str]) -> str:
    """The jobs as people call them; those whose name another one of them has are told apart by their ids."""
    shown = [asked.jobs[one].name if one in asked.jobs else one for one in ids]
    twice = {name for name, count in Counter(shown).items() if count > 1}
    return _listed([f"{name} ({one})" if name in twice and name != one else name for one, name in zip(ids, shown, strict=True)])


def _listed(names: list[str]) -> str:
    shown = names if len(names) <= MOST_NAMES else [*names[:MOST_NAMES], f"{len(names) - MOST_NAMES} more"]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def _amount(value: float) -> str:
    return f"{value:g}" if value < 1 else f"{round(value, 2):,}".rstrip("0").rstrip(".") if value != int(value) else f"{int(value):,}"
