"""Datasheet values of common boards: the first rung of the ladder. Efficiencies and overheads in them are assumed until measured.

Peaks are dense. Datasheets of the A100 and later print figures "with sparsity", twice as high, which the public table of mlco2 (MIT
licence) copies for the H100. FP32 of the matrix unit is FP32 outside of tensor cores.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from models.runtime.device import (
    Coefficient,
    DeviceKind,
    DeviceSpec,
    Link,
    Peak,
    Source,
    StartUp,
    Tier,
    assumed,
    starting_classes,
)
from models.runtime.job import Mode
from models.runtime.operators import ComputeUnit, Precision

if TYPE_CHECKING:
    from collections.abc import Sequence

TERA, GIGA, MIB = 1e12, 1e9, 2.0**20
DATASHEET_LOG_SD = 0.05
GPU_CALL_S, GPU_NARROW = 5e-6, 64.0  # a kernel launch; tensor cores multiply tiles of about this size
GPU_TENSORS_PER_UPDATE = 32  # on a GPU one kernel updates about so many tensors (foreach), on a CPU one
GPU_CONTEXT_GIB, GPU_START_UP_S, GPU_WARM_UP_S = 0.5, 8.0, 1.0
CPU_CALL_S, CPU_NARROW, CPU_START_UP_S = 8e-6, 4.0, 2.0
CPU_CONTEXT_GIB = 0.3  # a process that has loaded torch and run one step
LINK_ALPHA_S = 5e-6
GPUS_PER_NODE = 8


@dataclass(frozen=True, slots=True)
class Board:
    """One datasheet: dense peaks in TFLOPS, memory in GiB and GB/s, last cache in MiB, the link between GPUs in GB/s each way."""

    name: str
    fp32: float
    tf32: float | None
    bf16: float | None
    fp16: float | None
    memory_gib: float
    memory_gbytes_per_s: float
    cache_mib: float
    link_gbytes_per_s: float
    source: str
    date: str


BOARDS = (
    Board("K80", 4.37, None, None, None, 12, 240, 1.5, 16, "NVIDIA Tesla K80 board specification BD-07317, one of its two GPUs", "2015"),
    Board("P100-PCIE-16GB", 9.3, None, None, 18.7, 16, 732, 4, 16, "NVIDIA Tesla P100 PCIe datasheet", "2016"),
    Board("P100-SXM2-16GB", 10.6, None, None, 21.2, 16, 732, 4, 80, "NVIDIA Tesla P100 whitepaper WP-08019", "2016"),
    Board("V100-PCIE-16GB", 14.0, None, None, 112.0, 16, 900, 6, 16, "NVIDIA V100 datasheet", "2020"),
    Board("V100-SXM2-16GB", 15.7, None, None, 125.0, 16, 900, 6, 150, "NVIDIA V100 datasheet", "2020"),
    Board("V100-SXM2-32GB", 15.7, None, None, 125.0, 32, 900, 6, 150, "NVIDIA V100 datasheet", "2020"),
    Board("T4", 8.1, None, None, 65.0, 16, 320, 4, 16, "NVIDIA T4 datasheet", "2019"),
    Board("RTX-2080-Ti", 13.45, None, None, 53.8, 11, 616, 5.5, 16, "NVIDIA Turing whitepaper WP-09183, FP32 accumulation", "2018"),
    Board("Quadro-RTX-6000", 16.3, None, None, 130.5, 24, 672, 6, 16, "NVIDIA Turing whitepaper WP-09183", "2018"),
    Board("A100-SXM4-40GB", 19.5, 156.0, 312.0, 312.0, 40, 1555, 40, 300, "NVIDIA A100 datasheet", "2021"),
    Board("A100-SXM4-80GB", 19.5, 156.0, 312.0, 312.0, 80, 2039, 40, 300, "NVIDIA A100 datasheet", "2021"),
    Board("L4", 30.3, 60.0, 121.0, 121.0, 24, 300, 48, 32, "NVIDIA L4 datasheet, half of its figures with sparsity", "2023"),
    Board("H100-SXM5-80GB", 66.9, 494.7, 989.4, 989.4, 80, 3350, 50, 450, "NVIDIA H100 architecture whitepaper, dense", "2023"),
    Board("H200-SXM-141GB", 66.9, 494.7, 989.4, 989.4, 140, 4800, 50, 450, "NVIDIA H200 datasheet, dense", "2024"),
)


@cache
def known_devices() -> dict[str, DeviceSpec]:
    """Every known board by name."""
    return {board.name: _device(board) for board in BOARDS}


def _device(board: Board) -> DeviceSpec:
    def of(value: float) -> Coefficient:
        return Coefficient(value=value, source=Source.datasheet, date=board.date, note=board.source, log_sd=DATASHEET_LOG_SD)

    matrix = {Precision.fp32: board.fp32, Precision.tf32: board.tf32, Precision.bf16: board.bf16, Precision.fp16: board.fp16}
    peaks = [
        Peak(unit=ComputeUnit.matrix, precision=precision, flops_per_s=of(tflops * TERA))
        for precision, tflops in matrix.items()
        if tflops is not None
    ]
    peaks.append(Peak(unit=ComputeUnit.vector, precision=Precision.fp32, flops_per_s=of(board.fp32 * TERA)))
    cache_rate = assumed(4 * board.memory_gbytes_per_s * GIGA, 0.4, "no datasheet value: four times the memory's")
    return DeviceSpec(
        name=board.name,
        kind=DeviceKind.gpu,
        peaks=tuple(peaks),
        classes=starting_classes(GPU_CALL_S, narrow=GPU_NARROW, update_overhead_s=GPU_CALL_S / GPU_TENSORS_PER_UPDATE),
        tiers=(
            Tier(name="cache", capacity_bytes=board.cache_mib * MIB, bytes_per_s=cache_rate),
            Tier(name="dram", bytes_per_s=of(board.memory_gbytes_per_s * GIGA)),
        ),
        memory_gib=board.memory_gib,
        context_gib=assumed(GPU_CONTEXT_GIB, 0.4),
        start_up_s=_start_ups(GPU_START_UP_S),
        warm_up_s=assumed(GPU_WARM_UP_S, 0.7),
        links=(
            Link(
                level="node",
                devices=GPUS_PER_NODE,
                alpha_s=assumed(LINK_ALPHA_S, 0.7),
                bytes_per_s=of(board.link_gbytes_per_s * GIGA),
            ),
        ),
    )


def cpu_device(  # noqa: PLR0913  (what a data sheet of a processor says)
    name: str,
    *,
    cores: int,
    ghz: float,
    fp32_flops_per_cycle: float,
    dram_gbytes_per_s: float,
    caches: Sequence[tuple[str, float, float]],
    memory_gib: float,
    bf16_flops_per_cycle: float | None = None,
    source: Source = Source.datasheet,
    note: str = "",
) -> DeviceSpec:
    """A CPU as a job gets it: ``cores`` that it is pinned to.

    ``fp32_flops_per_cycle`` of one core: 16 per 256-bit fused multiply-add unit, 32 per 512-bit unit. ``caches``: name, MiB and GB/s
    of those cores together, smallest first. Without ``bf16_flops_per_cycle`` (AMX, AVX512-BF16) 2-byte products go at half of FP32's pace.
    """

    def of(value: float, log_sd: float = 0.2) -> Coefficient:
        return Coefficient(value=value, source=source, note=note, log_sd=log_sd)

    cycles = cores * ghz * GIGA
    fp32 = of(cycles * fp32_flops_per_cycle)
    emulated = assumed(cycles * fp32_flops_per_cycle / 2, 0.5, "converted to FP32 and back")
    bf16 = emulated if bf16_flops_per_cycle is None else of(cycles * bf16_flops_per_cycle)
    matrix = {Precision.fp32: fp32, Precision.bf16: bf16, Precision.fp16: emulated}
    return DeviceSpec(
        name=name,
        kind=DeviceKind.cpu,
        peaks=(
            *(Peak(unit=ComputeUnit.matrix, precision=precision, flops_per_s=peak) for precision, peak in matrix.items()),
            Peak(unit=ComputeUnit.vector, precision=Precision.fp32, flops_per_s=fp32),
        ),
        classes=starting_classes(CPU_CALL_S, narrow=CPU_NARROW),
        tiers=(
            *(Tier(name=tier, capacity_bytes=mib * MIB, bytes_per_s=of(rate * GIGA, 0.4)) for tier, mib, rate in caches),
            Tier(name="dram", bytes_per_s=of(dram_gbytes_per_s * GIGA, 0.3)),
        ),
        memory_gib=memory_gib,
        context_gib=assumed(CPU_CONTEXT_GIB, 0.3),
        start_up_s=_start_ups(CPU_START_UP_S),
    )


def _start_ups(seconds: float) -> tuple[StartUp, ...]:
    return tuple(StartUp(mode=mode, seconds=assumed(seconds, 0.5)) for mode in Mode)
