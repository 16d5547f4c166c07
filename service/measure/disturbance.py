"""When a measurement counts: the rule by which disturbed runs are rejected, fixed before any of them was made.

A run is judged by what others did meanwhile (kernel accounts of the processor, not samples) and by how its own repeats
agree. It is not judged by its result: a slow job is not a disturbed one. A rejected row is kept and says why.

    rule                  a run is rejected when                                                       CPU    CUDA
    foreign_on_core       others had more than 10% of the time of the core the job is pinned to         x
    foreign_elsewhere     others kept the other cores busy for more than 50% of their time              x
    steal                 the hypervisor took more than 2% of the machine's time                        x      x
    repeats_differ        interquartile range of the repeats above 10% of their median (CPU-seconds;     x      x
                          device seconds on CUDA)
    too_few_repeats       fewer than three repeats fitted the time                                      x      x
    foreign_on_device     others held more than 1 GiB of the GPU's memory                                      x

Why these: CPU-seconds do not count the time in which another process had the core, so a little of it costs only cache; load on
other cores is felt through the shared cache and memory, less than on the core itself. Where it is felt, the repeats differ too,
and they have a rule of their own. The limits are judgement, made before the first run; none was moved after it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Sequence

MOST_FOREIGN_ON_CORE = 0.10
MOST_FOREIGN_ELSEWHERE = 0.50
MOST_STEAL = 0.02
MOST_SPREAD = 0.10
FEWEST_REPEATS = 3
MOST_FOREIGN_ON_DEVICE_GIB = 1.0


class Disturbance(StrEnum):
    """Why a run does not count."""

    foreign_on_core = "foreign_on_core"
    foreign_elsewhere = "foreign_elsewhere"
    steal = "steal"
    repeats_differ = "repeats_differ"
    too_few_repeats = "too_few_repeats"
    foreign_on_device = "foreign_on_device"


@dataclass(frozen=True, slots=True)
class Accounts:
    """The kernel's accounts at one moment: seconds each core was busy (whoever had it), seconds stolen, and our own CPU-seconds."""

    at_s: float
    busy_s: tuple[float, ...]
    steal_s: float
    own_s: float


@dataclass(frozen=True, slots=True)
class Load:
    """What others did during a run, as shares of the time there was: on the job's core, on the other cores, and in the hypervisor."""

    on_core: float
    elsewhere: float
    steal: float


def accounts() -> Accounts:
    """The accounts now, with the CPU-seconds of this process."""
    cores = psutil.cpu_times(percpu=True)
    return Accounts(
        at_s=time.monotonic(),
        busy_s=tuple(_busy(core) for core in cores),
        steal_s=sum(float(getattr(core, "steal", 0.0)) for core in cores),
        own_s=time.process_time(),
    )


def _busy(core: object) -> float:
    return sum(float(getattr(core, field, 0.0)) for field in ("user", "nice", "system", "irq", "softirq"))


def load_between(before: Accounts, after: Accounts, cores: Sequence[int]) -> Load:
    """What others did between two accounts of a process pinned to ``cores``; shares of a window too short to tell (20 ms) are 0."""
    window_s = after.at_s - before.at_s
    if window_s < 0.02:  # noqa: PLR2004  (two ticks of the kernel's clock)
        return Load(0.0, 0.0, 0.0)
    busy = [later - earlier for later, earlier in zip(after.busy_s, before.busy_s, strict=True)]
    ours = [core for core in cores if core < len(busy)]
    on_core = sum(busy[core] for core in ours) - (after.own_s - before.own_s)
    elsewhere = sum(busy) - sum(busy[core] for core in ours)
    others = len(busy) - len(ours)
    return Load(
        on_core=_share(on_core, window_s * len(ours)),
        elsewhere=_share(elsewhere, window_s * others),
        steal=_share(after.steal_s - before.steal_s, window_s * len(busy)),
    )


def _share(part_s: float, whole_s: float) -> float:
    return min(1.0, max(0.0, part_s / whole_s)) if whole_s > 0 else 0.0


def judged(load: Load, spread: float, repeats: int, *, foreign_on_device_gib: float | None = None) -> tuple[Disturbance, ...]:
    """The rules a run breaks; empty: it counts.

    ``spread`` is the interquartile range of the repeats over their median. ``foreign_on_device_gib`` None: a job of the CPU.
    """
    on_cpu = foreign_on_device_gib is None
    broken = {
        Disturbance.foreign_on_core: on_cpu and load.on_core > MOST_FOREIGN_ON_CORE,
        Disturbance.foreign_elsewhere: on_cpu and load.elsewhere > MOST_FOREIGN_ELSEWHERE,
        Disturbance.steal: load.steal > MOST_STEAL,
        Disturbance.repeats_differ: spread > MOST_SPREAD,
        Disturbance.too_few_repeats: repeats < FEWEST_REPEATS,
        Disturbance.foreign_on_device: not on_cpu and (foreign_on_device_gib or 0.0) > MOST_FOREIGN_ON_DEVICE_GIB,
    }
    return tuple(rule for rule, is_broken in broken.items() if is_broken)


def is_quiet(core: int, look_s: float = 0.3) -> bool:
    """Whether the machine is quiet enough now for a job on ``core``, by a look of ``look_s`` seconds."""
    before = accounts()
    time.sleep(look_s)
    seen = load_between(before, accounts(), (core,))
    return seen.on_core <= MOST_FOREIGN_ON_CORE and seen.elsewhere <= MOST_FOREIGN_ELSEWHERE


def wait_for_quiet(core: int, most_s: float) -> float:
    """Waits at most ``most_s`` seconds for a quiet machine and returns how long it waited; the run's own accounts judge it after all."""
    begun = time.monotonic()
    while (waited := time.monotonic() - begun) < most_s:
        if is_quiet(core):
            return waited
    return waited
