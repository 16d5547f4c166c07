"""A large model on little GPU memory: weights, key-value cache and activations of inference across GPU, host memory and disk.

``offload_problem`` writes it as a tiering: what is read in every decoding step are objects, GPU memory, host memory and disk are tiers.
``step_times`` and ``peak_memory`` read a plan of it: how long a step takes when transfers overlap with computing, layer by layer, and what
each tier holds at most. After Y. Sheng et al., "FlexGen: high-throughput generative inference of large language models with a
single GPU" (ICML 2023), whose cost model is the maximum over the ways that carry data at the same time; the page derives the formulas.

Sizes are in GiB, rates in Gbit/s, times in seconds, for one decoding step: one token for each sequence of the batch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from models.tiering.schema import GoalName, Object, Problem, Tier

if TYPE_CHECKING:
    from collections.abc import Mapping

    from models.tiering.schema import Plan

BYTES_PER_GIB = 2.0**30
GBIT_PER_GIB = 8.589934592
GPU, HOST, DISK = "gpu", "host", "disk"
Part = Literal["weights", "cache", "activations"]
PARTS: tuple[Part, ...] = ("weights", "cache", "activations")
BUFFERS = 2  # what comes from elsewhere is kept twice: one layer is worked on while the next arrives


@dataclass(frozen=True, slots=True)
class Transformer:
    """A decoder with ``layers`` equal layers.

    ``key_value_size``: numbers in the keys (and again in the values) of one token; left out: the hidden size, as without shared heads.
    ``parameters_per_layer``: left out: 12 hidden**2, four matrices of attention and two of the feed-forward part, each of those as
    large as four.
    """

    layers: int
    hidden: int
    key_value_size: int | None = None
    parameters_per_layer: float | None = None
    bytes_per_number: float = 2.0

    def __post_init__(self) -> None:
        """Refuse what is no model."""
        if self.layers < 1 or self.hidden < 1 or self.bytes_per_number <= 0:
            raise ValueError("a model has at least one layer, a hidden size of at least 1 and numbers of more than 0 bytes")

    @property
    def parameters(self) -> float:
        """Parameters of one layer."""
        return 12.0 * self.hidden**2 if self.parameters_per_layer is None else self.parameters_per_layer

    @property
    def weights_gib(self) -> float:
        """Weights of one layer."""
        return self.parameters * self.bytes_per_number / BYTES_PER_GIB

    def cache_gib(self, batch: int, sequence: int) -> float:
        """Keys and values of one layer for ``batch`` sequences of ``sequence`` tokens."""
        width = self.hidden if self.key_value_size is None else self.key_value_size
        return 2.0 * batch * sequence * width * self.bytes_per_number / BYTES_PER_GIB

    def activations_gib(self, batch: int) -> float:
        """What one layer hands to the next in a decoding step."""
        return batch * self.hidden * self.bytes_per_number / BYTES_PER_GIB

    def flops(self, batch: int, sequence: int) -> float:
        """Operations of one layer in a decoding step: two for each weight and sequence, and attention over all tokens."""
        return batch * (2.0 * self.parameters + 4.0 * sequence * self.hidden)


@dataclass(frozen=True, slots=True)
class Memory:
    """One place for data. ``to_gpu_gbps``: how fast the GPU gets it from there; for the GPU's own memory, how fast it reads it."""

    capacity_gib: float
    to_gpu_gbps: float
    usd_per_gib_month: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what holds or carries nothing."""
        if not (self.capacity_gib >= 0 and math.isfinite(self.capacity_gib) and self.to_gpu_gbps > 0):
            raise ValueError("a memory has a finite capacity of at least 0 and a rate above 0")


@dataclass(frozen=True, slots=True)
class Setting:
    """A model, its batch of sequences, and what it runs on. What comes from disk passes host memory, at the disk's rate."""

    model: Transformer
    batch: int
    sequence: int
    gpu: Memory
    host: Memory
    disk: Memory
    gpu_tflops: float
    blocks: int = 1

    def __post_init__(self) -> None:
        """Refuse what cannot run."""
        if self.batch < 1 or self.sequence < 1 or self.blocks < 1 or self.gpu_tflops <= 0:
            raise ValueError("batch, sequence and blocks are at least 1, and gpu_tflops is above 0")

    @property
    def memories(self) -> dict[str, Memory]:
        """By tier."""
        return {GPU: self.gpu, HOST: self.host, DISK: self.disk}

    @property
    def gib_of(self) -> dict[Part, float]:
        """One layer of each part."""
        return {
            "weights": self.model.weights_gib,
            "cache": self.model.cache_gib(self.batch, self.sequence),
            "activations": self.model.activations_gib(self.batch),
        }

    @property
    def buffer_gib(self) -> float:
        """GPU memory that layers which come from elsewhere pass through."""
        gib = self.gib_of
        return BUFFERS * sum(gib.values())

    @property
    def staging_gib(self) -> float:
        """Host memory that layers from disk pass through: as much."""
        return self.buffer_gib

    @property
    def compute_s(self) -> float:
        """Time of one layer with all at hand: operations, or reading weights and cache from the GPU's own memory where that is slower."""
        gib = self.gib_of
        reading = (gib["weights"] + gib["cache"]) * GBIT_PER_GIB / self.gpu.to_gpu_gbps
        return max(self.model.flops(self.batch, self.sequence) / (self.gpu_tflops * 1e12), reading)


