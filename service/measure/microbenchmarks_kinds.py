"""The kinds of operator that micro-benchmarks run: how each is counted, which of its parts run, and from which ranges its sizes come.

The ranges are those that the families span at the sizes a core can run, a little widened. Their points are a design, not the shapes
of any job.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from models.runtime.families.counting import Tally
from models.runtime.job import Family, JobSpec, Mode, OptimizerName, Weights
from models.runtime.operators import Operator, Precision
from service.measure.microbenchmarks_design import Range, points

if TYPE_CHECKING:
    from collections.abc import Callable

    Sizes = tuple[int, ...]
    Count = Callable[[Tally, Sizes], None]

MOST_FLOPS, MOST_BYTES = 1.5e9, 6.4e7  # of one operator with all its calls: 50 ms of a core
LOOKED_AT = 400  # points of a design at most
FORWARD, BACKWARD = "", "backward"
NARROW = frozenset({Precision.bf16, Precision.fp16})


@dataclass(frozen=True)
class Kind:
    """One kind: ``count`` adds its operators to a tally, ``parts`` names those that run (None: not that one), in that order.

    ``how_many`` sizes come from ``ranges`` through ``shape``; ``training``: counted as in a step of training.
    """

    count: Count
    how_many: int
    ranges: tuple[Range, ...]
    parts: tuple[str | None, ...] = (FORWARD, BACKWARD)
    shape: Callable[[Sizes], Sizes] = tuple
    training: bool = True
    optimizer: OptimizerName = OptimizerName.adamw
    autocast: bool = False

    def operators(self, precision: Precision, sizes: Sizes) -> dict[str, Operator]:
        """The operators that run, by part."""
        mode = Mode.train if self.training else Mode.prefill
        weights = Weights.autocast if self.autocast else Weights.same
        tally = Tally(JobSpec(family=Family.mlp, mode=mode, precision=precision, optimizer=self.optimizer, weights=weights))
        self.count(tally, sizes)
        found = tally.operators or tally.work().operators
        return {part: one for part, one in zip(self.parts, found, strict=False) if part is not None}

    def measured_sizes(self, precision: Precision) -> tuple[Sizes, ...]:
        """Its sizes: the first points of the design that do not take too long, each once. A cast needs a precision of 2 bytes."""
        if self.autocast and precision not in NARROW:
            return ()
        shapes = dict.fromkeys(map(self.shape, islice(points(self.ranges), LOOKED_AT)))
        return tuple(islice((sizes for sizes in shapes if self._is_short(precision, sizes)), self.how_many))

    def _is_short(self, precision: Precision, sizes: Sizes) -> bool:
        rows = self.operators(precision, sizes).values()
        return all(row.flops * row.calls <= MOST_FLOPS and row.bytes <= MOST_BYTES for row in rows)


# ---------------------------------------------------------------- sizes


SAMPLES, ROWS, WIDTH = Range(1, 16), Range(1, 1024), Range(128, 1024)
NUMBERS = Range(600, 4e6, width=False)


def _three_by_three(drawn: Sizes) -> Sizes:
    """Samples, channels, filters, kernel, pixels, pixels out, stride: networks halve the pixels where they double the channels."""
    samples, channels, row, stride = drawn
    px = max(2, row // channels)
    return samples, channels, channels * stride, 3, px, (px + 1) // 2 if stride > 1 else px, stride


def _pointwise(drawn: Sizes) -> Sizes:
    """Into and out of a bottleneck, and the shortcut where pixels are halved."""
    samples, channels, row, case = drawn
    px = max(2, row // channels)
    inner, outer = channels, 4 * channels
    ends = {1: (inner, outer, px, 1), 2: (outer, inner, px, 1), 3: (inner, 2 * inner, (px + 1) // 2, 2)}
    before, filters, out, stride = ends[case]
    return samples, before, filters, 1, px, out, stride


def _stem(drawn: Sizes) -> Sizes:
    samples, filters, px = drawn
    return samples, 3, filters, 7, px, (px + 1) // 2, 2


def _attended(drawn: Sizes) -> Sizes:
    samples, tokens, heads, each = drawn
    return samples, tokens, heads * each, heads


def _channels(drawn: Sizes) -> Sizes:
    samples, channels, row = drawn
    return samples, channels, max(1, row // channels)


def _pooled(drawn: Sizes) -> Sizes:
    samples, channels, px = drawn
    return samples, channels, px, (px + 1) // 2


def _bag(drawn: Sizes) -> Sizes:
    table_rows, samples, width, each = drawn
    return table_rows, samples * each, width, each


# ---------------------------------------------------------------- counts that no layer of a tally makes alone


def _updated(tally: Tally, sizes: Sizes) -> None:
    tally.parameter(*[sizes[0]] * tensors_of(sizes[0]))


def tensors_of(numbers: int) -> int:
    """How many tensors of so many numbers are updated together: an optimiser's own loop then weighs as little as in a network."""
    return max(1, min(16, 1_000_000 // max(1, numbers)))


def _positions(tally: Tally, sizes: Sizes) -> None:
    samples, tokens, width = sizes
    tally.positions_gradient(samples * tokens, tokens, width)


def _attention(*, causal: bool) -> Count:
    return lambda t, s: t.attention(s[0], s[1], s[1], s[2], s[3], causal=causal)


def _update(rule: OptimizerName) -> Kind:
    return Kind(_updated, 8, (Range(5, 2.5e6, width=False),), (FORWARD,), optimizer=rule)


def _table_update(rule: OptimizerName) -> Kind:
    """Adam on a table of which few rows are looked up: its moments are zeros elsewhere."""
    looked_up = (Range(1000, 4e4, width=False), Range(30, 4000, width=False), Range(16, 256))
    return Kind(lambda t, s: t.table(*s), 16, looked_up, (FORWARD,), optimizer=rule)


CONVOLVED = (SAMPLES, Range(16, 512), Range(256, 2800), Range(1, 2.4))
ATTENDED = (Range(1, 10), Range(24, 560), Range(2, 9), Range(24, 72))
LOOKED_UP = (Range(800, 60_000, width=False), Range(16, 4096), Range(16, 512))

KINDS: dict[str, Kind] = {
    "matmul": Kind(lambda t, s: t.product(1, *s), 48, (ROWS, Range(14, 2048), Range(1, 7400)), (FORWARD, "right", "left")),
    "batched_matmul": Kind(
        lambda t, s: t.product(*s), 14, (Range(128, 1536), Range(4, 32), Range(16, 64)), (FORWARD, "right", "left"), lambda d: (*d, d[1])
    ),
    "convolution": Kind(lambda t, s: t.convolution(*s[:6]), 20, CONVOLVED, shape=_three_by_three),
    "stem": Kind(lambda t, s: t.convolution(*s[:6], input_gradient=False), 7, (SAMPLES, Range(12, 72), Range(28, 112)), shape=_stem),
    "pointwise_convolution": Kind(
        lambda t, s: t.convolution(*s[:6]), 16, (SAMPLES, Range(16, 256), Range(240, 2300), Range(1, 3.4)), shape=_pointwise
    ),
    "attention": Kind(_attention(causal=False), 12, ATTENDED, shape=_attended),
    "causal_attention": Kind(_attention(causal=True), 12, ATTENDED, shape=_attended),
    "cached_attention": Kind(
        lambda t, s: t.attention(s[0], 1, s[1], s[2], s[3], causal=False), 8, ATTENDED, (FORWARD,), _attended, training=False
    ),
    "relu": Kind(lambda t, s: t.elementwise(*s), 10, (NUMBERS,)),
    "sum": Kind(lambda t, s: t.elementwise(*s, operands=2, backward=False), 10, (NUMBERS,), (FORWARD,)),
    "gradient_sum": Kind(lambda t, s: t.gradients_added(*s), 10, (NUMBERS,), (FORWARD,)),
    "into_zeros": Kind(lambda t, s: t.gradients_joined(*s), 6, (Range(8000, 4e5, width=False),), (FORWARD,)),
    "batches_seen": Kind(lambda t, _: t.batches_seen(), 1, (Range(1, 1),), (FORWARD,)),
    "gelu": Kind(lambda t, s: t.transcendental(s[0], "gelu"), 10, (Range(600, 1.6e6, width=False),)),
    "binary_loss": Kind(lambda t, s: t.transcendental(s[0], "binary cross-entropy"), 4, (Range(60, 4000, width=False),)),
    "layer_norm": Kind(lambda t, s: t.layer_normalisation(*s), 14, (ROWS, Range(110, 800))),
    "batch_norm": Kind(lambda t, s: t.batch_normalisation(*s), 14, (SAMPLES, Range(12, 640), Range(512, 3600)), shape=_channels),
    "fixed_batch_norm": Kind(
        lambda t, s: t.batch_normalisation(*s),
        12,
        (SAMPLES, Range(12, 1280), Range(512, 3600)),
        (FORWARD,),
        _channels,
        training=False,
    ),
    "loss": Kind(lambda t, s: t.cross_entropy(*s), 16, (Range(1, 700), Range(6, 8000, width=False)), (FORWARD, BACKWARD, "picked")),
    "pooling": Kind(
        lambda t, s: t.pooling(s[0], s[1], s[2], s[3], 3, indices=True), 7, (SAMPLES, Range(12, 72), Range(14, 56)), shape=_pooled
    ),
    "mean": Kind(lambda t, s: t.reduction(s[0] * s[1] * s[2] ** 2, s[0] * s[1]), 8, (SAMPLES, Range(96, 1280), Range(1, 7))),
    "bias": Kind(lambda t, s: t.bias_gradient(*s), 14, (ROWS, Range(1, 4096)), (FORWARD,)),
    "positions": Kind(_positions, 7, (Range(1, 10), Range(24, 560), Range(96, 512)), (FORWARD,)),
    "embedding": Kind(lambda t, s: t.embedding(*s), 10, LOOKED_UP),
    "embedding_bag": Kind(
        lambda t, s: t.embedding(s[0], s[1], s[2], results=s[1] // s[3]),
        12,
        (*LOOKED_UP[:1], Range(96, 1536), Range(12, 96), Range(1, 9)),
        shape=_bag,
    ),
    "lstm": Kind(lambda t, s: t.recurrent(*s), 10, (Range(1, 48), Range(12, 80), Range(64, 640))),
    "copy": Kind(lambda t, s: t.copy(s[0], backward=False), 10, (Range(256, 1.2e7, width=False),), (FORWARD,)),
    "zeros": Kind(lambda t, s: t.zeros(*s), 10, (NUMBERS,), (FORWARD,)),
    "cast": Kind(lambda t, s: t.casts(*s), 8, (Range(600, 2e6, width=False),), autocast=True),
    "cached": Kind(
        lambda t, s: t.copy(2 * s[0] * s[1] * s[2], "cached", backward=False), 4, (Range(1, 9), Range(3, 9), Range(32, 64)), (FORWARD,)
    ),
    "stacked": Kind(lambda t, s: t.copy(s[0] * s[1] * s[2], "stacked"), 5, (Range(128, 1536), Range(5, 28), Range(16, 64))),
    "joined": Kind(lambda t, s: t.copy(s[0] * (s[1] + s[2]), "joined"), 8, (Range(128, 1536), Range(16, 64), Range(8, 400))),
    "pairs": Kind(lambda t, s: t.pairs(*s), 9, (Range(128, 1536), Range(4, 28))),
    **{f"{rule.value}_update": _update(rule) for rule in OptimizerName},
    **{f"{rule.value}_table_update": _table_update(rule) for rule in (OptimizerName.adam, OptimizerName.adamw)},
}
CEILINGS: dict[str, Kind] = {
    "matmul": Kind(lambda t, s: t.product(1, *s), 0, ()),
    "copy": Kind(lambda t, s: t.copy(s[0], backward=False), 0, ()),
    "host_to_device": Kind(lambda t, s: t.copy(s[0], "from the host"), 0, (), (FORWARD,)),
}
