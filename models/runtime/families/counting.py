"""Counts the operators of a network layer by layer: forward as it is built, backward with the exceptions that really hold.

Sizes are in numbers, not bytes; the tally knows the bytes of one number. Backward is what torch's autograd runs: for a product both
gradients, each with the FLOPs of the forward product, except the gradient of an input that needs none (the first layer's).
FLOPs of operators bound by memory are nominal (README.md, "FLOPs and bytes"): calibration fits their classes' efficiency.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from models.runtime.job import JobSpec, OptimizerName, Weights
from models.runtime.operators import Operator, OperatorClass, Phase, Precision, Work, merged

if TYPE_CHECKING:
    from collections.abc import Iterator

INDEX_BYTES = 8  # torch indexes with int64
FP32_BYTES = 4
FLASH_BACKWARD = 2.5  # five products against two: the fused kernel computes the scores again (Dao et al., FlashAttention, 2022)

# Update kernels of torch's single-tensor loops: (calls per tensor, FLOPs per parameter, numbers read, numbers written). Adam's first
# call only counts the steps.
UPDATES = {
    OptimizerName.sgd: (1, 2, 2, 1),
    OptimizerName.momentum: (3, 5, 5, 3),
    OptimizerName.adam: (8, 12, 11, 7),
    OptimizerName.adamw: (9, 13, 12, 8),
}


class Tally:
    """Operators, parameters and kept activations of the layers added so far, for one micro-batch of ``job``."""

    def __init__(self, job: JobSpec) -> None:
        self.job = job
        self.training = job.training
        self.number_bytes = job.precision.bytes
        self.operators: list[Operator] = []
        self.kept_bytes = 0.0
        self.largest_live_bytes = 0.0
        self.tensors: Counter[int] = Counter()
        self.tables: Counter[tuple[int, int, int]] = Counter()

    # ------------------------------------------------------------ bookkeeping

    def add(  # noqa: PLR0913  (an operator has that many sizes)
        self,
        cls: OperatorClass,
        flops: float,
        read: float,
        written: float,
        key: str,
        *,
        phase: Phase = Phase.forward,
        calls: float = 1.0,
        narrow: float = 0.0,
        extra_bytes: float = 0.0,
    ) -> None:
        """One operator; ``read`` and ``written`` in numbers, ``extra_bytes`` are read beside (indices). Backward only when training."""
        if phase is not Phase.forward and not self.training:
            return
        size = self.number_bytes
        name = f"{cls.value} {key}"
        read_bytes, written_bytes = read * size + extra_bytes, written * size
        self.operators.append(Operator(cls, self.job.precision, flops, read_bytes, written_bytes, calls, name, narrow, phase))

    def keep(self, numbers: float, extra_bytes: float = 0.0) -> None:
        """An activation that the backward pass needs."""
        if self.training:
            self.kept_bytes += numbers * self.number_bytes + extra_bytes

    def live(self, numbers: float) -> None:
        """Activations that are alive at the same time."""
        self.largest_live_bytes = max(self.largest_live_bytes, numbers * self.number_bytes)

    def parameter(self, *sizes: int) -> None:
        """One parameter tensor for each size (its number of parameters)."""
        self.tensors.update(sizes)

    def table(self, rows: int, lookups: int, width: int) -> None:
        """A table of which one step looks up ``lookups`` rows: the gradient of the others is zeros, and so are their moments."""
        self.tables[rows, lookups, width] += 1

    def repeat(self, block: Tally, times: int, *, kept_bytes: float | None = None) -> None:
        """``block`` in a row ``times``; each keeps ``kept_bytes``, left out: all its own."""
        self.operators += [operator.times(times) for operator in block.operators]
        self.tensors.update({size: count * times for size, count in block.tensors.items()})
        self.tables.update({sizes: count * times for sizes, count in block.tables.items()})
        self.largest_live_bytes = max(self.largest_live_bytes, block.largest_live_bytes)
        self.kept_bytes += times * (block.kept_bytes if kept_bytes is None else kept_bytes)

    def checkpointed(self, block: Tally, times: int, input_numbers: float, *, ends_in_product: bool = False) -> None:
        """As ``repeat``; with checkpointing each keeps only its input, and runs forward again, one at a time, before it runs backward.

        ``ends_in_product``: the block's last product is only added to its input. No gradient needs the result, so torch stops before it.
        """
        if not (self.training and self.job.checkpointing):
            self.repeat(block, times)
            return
        self.repeat(block, times, kept_bytes=input_numbers * self.number_bytes)
        forward = [operator for operator in block.operators if operator.phase is Phase.forward]
        if ends_in_product:
            forward = forward[: max(place for place, operator in enumerate(forward) if operator.cls is OperatorClass.matmul)]
        self.operators += [_again(operator).times(times) for operator in forward]
        self.largest_live_bytes = max(self.largest_live_bytes, block.kept_bytes + block.largest_live_bytes)

    # ------------------------------------------------------------ products

    def linear(self, rows: int, inputs: int, outputs: int, *, bias: bool = True, input_gradient: bool = True, own: bool = True) -> None:
        """A dense layer on ``rows`` rows. ``own``: it has parameters of its own (not those of an embedding, whose gradient it fills)."""
        if own:
            self.parameter(inputs * outputs)
        else:
            self._fill_tables()
        if bias:
            self.parameter(outputs)
        self.product(1, rows, inputs, outputs, weight=True, left_gradient=input_gradient)
        if bias:
            self.bias_gradient(rows, outputs)
        if self.job.weights is Weights.autocast and self.number_bytes < FP32_BYTES:
            self.casts(inputs * outputs)
        self.keep(rows * inputs)
        self.live(rows * (inputs + outputs))

    def bias_gradient(self, rows: int, outputs: int) -> None:
        """A gradient summed over its rows."""
        self.add(OperatorClass.reduction, rows * outputs, rows * outputs, outputs, f"bias {rows}x{outputs}", phase=Phase.backward)

    def _fill_tables(self) -> None:
        """The tables' gradients are dense: an output layer shares them."""
        self.tensors.update({rows * width: count for (rows, _, width), count in self.tables.items()})
        self.tables.clear()

    def product(self, batch: int, rows: int, inner: int, columns: int, *, weight: bool = False, left_gradient: bool = True) -> None:
        """``batch`` products (rows x inner) (inner x columns) in one call, forward and both gradients."""
        flops = 2.0 * batch * rows * inner * columns
        left, right, result = batch * rows * inner, batch * inner * columns, batch * rows * columns
        key = f"{batch}x{rows}x{inner}x{columns}{' weight' if weight else ''}"
        narrow = float(min(rows, inner, columns))
        self.add(OperatorClass.matmul, flops, left + right, result, key, narrow=narrow)
        self.add(OperatorClass.matmul, flops, result + left, right, f"{key} right gradient", phase=Phase.backward, narrow=narrow)
        if left_gradient:
            self.add(OperatorClass.matmul, flops, result + right, left, f"{key} left gradient", phase=Phase.backward, narrow=narrow)

    def convolution(
        self, samples: int, channels: int, filters: int, kernel: int, px: int, out_px: int, *, groups: int = 1, input_gradient: bool = True
    ) -> None:
        """A square convolution without bias; torch computes both gradients in one call."""
        inner = channels // groups * kernel**2
        self.parameter(filters * inner)
        flops = 2.0 * samples * filters * out_px**2 * inner
        image, result, weight = samples * channels * px**2, samples * filters * out_px**2, filters * inner
        cls = _convolution_class(kernel, groups)
        key = f"{samples}x{channels}x{px} {kernel}x{kernel} to {filters}x{out_px}{f' by {groups}' if groups > 1 else ''}"
        narrow = float(min(samples * out_px**2, inner, filters // groups))
        self.add(cls, flops, image + weight, result, key, narrow=narrow)
        products = 1 + input_gradient
        read, written = result + image + input_gradient * weight, weight + input_gradient * image
        self.add(cls, products * flops, read, written, f"{key} gradients", phase=Phase.backward, narrow=narrow)
        if self.job.weights is Weights.autocast and self.number_bytes < FP32_BYTES:
            self.casts(weight)
        self.keep(image)
        self.live(image + result)

    def attention(self, samples: int, queries: int, keys: int, width: int, heads: int, *, causal: bool) -> None:
        """Fused scaled-dot-product attention: 4 * samples * queries * keys * width FLOPs, half of that when causal."""
        flops = 4.0 * samples * queries * keys * width * (0.5 if causal else 1.0)
        query, cached = samples * queries * width, samples * keys * width
        key = f"{samples}x{queries}x{keys} {heads} heads of {width // heads}{' causal' if causal else ''}"
        narrow = float(min(queries, keys, width // heads))
        self.add(OperatorClass.attention, flops, query + 2 * cached, query, key, narrow=narrow)
        read, written = 3 * query + 2 * cached, query + 2 * cached
        backward = FLASH_BACKWARD * flops
        self.add(OperatorClass.attention, backward, read, written, f"{key} gradients", phase=Phase.backward, narrow=narrow)
        self.keep(query + 2 * cached, extra_bytes=FP32_BYTES * samples * heads * queries)  # logarithms of the sums, for the backward pass
        self.live(2 * query + 2 * cached)

    def recurrent(self, samples: int, steps: int, width: int) -> None:
        """One LSTM layer of ``width`` units on inputs of that width: four gates of two products, a call for each time step."""
        self.parameter(4 * width**2, 4 * width**2, 4 * width, 4 * width)
        flops = 16.0 * samples * width**2 + 9.0 * samples * width
        state, weight = samples * width, 8 * width**2
        narrow = float(min(samples, width))
        key = f"{samples}x{width} {steps} steps"  # a layer's weights are packed once for all of them
        self.add(OperatorClass.recurrent, flops, weight + 3 * state, 2 * state, key, calls=steps, narrow=narrow)
        # Going backward each step reads the weights for the inputs' gradients and adds to the weights' gradients.
        read, written = 2 * weight + 9 * state, weight + 3 * state
        backward = 2 * flops
        self.add(OperatorClass.recurrent, backward, read, written, f"{key} gradients", calls=steps, phase=Phase.backward, narrow=narrow)
        self.keep(steps * 7 * state)  # input, four gates, cell, output
        self.live(steps * 2 * state)

    # ------------------------------------------------------------ bound by memory

    def elementwise(self, numbers: int, *, operands: int = 1, backward: bool = True, calls: float = 1.0) -> None:
        """``operands`` arrays in, one out, one FLOP each; going backward the gradient and one kept array in, one out."""
        self.add(OperatorClass.elementwise, numbers, operands * numbers, numbers, f"{operands}x{numbers}", calls=calls)
        if backward:
            self.add(OperatorClass.elementwise, numbers, 2 * numbers, numbers, f"{numbers} gradient", phase=Phase.backward, calls=calls)

    def gradients_added(self, numbers: int) -> None:
        """Two gradients of one array are added."""
        self.add(OperatorClass.elementwise, numbers, 2 * numbers, numbers, f"sum {numbers}", phase=Phase.backward)

    def gradients_joined(self, numbers: int) -> None:
        """Gradients of query, key and value, views of one array: each is padded with zeros to its size, and the three are added."""
        self.add(OperatorClass.copy, 0.0, numbers, 4 * numbers, f"into zeros {numbers}", phase=Phase.backward, calls=3)
        self.add(OperatorClass.elementwise, 3 * numbers, 6 * numbers, 3 * numbers, f"sum {3 * numbers}", phase=Phase.backward, calls=2)

    def batches_seen(self) -> None:
        """One number that counts batches: nothing but a call."""
        self.add(OperatorClass.elementwise, 1, 1, 1, "batches seen")

    def transcendental(self, numbers: int, name: str, flops_each: int = 8) -> None:
        """A function of each number with exp or erf in it; it keeps its input."""
        self.add(OperatorClass.transcendental, flops_each * numbers, numbers, numbers, f"{name} {numbers}")
        backward = 2 * flops_each * numbers
        self.add(OperatorClass.transcendental, backward, 2 * numbers, numbers, f"{name} {numbers} gradient", phase=Phase.backward)
        self.keep(numbers)
        self.live(2 * numbers)

    def layer_normalisation(self, rows: int, width: int) -> None:
        """Normalises each row; it keeps its input and two numbers a row."""
        numbers = rows * width
        self.parameter(width, width)
        self.add(OperatorClass.normalisation, 7 * numbers, numbers, numbers, f"rows {rows}x{width}")
        self.add(OperatorClass.normalisation, 14 * numbers, 2 * numbers, numbers, f"rows {rows}x{width} gradients", phase=Phase.backward)
        self.keep(numbers, extra_bytes=2 * FP32_BYTES * rows)

    def batch_normalisation(self, samples: int, channels: int, px: int) -> None:
        """Normalises each channel; training works out the statistics, counts the batches seen, and keeps its input."""
        numbers = samples * channels * px**2
        self.parameter(channels, channels)
        each = 7 if self.training else 2
        fixed = "" if self.training else " fixed"
        self.add(OperatorClass.normalisation, each * numbers, numbers, numbers, f"channels {channels}x{px} {samples}{fixed}")
        key = f"channels {channels}x{px} {samples} gradients"
        self.add(OperatorClass.normalisation, 11 * numbers, 2 * numbers, numbers, key, phase=Phase.backward)
        if self.training:
            self.batches_seen()
        self.keep(numbers)

    def pooling(self, samples: int, channels: int, px: int, out_px: int, kernel: int, *, indices: bool) -> None:
        """Maximum (``indices``: it remembers where) or mean over windows."""
        image, result = samples * channels * px**2, samples * channels * out_px**2
        remembered = INDEX_BYTES * result if indices and self.training else 0
        self.add(OperatorClass.pooling, kernel**2 * result, image, result, f"{samples}x{channels}x{px} to {out_px}", extra_bytes=remembered)
        key = f"{samples}x{channels}x{px} to {out_px} gradient"
        read = result + image if indices else result
        self.add(OperatorClass.pooling, image, read, image, key, phase=Phase.backward, extra_bytes=remembered)
        if indices:
            self.keep(image, extra_bytes=remembered)

    def reduction(self, numbers: int, results: int) -> None:
        """Sums ``numbers`` into ``results``; going backward a gradient is spread out again."""
        self.add(OperatorClass.reduction, numbers, numbers, results, f"{numbers} to {results}")
        self.add(OperatorClass.copy, 0.0, results, numbers, f"{results} to {numbers}", phase=Phase.backward)

    def embedding(self, table_rows: int, lookups: int, width: int, *, results: int | None = None) -> None:
        """Rows of a table gathered (summed to ``results`` rows where given). The gradient is dense: it fills the whole table."""
        written = (lookups if results is None else results) * width
        self.table(table_rows, lookups, width)
        key = f"{lookups}{'' if results is None else f' to {results}'} of {table_rows}x{width}"
        indices = INDEX_BYTES * lookups
        summed = 0.0 if results is None else lookups * width
        self.add(OperatorClass.embedding, summed, lookups * width, written, key, extra_bytes=indices)
        self.add(
            OperatorClass.embedding,
            float(lookups * width),
            written,
            table_rows * width,
            f"{key} gradient",
            phase=Phase.backward,
            extra_bytes=indices,
        )

    def copy(self, numbers: int, key: str = "", *, backward: bool = True) -> None:
        """Moves numbers without computing; going backward as many move again."""
        self.add(OperatorClass.copy, 0.0, numbers, numbers, f"{key} {numbers}")
        if backward:
            self.add(OperatorClass.copy, 0.0, numbers, numbers, f"{key} {numbers} gradient", phase=Phase.backward)

    def zeros(self, numbers: int) -> None:
        """An array of zeros that gradients are put into."""
        self.add(OperatorClass.copy, 0.0, 0.0, numbers, f"zeros {numbers}", phase=Phase.backward)

    def positions_gradient(self, rows: int, positions: int, width: int, *, known: int | None = None) -> None:
        """The gradient of ``positions`` vectors, summed over the samples of ``rows``; put into zeros for all that are ``known``."""
        numbers = rows * width
        key = f"positions {rows // positions}x{positions}x{width}"
        self.add(OperatorClass.reduction, numbers, numbers, positions * width, key, phase=Phase.backward)
        self.zeros((positions if known is None else known) * width)

    def pairs(self, samples: int, vectors: int) -> None:
        """The products below the diagonal of each sample, picked by index; going backward they are added into zeros."""
        self.copy(samples * (vectors * (vectors - 1) // 2), f"pairs of {vectors}")
        self.zeros(samples * vectors**2)

    def cross_entropy(self, rows: int, classes: int) -> None:
        """Log-softmax and the loss of the right class; training only."""
        if not self.training:
            return
        numbers = rows * classes
        self.add(OperatorClass.softmax, 5 * numbers, numbers, numbers, f"loss {rows}x{classes}")
        self.add(OperatorClass.softmax, 4 * numbers, 2 * numbers, numbers, f"loss {rows}x{classes} gradient", phase=Phase.backward)
        self.add(OperatorClass.copy, 0.0, 0.0, numbers, f"picked {rows}x{classes}", phase=Phase.backward)
        self.keep(numbers)
        self.live(2 * numbers)

    def casts(self, numbers: int) -> None:
        """Autocast: fp32 parameters to 2 bytes going forward, their gradients to fp32 going backward; not the tally's number size."""
        for phase, read, written in ((Phase.forward, FP32_BYTES, 2), (Phase.backward, 2, FP32_BYTES)):
            if phase is Phase.forward or self.training:
                name = f"copy cast {numbers}"
                cast = Operator(OperatorClass.copy, self.job.precision, 0.0, read * numbers, written * numbers, 1.0, name, 0.0, phase)
                self.operators.append(cast)

    # ------------------------------------------------------------ the whole

    @property
    def parameters(self) -> int:
        """Number of parameters."""
        in_tables = sum(rows * width * count for (rows, _, width), count in self.tables.items())
        return in_tables + sum(size * count for size, count in self.tensors.items())

    def work(self, *, cache_bytes: float = 0.0, boundary: float = 0.0, reduced: float = 0.0) -> Work:
        """The work of the layers with the update; ``boundary`` and ``reduced`` in numbers (see ``Work``)."""
        weight_bytes = parameter_bytes(self.job)
        gradient = gradient_bytes(self.job) * self.parameters if self.training else 0.0
        return Work(
            operators=merged([*self.operators, *(self._update() if self.training else ())]),
            activation_bytes=self.kept_bytes + self.largest_live_bytes,
            parameters=self.parameters,
            parameter_bytes=float(weight_bytes * self.parameters),
            cache_bytes=cache_bytes,
            gradient_bytes=gradient,
            boundary_bytes=boundary * self.number_bytes,
            reduced_bytes=reduced * self.number_bytes,
        )

    def _update(self) -> Iterator[Operator]:
        kernels, flops, read, written = UPDATES[self.job.optimizer]
        size = self.job.precision.bytes if self.job.weights is Weights.same else FP32_BYTES
        precision = self.job.precision if size < FP32_BYTES else Precision.fp32
        for (numbers, key), tensors in sorted(self._updated().items()):
            each = numbers / kernels
            name = f"optimiser {self.job.optimizer.value} {key}"
            calls, flops_each, read_each, written_each = kernels * tensors, flops * each, read * each * size, written * each * size
            yield Operator(OperatorClass.optimiser, precision, flops_each, read_each, written_each, calls, name, 0.0, Phase.update)

    def _updated(self) -> Counter[tuple[int, str]]:
        """Tensors to update, by size and key. Roots of zeros take a CPU five times as long: tables under Adam are a kind of their own."""
        found = Counter({(size, str(size)): count for size, count in self.tensors.items()})
        rooted = self.job.optimizer in {OptimizerName.adam, OptimizerName.adamw}
        for (rows, lookups, width), count in self.tables.items():
            size = rows * width
            found[size, f"{lookups} of {rows}x{width}" if rooted else str(size)] += count
        return found


def parameter_bytes(job: JobSpec) -> int:
    """Bytes of one parameter as the network keeps it: fp32 under autocast, else the job's precision."""
    return FP32_BYTES if job.weights is Weights.autocast else job.precision.bytes


def gradient_bytes(job: JobSpec) -> int:
    """Bytes of one parameter's gradient: of the type of the parameter."""
    return parameter_bytes(job)


def _again(operator: Operator) -> Operator:
    """A forward operator computed again: its time belongs to the backward pass, its FLOPs are a forward call's."""
    return replace(operator, shape_key=f"{operator.shape_key} again", phase=Phase.backward)


def _convolution_class(kernel: int, groups: int) -> OperatorClass:
    if groups > 1:
        return OperatorClass.depthwise_convolution
    return OperatorClass.pointwise_convolution if kernel == 1 else OperatorClass.convolution