def offload_problem(setting: Setting, steps_per_s: float = 1.0) -> Problem:
    """The tiering: ``weights-l``, ``cache-l-b`` (block b of layer l) and ``activations``, read once in each step; goal access time.

    GPU and host capacities are those left beside the buffers. The access time, at one step per second, is what all transfers of a
    step take one after another. ``step_times`` then lets them overlap.

    Raises ValueError when not even the buffers fit.
    """
    gib = setting.gib_of
    rooms = {GPU: setting.gpu.capacity_gib - setting.buffer_gib, HOST: setting.host.capacity_gib - setting.staging_gib}
    for tier, room in rooms.items():
        if room < 0:
            raise ValueError(f"the {tier} memory is {-room:.6g} GiB too small for the buffers that layers from elsewhere pass through")
    rooms[DISK] = setting.disk.capacity_gib
    tiers = tuple(
        Tier(
            id=name,
            capacity_gib=rooms[name],
            stream_gbps=memory.to_gpu_gbps,
            usd_per_gib_month=memory.usd_per_gib_month,
        )
        for name, memory in setting.memories.items()
    )
    objects = [
        Object(id="activations", size_gib=gib["activations"], read_gbps=2 * setting.model.layers * _gbps(gib["activations"], steps_per_s))
    ]
    for layer in range(setting.model.layers):
        objects.append(_read_once(f"weights-{layer}", gib["weights"], steps_per_s))
        block = gib["cache"] / setting.blocks
        objects += [_read_once(f"cache-{layer}-{number}", block, steps_per_s) for number in range(setting.blocks)]
    return Problem(goals=(GoalName.access_time, GoalName.cost), tiers=tiers, objects=tuple(objects))


def _gbps(gib: float, steps_per_s: float) -> float:
    return gib * GBIT_PER_GIB * steps_per_s


def _read_once(name: str, gib: float, steps_per_s: float) -> Object:
    return Object(id=name, size_gib=gib, read_gbps=_gbps(gib, steps_per_s))


@dataclass(frozen=True, slots=True)
class StepTimes:
    """One decoding step. ``layer_s``: each layer's time; ``compute_s``: computing alone; ``carried_s``: what each way carries, all layers.

    ``step_s`` is the sum of the layers' times, ``apart_s`` what it would be if nothing overlapped. ``tokens_per_s`` for the whole batch.
    """

    layer_s: tuple[float, ...]
    compute_s: float
    carried_s: dict[str, float]
    apart_s: float
    tokens_per_s: float

    @property
    def step_s(self) -> float:
        """Time of the step."""
        return sum(self.layer_s)


def step_times(setting: Setting, plan: Plan) -> StepTimes:
    """How long a step takes: in each layer the longest of computing, disk to host, host to GPU, and back.

    Host to GPU carries what stands on host and on disk; the way back carries the new keys and values of the step, and activations
    that do not stay. Transfers of one layer overlap with the computing of another, so each layer takes as long as its busiest way.

    Raises KeyError when an object has no copy.
    """
    gib, where = setting.gib_of, _places(plan)
    new_cache = gib["cache"] / setting.sequence / setting.blocks
    layers = []
    carried = {"disk to host": 0.0, "host to gpu": 0.0, "gpu to host": 0.0, "host to disk": 0.0}
    apart = 0.0
    for layer in range(setting.model.layers):
        loads = dict.fromkeys(carried, 0.0)
        _carry(loads, where[f"weights-{layer}"], gib["weights"], 0.0)
        for block in range(setting.blocks):
            _carry(loads, where[f"cache-{layer}-{block}"], gib["cache"] / setting.blocks, new_cache)
        _carry(loads, where["activations"], gib["activations"], gib["activations"])
        times = {
            way: amount * GBIT_PER_GIB / (setting.disk if "disk" in way else setting.host).to_gpu_gbps for way, amount in loads.items()
        }
        layers.append(max(setting.compute_s, *times.values()))
        apart += setting.compute_s + sum(times.values())
        for way, seconds in times.items():
            carried[way] += seconds
    return StepTimes(tuple(layers), setting.compute_s * setting.model.layers, carried, apart, setting.batch / sum(layers))


def _places(plan: Plan) -> Mapping[str, str]:
    return dict(zip(plan.copies.object, plan.copies.tier, strict=True))


def _carry(loads: dict[str, float], tier: str, gib: float, back_gib: float) -> None:
    """Add what a part that stands on a tier puts on the ways: ``gib`` to the GPU and ``back_gib`` from it."""
    if tier == GPU:
        return
    loads["host to gpu"] += gib
    loads["gpu to host"] += back_gib
    if tier == DISK:
        loads["disk to host"] += gib
        loads["host to disk"] += back_gib


def peak_memory(setting: Setting, plan: Plan) -> dict[str, float]:
    """The most GiB that each tier holds in a step: what stands there, and the buffers of what passes through.

    A GPU that has everything needs no buffers, and host memory none where nothing comes from disk. Of what passes, the largest two
    neighbouring layers are held at once, the last and the first being neighbours: one step follows another.
    """
    gib, where = setting.gib_of, _places(plan)
    held = dict.fromkeys(setting.memories, 0.0)
    through: dict[str, list[float]] = {GPU: [], HOST: []}
    working = (where["activations"], gib["activations"])
    held[working[0]] += working[1]
    for layer in range(setting.model.layers):
        parts = [(where[f"weights-{layer}"], gib["weights"])]
        parts += [(where[f"cache-{layer}-{block}"], gib["cache"] / setting.blocks) for block in range(setting.blocks)]
        for tier, amount in parts:
            held[tier] += amount
        parts.append(working)
        through[GPU].append(sum(amount for tier, amount in parts if tier != GPU))
        through[HOST].append(sum(amount for tier, amount in parts if tier == DISK))
    for tier, passing in through.items():
        neighbours = zip(passing, passing[1:] + passing[:1], strict=True)
        held[tier] += max(one + other for one, other in neighbours) if len(passing) > 1 else BUFFERS * passing[0]
    return held
