"""The devices that whole jobs are run on: single cores, groups of cores, a GPU or several slots of one; and what each is called.

core:N       one core; a job has one thread, and CPU-seconds count
cores:A-B    a group of cores; a job has a thread for each, and wall seconds count
cuda:N       a GPU, one process at a time; given k times: k slots that share it (several processes at once); wall seconds count
"""

from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from models.runtime.device import DeviceKind

if TYPE_CHECKING:
    from collections.abc import Sequence


class UnknownDeviceError(ValueError):
    """Devices that are not there or exclude each other; the message says which there are."""


@dataclass(frozen=True, slots=True)
class Device:
    """Where one job runs at a time. ``kind`` is the kind of calibration it needs: ``core``, ``cores`` or ``cuda``.

    Its processes are pinned to ``cores``: those of a GPU to the cores that no other device has.
    """

    name: str
    kind: str
    cores: tuple[int, ...]
    slots: int = 1

    @property
    def torch_device(self) -> str:
        """What torch calls it."""
        return "cuda" if self.kind == "cuda" else "cpu"

    @property
    def threads(self) -> int:
        """Threads of a job."""
        return len(self.cores) if self.kind == "cores" else 1

    @property
    def metric(self) -> str:
        """What a job's length is told in: CPU-seconds where it has a core to itself, wall seconds elsewhere."""
        return "cpu_s" if self.kind == "core" else "wall_s"

    def title(self, *, at_once: bool) -> str:
        """What it really is, in words; virtual devices are called that."""
        what = {"core": "one core", "cores": f"{len(self.cores)} cores ({DeviceKind.device_partition.value}, not a GPU)", "cuda": "GPU"}
        shared = f", one of {self.slots} slots that share it ({DeviceKind.device_partition.value})" if self.slots > 1 else ""
        return what[self.kind] + shared + ("" if at_once else ", serial replay: devices ran one after the other, not at once")


def devices(texts: Sequence[str], *, at_once: bool = True, cuda: bool | None = None) -> tuple[Device, ...]:
    """The devices of a list such as ``("core:0", "core:1")``. ``cuda``: whether there is a GPU; None: ask torch when one is named.

    Raises UnknownDeviceError for what cannot be read, cores that this process may not use, a core given twice while devices run at
    once, no GPU, or no device.
    """
    known = usable_cores()
    counts = Counter(texts)
    met: Counter[str] = Counter()
    made = []
    for text in texts:
        kind, cores = _read(text, known)
        met[text] += 1
        repeated = counts[text] > 1 and (kind == "cuda" or not at_once)
        made.append(Device(f"{text}#{met[text]}" if repeated else text, kind, cores, counts[text] if repeated and at_once else 1))
    if not made:
        raise UnknownDeviceError("no device: give at least one, such as core:0")
    used = Counter(core for device in made for core in device.cores)
    twice = sorted(core for core, count in used.items() if count > 1)
    if at_once and twice:
        raise UnknownDeviceError(f"core {twice[0]} is given twice, and devices that run at once need cores of their own")
    names = [device.name for device in made]
    if len(set(names)) < len(names):
        raise UnknownDeviceError(f"{next(name for name in names if names.count(name) > 1)} is given twice: name each device once")
    if any(device.kind == "cuda" for device in made) and not (_cuda_is_there() if cuda is None else cuda):
        raise UnknownDeviceError("torch sees no CUDA GPU here: give cores (core:0,core:1), or run it where there is a GPU")
    rest = tuple(core for core in known if core not in used)
    return tuple(replace(device, cores=rest) if device.kind == "cuda" else device for device in made)


def usable_cores() -> tuple[int, ...]:
    """The cores that this process may use."""
    return tuple(sorted(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else tuple(range(os.cpu_count() or 1))


def _read(text: str, known: tuple[int, ...]) -> tuple[str, tuple[int, ...]]:
    if re.fullmatch(r"cuda:0", text):
        return "cuda", ()
    if found := re.fullmatch(r"core:(\d+)", text):
        cores: tuple[int, ...] = (int(found[1]),)
    elif (found := re.fullmatch(r"cores:(\d+)-(\d+)", text)) and int(found[1]) < int(found[2]):
        cores = tuple(range(int(found[1]), int(found[2]) + 1))
    else:
        raise UnknownDeviceError(f"{text!r} is no device: give core:N, cores:A-B (A below B) or cuda:0")
    missing = [core for core in cores if core not in known]
    if missing:
        few = f"; with {len(known)} core only, --serial-replay runs devices one after the other" if len(known) == 1 else ""
        raise UnknownDeviceError(f"{text}: this process may use the cores {', '.join(map(str, known))}, not {missing[0]}{few}")
    return text.partition(":")[0], cores


def _cuda_is_there() -> bool:
    from service.measure.machine import cuda_is_there

    return cuda_is_there()
