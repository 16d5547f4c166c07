"""Shape keys of traced calls as the closed forms write them, so that a traced job is compared with the same measured shapes.

Calls without a closed form keep the operator's own name and sizes: curves compare them by FLOPs and bytes alone.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from models.runtime.operators import OperatorClass, Phase
from models.runtime.trace_formulas import shape

if TYPE_CHECKING:
    from collections.abc import Callable

    from models.runtime.trace_formulas import Call

LONGEST = 200


def shape_key(call: Call, cls: OperatorClass, phase: Phase) -> str:
    """The key of a call of class ``cls``: the closed form's where there is one."""
    found = None if phase is Phase.update else _closed(call, phase)
    if found is not None:
        return f"{cls.value} {found}"
    return f"{call.name} {' '.join('x'.join(map(str, shape(tensor))) or '1' for tensor in call.inputs)}"[:LONGEST]


def _closed(call: Call, phase: Phase) -> str | None:
    if call.name in {"mm", "addmm", "bmm", "baddbmm"}:
        return _product(call, phase)
    if call.name.startswith("_scaled_dot_product_"):
        return _attention(call)
    if call.name in {"add", "add_"}:
        return _added(call, phase)
    if call.name == "sum":
        return _summed(call, phase)
    return KEYS[call.name](call) if call.name in KEYS else None


def _product(call: Call, phase: Phase) -> str:
    """Going backward the weight's gradient has its left side transposed, the input's has not."""
    left, right = (call.named[name] for name in PRODUCTS[call.name])
    (*batch, rows, inner), columns = shape(left), shape(right)[-1]
    count = prod(batch)
    if phase is not Phase.backward:
        return f"{count}x{rows}x{inner}x{columns}"
    *_, row_stride, column_stride = left.stride()
    if row_stride < column_stride:
        return f"{count}x{inner}x{columns}x{rows} right gradient"
    return f"{count}x{rows}x{columns}x{inner} left gradient"


def _attention(call: Call) -> str | None:
    query, key = shape(call.named["query"]), shape(call.named["key"])
    if len(query) != 4:  # noqa: PLR2004  (samples, heads, tokens, width of a head)
        return None
    causal = " causal" if call.named.get("is_causal", False) is True else ""
    return f"{query[0]}x{query[2]}x{key[2]} {query[1]} heads of {query[3]}{causal}{_gradients(call)}"


def _convolution(call: Call) -> str | None:
    backward = "output_mask" in call.named
    image, weight = shape(call.named["input"]), shape(call.named["weight"])
    result = shape(call.named["grad_output"] if backward else call.outputs[0])
    if len(image) != 4 or call.named["transposed"]:  # noqa: PLR2004  (samples, channels, height, width)
        return None
    groups = f" by {call.named['groups']}" if call.named["groups"] > 1 else ""
    kernel = f"{weight[2]}x{weight[3]}"
    return f"{image[0]}x{image[1]}x{image[2]} {kernel} to {weight[0]}x{result[2]}{groups}{' gradients' if backward else ''}"


def _layer_norm(call: Call) -> str:
    sizes = shape(call.named["input"])
    width = prod(call.named["normalized_shape"])
    return f"rows {prod(sizes) // width}x{width}{_gradients(call)}"


def _batch_norm(call: Call) -> str | None:
    sizes = shape(call.named["input"])
    if len(sizes) != 4:  # noqa: PLR2004
        return None
    fixed = "" if call.name.endswith("_backward") or call.named.get("training", True) else " fixed"
    return f"channels {sizes[1]}x{sizes[2]} {sizes[0]}{fixed}{_gradients(call)}"


def _log_softmax(call: Call) -> str:
    *_, classes = 1, *shape(call.inputs[0])
    return f"loss {prod(shape(call.inputs[0])) // classes}x{classes}{' gradient' if 'grad_output' in call.named else ''}"


