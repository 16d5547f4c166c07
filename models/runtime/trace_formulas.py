"""What one call of a torch operator computes and moves, by its name and the shapes it is called with. No torch is imported here.

FLOPs: a fused multiply-add counts 2; products exactly, operators bound by memory nominally, as in the closed forms (README.md).
Attention counts only the pairs that a causal mask leaves, which torch 2.13's own counter does not (it also counts none on a CPU).
Bytes: every tensor read or written once; of an expanded tensor only what is stored.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

from models.runtime.operators import OperatorClass

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

FLASH_BACKWARD = 2.5  # five products against two: the scores are computed again (Dao et al., FlashAttention, 2022)
LSTM_GATES, GRU_GATES = 4, 3
CUDNN_LSTM, CUDNN_GRU = 2, 3


@dataclass(frozen=True)
class Call:
    """One call: operator name without namespace and overload, arguments by the names of its schema, tensors in and out in order."""

    name: str
    named: Mapping[str, Any]
    inputs: tuple[Any, ...]
    outputs: tuple[Any, ...]


@dataclass(frozen=True)
class Counted:
    """FLOPs of one call, its class and narrowest dimension; bytes where they are not simply all tensors once; ``calls`` where it loops."""

    cls: OperatorClass
    flops: float
    narrow: float = 0.0
    read: float | None = None
    written: float | None = None
    calls: float = 1.0


def shape(tensor: Any) -> tuple[int, ...]:  # noqa: ANN401  (a tensor of a library that is not imported)
    """Its sizes."""
    return tuple(int(size) for size in tensor.shape)


def stored_bytes(tensor: Any) -> float:  # noqa: ANN401
    """Bytes of its numbers, each stored one once (an expanded tensor repeats its numbers without storing them)."""
    sizes, strides = shape(tensor), tensor.stride()
    distinct = prod(size for size, stride in zip(sizes, strides, strict=True) if stride != 0)
    return float(distinct * tensor.element_size())


# ---------------------------------------------------------------- products


def _product(batch: int, rows: int, inner: int, columns: int) -> Counted:
    return Counted(OperatorClass.matmul, 2.0 * batch * rows * inner * columns, float(min(rows, inner, columns)))


def _mm(left: Any, right: Any) -> Counted:  # noqa: ANN401
    a, b = shape(left), shape(right)
    return _product(1, a[0], a[1], b[1])


def _bmm(left: Any, right: Any) -> Counted:  # noqa: ANN401
    a, b = shape(left), shape(right)
    return _product(a[0], a[1], a[2], b[2])


def _mv(left: Any) -> Counted:  # noqa: ANN401
    rows, inner = shape(left)
    return _product(1, rows, inner, 1)


def _linear(call: Call) -> Counted:
    outputs, inner = shape(call.named["weight"])
    return _product(1, prod(shape(call.named["input"])[:-1]), inner, outputs)


# ---------------------------------------------------------------- attention


def _pairs(queries: int, keys: int, *, causal: bool) -> float:
    """How many query-key pairs are scored; causal: query i sees the keys 0..i (torch aligns at the top left)."""
    if not causal:
        return float(queries * keys)
    full = min(queries, keys)
    return full * (full + 1) / 2 + (queries - full) * keys


def _attention(query: Any, key: Any, value: Any, *, causal: bool, backward: bool) -> Counted:  # noqa: ANN401
    (*lead, queries, depth), (*_, keys, _), (*_, deep) = shape(query), shape(key), shape(value)
    flops = 2.0 * prod(lead) * _pairs(queries, keys, causal=causal) * (depth + deep)
    return Counted(OperatorClass.attention, flops * (FLASH_BACKWARD if backward else 1.0), float(min(queries, keys, depth)))


def _fused_attention(call: Call) -> Counted:
    query, key, value = (call.named[name] for name in ("query", "key", "value"))
    causal = call.named.get("is_causal", False) is True
    return _attention(query, key, value, causal=causal, backward=call.name.endswith("_backward"))


# ---------------------------------------------------------------- convolution


def _convolution_counted(image: Any, weight: Any, result: Any, *, transposed: bool, groups: int, products: int) -> Counted:  # noqa: ANN401
    """``products``: 1 going forward, the number of gradients going backward."""
    kernel = shape(weight)
    inner = prod(kernel[1:])
    swept = image if transposed else result
    flops = 2.0 * prod(shape(swept)) * inner * products
    samples, channels, *out = shape(result)
    narrow = float(min(samples * prod(out), inner, max(1, channels // groups)))
    if groups > 1:
        return Counted(OperatorClass.depthwise_convolution, flops, narrow)
    pointwise = all(size == 1 for size in kernel[2:])
    return Counted(OperatorClass.pointwise_convolution if pointwise else OperatorClass.convolution, flops, narrow)


def _convolution(call: Call) -> Counted:
    backward = "output_mask" in call.named
    products = sum(bool(wanted) for wanted in call.named["output_mask"][:2]) if backward else 1
    return _convolution_counted(
        call.named["input"],
        call.named["weight"],
        call.named["grad_output"] if backward else call.outputs[0],
        transposed=bool(call.named["transposed"]),
        groups=int(call.named["groups"]),
        products=products,
    )


# ---------------------------------------------------------------- recurrent


def _recurrent(sizes: tuple[int, int, int, int], gates: int, number: float, *, backward: bool, layers: float = 1.0) -> Counted:
    """``sizes``: time steps, samples, input width, hidden width of one layer and direction; a call for each of its time steps."""
    steps, samples, width, hidden = sizes
    flops = 2.0 * samples * gates * hidden * (width + hidden) + 9.0 * samples * hidden
    state, weight = samples * hidden, gates * hidden * (width + hidden)
    read, written = (2 * weight + 9 * state, weight + 3 * state) if backward else (weight + 3 * state, 2 * state)
    narrow = float(min(samples, hidden))
    factor = 2.0 if backward else 1.0
    return Counted(OperatorClass.recurrent, factor * flops, narrow, read * number, written * number, steps * layers)


def _mkldnn_rnn(call: Call) -> Counted:
    tensor = call.named["input"]
    steps, samples, width = shape(tensor)
    sizes = (steps, samples, width, int(call.named["hidden_size"]))
    return _recurrent(sizes, LSTM_GATES, tensor.element_size(), backward=call.name.endswith("_backward"))


def _cudnn_rnn(call: Call) -> Counted:
    """All layers and directions in one call."""
    tensor, layers = call.named["input"], int(call.named["num_layers"])
    first, second, width = shape(tensor)
    steps, samples = (second, first) if call.named["batch_first"] else (first, second)
    hidden, ways = int(call.named["hidden_size"]), 2 if call.named["bidirectional"] else 1
    mean_width = (width + (layers - 1) * hidden * ways) // layers
    gates = {CUDNN_LSTM: LSTM_GATES, CUDNN_GRU: GRU_GATES}.get(call.named["mode"], 1)
    sizes = (steps, samples, mean_width, hidden)
    return _recurrent(sizes, gates, tensor.element_size(), backward=call.name.endswith("_backward"), layers=float(layers * ways))


_MM = {"mm": ("self", "mat2"), "addmm": ("mat1", "mat2"), "_addmm_activation": ("mat1", "mat2"), "_scaled_mm": ("self", "mat2")}
_BMM = {"bmm": ("self", "mat2"), "baddbmm": ("batch1", "batch2"), "addbmm": ("batch1", "batch2")}
_MV = {"mv": "self", "addmv": "mat"}


def _exact(call: Call) -> Counted | None:
    """Operators whose FLOPs are counted exactly."""
    name = call.name
    if name in _MM:
        return _mm(*(call.named[argument] for argument in _MM[name]))
    if name in _BMM:
        return _bmm(*(call.named[argument] for argument in _BMM[name]))
    if name in _MV:
        return _mv(call.named[_MV[name]])
    if name.startswith("_scaled_dot_product_"):
        return _fused_attention(call)
    found: dict[str, Callable[[Call], Counted]] = {
        "dot": lambda one: _product(1, 1, shape(one.named["self"])[0], 1),
        "linear": _linear,
        "convolution": _convolution,
        "_convolution": _convolution,
        "convolution_backward": _convolution,
        "mkldnn_rnn_layer": _mkldnn_rnn,
        "mkldnn_rnn_layer_backward": _mkldnn_rnn,
        "_cudnn_rnn": _cudnn_rnn,
        "_cudnn_rnn_backward": _cudnn_rnn,
    }
    return found[name](call) if name in found else None


# ---------------------------------------------------------------- bound by memory: class and FLOPs per number

# Per number of the largest tensor: nominal, as in the closed forms.
_NORMALISED = {
    "native_layer_norm": 7.0,
    "native_layer_norm_backward": 14.0,
    "native_batch_norm": 7.0,
    "native_batch_norm_backward": 11.0,
    "cudnn_batch_norm": 7.0,
    "cudnn_batch_norm_backward": 11.0,
    "miopen_batch_norm": 7.0,
    "_native_batch_norm_legit": 7.0,
    "_native_batch_norm_legit_no_training": 2.0,
    "_batch_norm_with_update": 7.0,
    "batch_norm_backward": 11.0,
    "native_group_norm": 7.0,
    "native_group_norm_backward": 14.0,
    "_fused_rms_norm": 4.0,
    "_fused_rms_norm_backward": 9.0,
}
_SOFTMAX = {
    "_softmax": 5.0,
    "_log_softmax": 5.0,
    "_softmax_backward_data": 4.0,
    "_log_softmax_backward_data": 4.0,
    "_safe_softmax": 5.0,
    "logsumexp": 5.0,
}
# One name a line would fill three pages.
# fmt: off
_REDUCED = frozenset({
    "sum", "mean", "amax", "amin", "max", "min", "argmax", "argmin", "prod", "var", "var_mean", "std", "std_mean", "norm", "any",
    "all", "linalg_vector_norm", "cumsum", "cumprod", "topk", "sort", "mse_loss", "count_nonzero",
})
_POOLED = frozenset({
    "max_pool2d_with_indices", "avg_pool2d", "_adaptive_avg_pool2d", "max_pool3d_with_indices", "avg_pool3d", "avg_pool1d",
})
_GATHERED = frozenset({
    "embedding", "_embedding_bag", "_embedding_bag_forward_only", "index_select", "gather", "index",
})
_SCATTERED = frozenset({
    "embedding_dense_backward", "_embedding_bag_backward", "_embedding_bag_dense_backward", "index_put", "index_put_", "scatter",
    "scatter_", "scatter_add", "scatter_add_", "index_add", "index_add_", "_index_put_impl_", "_unsafe_index_put",
})
_COPIED = frozenset({
    "clone", "copy_", "copy", "_to_copy", "cat", "stack", "fill_", "zero_", "zeros", "ones", "full", "zeros_like", "ones_like",
    "full_like", "new_zeros", "new_ones", "new_full", "repeat", "roll", "flip", "constant_pad_nd", "select_backward",
    "slice_backward", "masked_fill", "masked_fill_", "tril", "triu", "arange", "_foreach_copy_", "expand_copy", "_foreach_zero_",
    "lift_fresh_copy", "scalar_tensor", "tril_indices", "triu_indices", "select_scatter", "fill",
    "slice_scatter", "bernoulli_", "uniform_", "normal_", "randn", "rand", "randint", "randperm", "native_dropout",
    "native_dropout_backward",
})
_TRANSCENDENTAL = frozenset({
    "exp", "exp2", "expm1", "log", "log2", "log1p", "erf", "tanh", "sigmoid", "gelu", "silu", "softplus", "mish", "elu", "sin",
    "cos", "pow", "log_sigmoid_forward", "binary_cross_entropy_with_logits", "binary_cross_entropy", "celu", "hardswish",
})
FREE = frozenset({
    "empty", "empty_like", "empty_strided", "empty_permuted", "new_empty", "new_empty_strided", "unsafe_split",
    "unsafe_split_with_sizes", "unsafe_chunk", "detach", "_unsafe_view", "_local_scalar_dense", "lift_fresh", "is_same_size",
    "sym_size", "sym_numel", "sym_stride", "resize_", "device", "_reshape_alias", "size", "set_", "_record_function_enter_new",
    "_record_function_exit", "equal", "_has_compatible_shallow_copy_type",
})
# fmt: on
TRANSCENDENTAL_FLOPS = 8.0
_PER_NUMBER = {"lerp": 3.0, "addcmul": 3.0, "addcdiv": 2.0}
_RESAMPLED = {
    "upsample_nearest1d": 1.0,
    "upsample_nearest2d": 1.0,
    "upsample_linear1d": 4.0,
    "upsample_bilinear2d": 8.0,
    "upsample_bicubic2d": 32.0,
}
_FUSED_UPDATE = {"_fused_sgd_": 3.0, "_fused_adam_": 12.0, "_fused_adamw_": 13.0}


def numbers(tensors: Sequence[Any]) -> float:
    """Numbers of the largest tensor."""
    return float(max((prod(shape(tensor)) for tensor in tensors), default=0))


def counted(call: Call, *, pointwise: bool) -> Counted | None:
    """Class and FLOPs of a call; None for an operator that is not known and not marked as pointwise by torch."""
    exact = _exact(call)
    if exact is not None:
        return exact
    if call.name in BOUND_BY_MEMORY:
        return BOUND_BY_MEMORY[call.name](call)
    return _elementwise(call) if pointwise or call.name.startswith("_foreach_") else None


def _elementwise(call: Call) -> Counted:
    each = _PER_NUMBER.get(call.name.removeprefix("_foreach_").rstrip("_"), 1.0)
    each += call.named.get("alpha", 1) != 1  # a scaled addend costs a product more
    return Counted(OperatorClass.elementwise, each * _elementwise_numbers(call))


def _nominal(cls: OperatorClass, each: float) -> Callable[[Call], Counted]:
    """``each`` FLOPs for every number of the largest tensor."""
    return lambda call: Counted(cls, each * numbers((*call.inputs, *call.outputs)))


def _elementwise_numbers(call: Call) -> float:
    return _all_numbers(call.named["self"]) if call.name.startswith("_foreach_") else numbers(call.outputs or call.inputs)


def _all_numbers(tensors: Sequence[Any]) -> float:
    return float(sum(prod(shape(tensor)) for tensor in tensors))


def _fused_update(each: float) -> Callable[[Call], Counted]:
    return lambda call: Counted(OperatorClass.optimiser, each * _all_numbers(call.named["self"]))


def _pooled(call: Call, *, backward: bool) -> Counted:
    """Forward one FLOP for each number of each window, backward one for each number of the image."""
    if backward:
        return Counted(OperatorClass.pooling, numbers(call.outputs))
    kernel = call.named.get("kernel_size")
    window = prod(kernel) if isinstance(kernel, list | tuple) and not call.name.startswith("_adaptive") else 0
    return Counted(OperatorClass.pooling, max(window * numbers(call.outputs[:1]), numbers(call.inputs)))


def _picked(call: Call) -> Counted:
    """The loss of the right class: forward one number of each row is read, backward a gradient of zeros but for these is written."""
    rows = float(prod(shape(call.named["target"])))
    if call.name.endswith("_backward"):
        return Counted(OperatorClass.copy, 0.0, read=stored_bytes(call.named["target"]))
    each = call.named["self"].element_size() + call.named["target"].element_size()
    return Counted(OperatorClass.reduction, rows, read=rows * each)


def _embedded(call: Call) -> Counted:
    """A gather reads as many rows as it looks up, not the table; a scatter fills the table and adds the rows."""
    table_first = call.name in _GATHERED
    if not table_first:
        return Counted(OperatorClass.embedding, numbers(call.inputs))
    result, table = call.outputs[0], call.inputs[0]
    indices = sum(stored_bytes(tensor) for tensor in call.inputs[1:])
    looked_up = float(prod(shape(result)))
    if call.name.startswith("_embedding_bag"):
        looked_up = float(prod(shape(call.inputs[1])) * shape(table)[-1])
    flops = looked_up if call.name.startswith("_embedding_bag") else 0.0
    return Counted(OperatorClass.embedding, flops, read=looked_up * table.element_size() + indices, written=stored_bytes(result))


BOUND_BY_MEMORY: dict[str, Callable[[Call], Counted]] = {
    **{name: _nominal(OperatorClass.normalisation, each) for name, each in _NORMALISED.items()},
    **{name: _nominal(OperatorClass.softmax, each) for name, each in _SOFTMAX.items()},
    **{name + end: _nominal(OperatorClass.transcendental, TRANSCENDENTAL_FLOPS) for name in _TRANSCENDENTAL for end in ("", "_")},
    **{f"{name}_backward": _nominal(OperatorClass.transcendental, 2 * TRANSCENDENTAL_FLOPS) for name in _TRANSCENDENTAL},
    **{name + end: _nominal(OperatorClass.elementwise, each) for name, each in _RESAMPLED.items() for end in ("", "_backward")},
    **dict.fromkeys(_POOLED, lambda call: _pooled(call, backward=False)),
    **{f"{name}_backward": lambda call: _pooled(call, backward=True) for name in _POOLED},
    **dict.fromkeys(_GATHERED | _SCATTERED, _embedded),
    **dict.fromkeys(("nll_loss_forward", "nll_loss_backward", "nll_loss2d_forward", "nll_loss2d_backward"), _picked),
    **dict.fromkeys(_REDUCED, lambda call: Counted(OperatorClass.reduction, numbers(call.inputs))),
    **dict.fromkeys(_COPIED, lambda _: Counted(OperatorClass.copy, 0.0)),
    **{name: _fused_update(each) for name, each in _FUSED_UPDATE.items()},
}
