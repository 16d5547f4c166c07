"""A torch job made from a ``JobSpec``: the network with random weights, synthetic inputs, and a function that does one step."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from models.runtime.job import Family, JobSpec, Mode, OptimizerName, Weights
from models.runtime.operators import Precision
from service.measure.networks import Cnn, Decoder, Encoder, Lstm, Mlp, Recommender

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor, nn

SEED = 1
LEARNING_RATE = 1e-3
STORED = {Precision.fp32: torch.float32, Precision.tf32: torch.float32, Precision.bf16: torch.bfloat16, Precision.fp16: torch.float16}
NETWORKS: dict[Family, type[nn.Module]] = {
    Family.mlp: Mlp,
    Family.cnn: Cnn,
    Family.encoder: Encoder,
    Family.decoder: Decoder,
    Family.recommender: Recommender,
    Family.lstm: Lstm,
}


class UnmeasurableError(ValueError):
    """A job that is legal to predict and cannot be run here; the message says why and what to change."""


@dataclass(frozen=True)
class TorchJob:
    """A network, its inputs and targets on a device, and its optimiser (None: inference). ``step`` does one step and returns nothing."""

    spec: JobSpec
    network: nn.Module
    inputs: tuple[Tensor, ...]
    forward: Callable[..., Tensor]
    loss: Callable[[Tensor], Tensor]
    optimizer: torch.optim.Optimizer | None
    device: str

    def cast(self) -> contextlib.AbstractContextManager[Any]:
        """Autocast where the job's weights stay in fp32."""
        if self.spec.weights is Weights.autocast and self.spec.precision.bytes == 2:  # noqa: PLR2004  (numbers of 2 bytes)
            cast: contextlib.AbstractContextManager[Any] = torch.autocast(self.device, STORED[self.spec.precision])
            return cast
        return contextlib.nullcontext()

    def step(self) -> None:
        """One step: an update from ``grad_accum`` micro-batches, one forward pass, or one token per sample."""
        if self.optimizer is None:
            with torch.inference_mode(), self.cast():
                self.forward(*self.inputs)
            return
        self.gradients()
        self.update()

    def gradients(self) -> None:
        """Forward and backward of all micro-batches; the gradients are added up."""
        for _ in range(self.spec.parallel.grad_accum):
            with self.cast():
                loss = self.loss(self.forward(*self.inputs))
            loss.backward()  # type: ignore[no-untyped-call, unused-ignore]

    def update(self) -> None:
        """The optimiser's step; the gradients are let go."""
        if self.optimizer is not None:
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)


def refuse_unmeasurable(spec: JobSpec) -> None:
    """Raises UnmeasurableError for what the measuring process does not run."""
    if spec.family is Family.traced:
        raise UnmeasurableError("/family: a traced job has no network of ours; measure one of the families")
    if spec.parallel.devices > 1:
        raise UnmeasurableError("/parallel: one device is measured at a time; set dp, tp and pp to 1")
    if spec.weights is Weights.master:
        raise UnmeasurableError("/weights: master copies are not run here; use same or autocast")


def configure(precision: Precision, threads: int) -> None:
    """Sets what torch keeps for the whole process: threads, denormals flushed to zero, TF32 only where it is asked for."""
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    torch.manual_seed(SEED)
    allowed = precision is Precision.tf32
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed
    torch.backends.cudnn.benchmark = False  # its choice would depend on the moment of the first step


def built(spec: JobSpec, device: str) -> TorchJob:
    """The job on ``device`` (``cpu`` or ``cuda``).

    Raises UnmeasurableError, and torch's own errors where memory does not suffice.
    """
    refuse_unmeasurable(spec)
    stored = torch.float32 if spec.weights is Weights.autocast else STORED[spec.precision]
    with torch.device(device), _default_type(stored):
        network = NETWORKS[spec.family](spec)
        inputs, target = _data(spec, stored)
    network.train(spec.training)
    forward: Callable[..., Tensor] = network
    if spec.mode is Mode.decode and isinstance(network, Decoder):
        forward = network.one_more
    optimizer = _optimizer(spec, network) if spec.training else None
    return TorchJob(spec, network, inputs, forward, _loss(spec, target), optimizer, device)


@contextlib.contextmanager
def _default_type(stored: torch.dtype) -> Iterator[None]:
    """Networks are made in the type they are kept in: a cast afterwards would need the memory of both."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(stored)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _data(spec: JobSpec, stored: torch.dtype) -> tuple[tuple[Tensor, ...], Tensor]:
    """Inputs and target, made once: the input pipeline is no part of a step."""
    batch = spec.batch
    if spec.family is Family.mlp:
        return (torch.randn(batch, spec.inputs, dtype=stored),), torch.randint(spec.classes, (batch,))
    if spec.family is Family.cnn:
        image = torch.randn(batch, spec.channels, spec.image_px, spec.image_px, dtype=stored)
        return (image,), torch.randint(spec.classes, (batch,))
    if spec.family is Family.recommender:
        dense = torch.randn(batch, spec.inputs, dtype=stored)
        rows = torch.randint(spec.table_rows, (spec.tables, batch, spec.lookups))
        return (dense, rows), torch.randint(2, (batch, 1)).to(stored)
    if spec.mode is Mode.decode:
        caches = torch.randn(spec.layers, 2, batch, spec.heads, spec.seq + 1, spec.width // spec.heads, dtype=stored)
        if spec.weights is Weights.autocast:
            caches = caches.to(STORED[spec.precision])
        return (torch.randint(spec.vocab, (batch, 1)), caches), torch.empty(0)
    tokens = torch.randint(spec.vocab, (batch, spec.seq))
    return (tokens,), torch.randint(spec.classes, (batch,)) if spec.family is Family.encoder else torch.roll(tokens, -1, 1)


def _loss(spec: JobSpec, target: Tensor) -> Callable[[Tensor], Tensor]:
    if spec.family is Family.recommender:
        return lambda score: functional.binary_cross_entropy_with_logits(score, target)
    return lambda score: functional.cross_entropy(score.flatten(0, -2), target.flatten())


def _optimizer(spec: JobSpec, network: nn.Module) -> torch.optim.Optimizer:
    parameters = list(network.parameters())
    match spec.optimizer:
        case OptimizerName.sgd:
            return torch.optim.SGD(parameters, LEARNING_RATE)
        case OptimizerName.momentum:
            return torch.optim.SGD(parameters, LEARNING_RATE, momentum=0.9)
        case OptimizerName.adam:
            return torch.optim.Adam(parameters, LEARNING_RATE)
        case OptimizerName.adamw:
            return torch.optim.AdamW(parameters, LEARNING_RATE)
