"""Made-up devices with round numbers, for the tests of the runtime model."""

from typing import Any

from models.runtime.device import ClassCoefficients, Coefficient, DeviceKind, DeviceSpec, Link, Peak, Source, StartUp, Tier
from models.runtime.job import Mode
from models.runtime.operators import CLASSES, ComputeUnit, Precision


def measured(value: float) -> Coefficient:
    return Coefficient(value=value, source=Source.measured, date="2026-01-01", version="torch 2.13.0")


def plain_device(**changes: Any) -> DeviceSpec:
    """1e12 FLOP/s at efficiency 0.5, 1e11 bytes/s, 1 us a call, no cache; start-up 2 s for training."""
    rows = tuple(ClassCoefficients(cls=cls, efficiency=measured(0.5), traffic=measured(1.0), overhead_s=measured(1e-6)) for cls in CLASSES)
    sizes: dict[str, Any] = {
        "name": "plain",
        "kind": DeviceKind.gpu,
        "peaks": (Peak(unit=ComputeUnit.matrix, precision=Precision.fp32, flops_per_s=measured(1e12)),),
        "classes": rows,
        "tiers": (Tier(name="dram", bytes_per_s=measured(1e11)),),
        "memory_gib": 16.0,
        "start_up_s": (StartUp(mode=Mode.train, seconds=measured(2.0)),),
    }
    return DeviceSpec(**(sizes | changes))


def tiered_device(**changes: Any) -> DeviceSpec:
    """As the plain one with a cache, narrow products that suffer, and slower arithmetic going backward."""
    rows = tuple(
        ClassCoefficients(
            cls=cls,
            efficiency=measured(0.5),
            narrow=measured(8.0),
            backward=measured(1.5),
            traffic=measured(1.25),
            overhead_s=measured(3e-6),
        )
        for cls in CLASSES
    )
    tiers = (
        Tier(name="cache", capacity_bytes=1e6, bytes_per_s=measured(4e11)),
        Tier(name="dram", bytes_per_s=measured(5e10)),
    )
    peaks = (
        Peak(unit=ComputeUnit.matrix, precision=Precision.fp32, flops_per_s=measured(1e12)),
        Peak(unit=ComputeUnit.vector, precision=Precision.fp32, flops_per_s=measured(2e11)),
    )
    return plain_device(**({"classes": rows, "tiers": tiers, "peaks": peaks} | changes))


def links() -> tuple[Link, ...]:
    """Four devices in a node, eight nodes."""
    return (
        Link(level="node", devices=4, alpha_s=measured(1e-6), bytes_per_s=measured(1e11)),
        Link(level="rack", devices=8, alpha_s=measured(1e-5), bytes_per_s=measured(1e10)),
    )
