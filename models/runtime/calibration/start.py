"""The first rung: a device to start from, of a machine that was measured, before any of its rows count."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.runtime.device import Source
from models.runtime.devices_known import cpu_device, known_devices
from models.runtime.operators import OperatorClass

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.runtime.device import DeviceSpec
    from models.runtime.records import Machine, OperatorRecord

GIGA, KIB_PER_MIB = 1e9, 1024.0
ASSUMED_GHZ, FLOPS_PER_CYCLE = 2.5, 32.0  # one core with 512-bit fused multiply-adds at half rate, or 256-bit ones at full rate
CACHE_GBYTES_PER_S = {"l1d": 200.0, "l2": 60.0, "l3": 30.0}
DRAM_GBYTES_PER_S = 12.0  # of one core


class UnknownDeviceError(ValueError):
    """A machine that no datasheet is known of; the message says what to give instead."""


def starting_device(machine: Machine, operators: Sequence[OperatorRecord] = ()) -> DeviceSpec:
    """The GPU's datasheet, or one core of the processor: caches as measured, its peak from the quickest measured product.

    Raises UnknownDeviceError for a GPU without a known datasheet.
    """
    if machine.gpu is not None:
        return _board(machine.gpu)
    rates = [
        row.operator.flops * row.operator.calls / row.timing.seconds
        for row in operators
        if row.timing is not None
        and row.timing.seconds > 0
        and row.operator.cls is OperatorClass.matmul
        and row.operator.precision.bytes > 2  # noqa: PLR2004
    ]
    ghz = max(rates) / FLOPS_PER_CYCLE / GIGA if rates else ASSUMED_GHZ
    sizes = [(level, machine.caches_kib[level] / KIB_PER_MIB) for level in ("l2", "l3") if machine.caches_kib.get(level)]
    return cpu_device(
        machine.name,
        cores=1,
        ghz=ghz,
        fp32_flops_per_cycle=FLOPS_PER_CYCLE,
        dram_gbytes_per_s=DRAM_GBYTES_PER_S,
        caches=[(level, mib, CACHE_GBYTES_PER_S[level]) for level, mib in sizes],
        memory_gib=max(machine.memory_gib, 1e-3),
        source=Source.measured if rates else Source.assumed,
        note="peak: the quickest measured product" if rates else "",
    )


def _board(name: str) -> DeviceSpec:
    """The known board whose words are all in the GPU's name: 'NVIDIA H200' is H200-SXM-141GB."""
    known = known_devices()
    words = set(name.upper().replace("-", " ").split())
    for board, device in known.items():
        if board.split("-", maxsplit=1)[0].upper() in words:
            return device
    raise UnknownDeviceError(f"there is no datasheet of '{name}'; give a DeviceSpec to start from (known are {', '.join(known)})")
