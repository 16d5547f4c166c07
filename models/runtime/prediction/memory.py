"""How much memory a job needs on each of its devices, and how probably that fits.

Weights, gradients and moments after Rajbhandari et al., "ZeRO", 2020 (16 bytes a parameter for mixed-precision Adam: 2 + 2 + 4 + 4 + 4);
activations as counted layer by layer (``Work``), which for a transformer block agrees with Korthikanti et al., "Reducing activation
recomputation in large transformer models", 2022: s*b*h*(34 + 5*a*s/h) bytes at 2 bytes a number, of which 2 are dropout masks and
5*a*s/h are scores and their masks, that fused attention does not keep.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

from models.runtime.families.counting import FP32_BYTES, gradient_bytes, parameter_bytes
from models.runtime.families.work import work as closed_form
from models.runtime.job import Weights

if TYPE_CHECKING:
    from models.runtime.device import DeviceSpec
    from models.runtime.job import JobSpec
    from models.runtime.operators import Work

GIB = 2.0**30
NOT_SPLIT = 10 / 34  # share of a block's activations that tensor-parallel shards all keep (Korthikanti et al., 2022, section 4.2)


@dataclass(frozen=True, slots=True)
class MemoryNeed:
    """Memory of one of the job's devices.

    ``parts_gib``: weights, gradients, moments, activations, cache, fragmentation, context; they add up to ``total_gib``, the median.
    ``fits_probability``: that the need is at most ``available_gib``, with a normal error of its logarithm.
    """

    parts_gib: dict[str, float]
    total_gib: float
    available_gib: float
    fits_probability: float

    @property
    def fits(self) -> bool:
        """Whether the median need is there."""
        return self.total_gib <= self.available_gib


def state_bytes(job: JobSpec) -> dict[str, int]:
    """Bytes of one parameter's weight, gradient and moments; a master copy counts with the moments."""
    if not job.training:
        return {"weights": parameter_bytes(job)}
    each = parameter_bytes(job) if job.weights is not Weights.master else FP32_BYTES
    master = FP32_BYTES if job.weights is Weights.master and job.precision.bytes < FP32_BYTES else 0
    return {"weights": parameter_bytes(job), "gradients": gradient_bytes(job), "moments": job.optimizer.moments * each + master}


def memory(job: JobSpec, device: DeviceSpec, work: Work | None = None) -> MemoryNeed:
    """The need of ``job`` on devices of this type; ``work`` is that of a traced job, left out for families.

    Raises ValueError for a traced job without work.
    """
    work = closed_form(job) if work is None else work
    spread = job.parallel
    shards = spread.tp * spread.pp
    in_bytes = {name: each * work.parameters / shards for name, each in state_bytes(job).items()}
    if job.weights is Weights.autocast and job.precision.bytes < FP32_BYTES:
        in_bytes["weights"] += job.precision.bytes * work.parameters / shards  # the casts that autocast keeps until the step ends
    in_bytes["activations"] = work.activation_bytes * _activation_share(job)
    in_bytes["cache"] = work.cache_bytes / shards
    used = math.fsum(in_bytes.values())
    in_bytes["fragmentation"] = used * (device.fragmentation.value - 1.0)
    parts = {name: size / GIB for name, size in in_bytes.items() if size > 0}
    if device.context_gib.value > 0:
        parts["context"] = device.context_gib.value
    total = math.fsum(parts.values())
    return MemoryNeed(parts, total, device.memory_gib, fits_probability(total, device.memory_gib, device.memory_log_sd))


def _activation_share(job: JobSpec) -> float:
    """What one device keeps of a micro-batch's activations: a stage keeps 1/pp of each of the micro-batches under way, at most pp."""
    spread = job.parallel
    under_way = min(spread.pp, spread.grad_accum) if job.training else 1
    return under_way / spread.pp * (NOT_SPLIT + (1.0 - NOT_SPLIT) / spread.tp)


def fits_probability(need_gib: float, available_gib: float, log_sd: float) -> float:
    """Probability that a need whose logarithm is normal around that of ``need_gib`` is at most ``available_gib``."""
    if need_gib <= 0:
        return 1.0
    if log_sd == 0:
        return 1.0 if need_gib <= available_gib else 0.0
    return NormalDist().cdf(math.log(available_gib / need_gib) / log_sd)