def _of_numbers(words: str) -> Callable[[Call], str]:
    return lambda call: words.replace("#", str(prod(shape(call.outputs[0]))))


def _added(call: Call, phase: Phase) -> str:
    """Two arrays added: going backward two gradients of one array."""
    count = prod(shape(call.outputs[0]))
    return f"sum {count}" if phase is Phase.backward else f"2x{count}"


def _summed(call: Call, phase: Phase) -> str | None:
    """Going backward: the gradient of a bias, over all rows, or of positions, over the samples."""
    sizes, result = shape(call.inputs[0]), shape(call.outputs[0])
    if phase is not Phase.backward or sizes[-1:] != result[-1:] or not sizes:
        return None
    results = prod(result)
    if results == sizes[-1]:
        return f"bias {prod(sizes) // results}x{results}"
    return f"positions {sizes[0]}x{sizes[1]}x{sizes[2]}" if len(sizes) == 3 else None  # noqa: PLR2004


def _pooling(call: Call) -> str:
    backward = call.name.endswith("_backward")
    samples, channels, px, _ = shape(call.named["self"])[-4:]
    out = shape(call.named["grad_output"] if backward else call.outputs[0])[-1]
    return f"{samples}x{channels}x{px} to {out}{' gradient' if backward else ''}"


def _recurrent(call: Call) -> str:
    steps, samples, _ = shape(call.named["input"])
    return f"{samples}x{call.named['hidden_size']} {steps} steps{_gradients(call)}"


def _bag(call: Call) -> str:
    table, indices, results = (shape(call.named[name]) for name in ("weight", "indices", "offsets"))
    return f"{prod(indices)} to {prod(results)} of {table[0]}x{table[1]}"


def _bag_gradient(call: Call) -> str:
    rows, width = shape(call.outputs[0])
    return f"{prod(shape(call.named['indices']))} to {prod(shape(call.named['grad'])) // width} of {rows}x{width} gradient"


def _embedding(call: Call) -> str:
    table, looked_up = shape(call.named["weight"]), prod(shape(call.named["indices"]))
    return f"{looked_up} of {table[0]}x{table[1]}"


def _embedding_gradient(call: Call) -> str:
    rows, width = shape(call.outputs[0])
    return f"{prod(shape(call.named['indices']))} of {rows}x{width} gradient"


def _gradients(call: Call) -> str:
    return " gradients" if call.name.endswith("_backward") else ""


PRODUCTS: dict[str, tuple[str, str]] = {
    "mm": ("self", "mat2"),
    "addmm": ("mat1", "mat2"),
    "bmm": ("self", "mat2"),
    "baddbmm": ("batch1", "batch2"),
}
KEYS: dict[str, Callable[[Call], str | None]] = {
    "convolution": _convolution,
    "convolution_backward": _convolution,
    "native_layer_norm": _layer_norm,
    "native_layer_norm_backward": _layer_norm,
    "native_batch_norm": _batch_norm,
    "native_batch_norm_backward": _batch_norm,
    "_log_softmax": _log_softmax,
    "_log_softmax_backward_data": _log_softmax,
    "gelu": _of_numbers("gelu #"),
    "gelu_backward": _of_numbers("gelu # gradient"),
    "relu": _of_numbers("1x#"),
    "relu_": _of_numbers("1x#"),
    "threshold_backward": _of_numbers("# gradient"),
    "max_pool2d_with_indices": _pooling,
    "max_pool2d_with_indices_backward": _pooling,
    "mean": lambda call: f"{prod(shape(call.inputs[0]))} to {prod(shape(call.outputs[0]))}",
    "mkldnn_rnn_layer": _recurrent,
    "mkldnn_rnn_layer_backward": _recurrent,
    "_embedding_bag": _bag,
    "_embedding_bag_forward_only": _bag,
    "_embedding_bag_dense_backward": _bag_gradient,
    "embedding": _embedding,
    "embedding_dense_backward": _embedding_gradient,
}
