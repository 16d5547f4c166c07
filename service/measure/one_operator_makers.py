"""What is run for each kind of ``microbenchmarks_kinds``: going forward a function of arrays, going backward one kept graph of it.

A maker takes the type of the numbers and the sizes, and returns what to run and the arrays whose gradients are wanted. Arrays lie in
memory as networks have them: weights transposed, queries and keys as views of one product. Only the child process imports this.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    Run = Callable[[], object]
    Made = tuple[Callable[[], Tensor], tuple[Tensor, ...]]


def made(kind: str, part: str, dtype: torch.dtype, sizes: tuple[int, ...]) -> Run:
    """One run of this part of the kind: forward without gradients, backward the gradients of all that are wanted."""
    if (kind, part) in APART:
        return APART[kind, part](dtype, *sizes)
    with torch.enable_grad():
        run, wanted = FORWARD[kind](dtype, *sizes)
        if part:
            result = run()
            gradient = torch.randn_like(result)
            return lambda: torch.autograd.grad(result, wanted, gradient, retain_graph=True)
    return _without_gradients(run)


def _without_gradients(run: Callable[[], Tensor]) -> Run:
    def forward() -> None:
        with torch.no_grad():
            run()

    return forward


def _leaf(*sizes: int, dtype: torch.dtype) -> Tensor:
    return torch.randn(*sizes, dtype=dtype, requires_grad=True)


# ---------------------------------------------------------------- products


def _matmul(dtype: torch.dtype, rows: int, inner: int, columns: int) -> Made:
    left, right = _leaf(rows, inner, dtype=dtype), _leaf(columns, inner, dtype=dtype)
    return (lambda: left @ right.t()), (left, right)


def _matmul_left(dtype: torch.dtype, rows: int, inner: int, columns: int) -> Run:
    gradient, right = torch.randn(rows, columns, dtype=dtype), torch.randn(columns, inner, dtype=dtype)
    return lambda: gradient @ right


def _matmul_right(dtype: torch.dtype, rows: int, inner: int, columns: int) -> Run:
    gradient, left = torch.randn(rows, columns, dtype=dtype), torch.randn(rows, inner, dtype=dtype)
    return lambda: gradient.t() @ left


def _batched(dtype: torch.dtype, batch: int, rows: int, inner: int, columns: int) -> Made:
    left, right = _leaf(batch, rows, inner, dtype=dtype), _leaf(batch, columns, inner, dtype=dtype)
    return (lambda: torch.bmm(left, right.transpose(1, 2))), (left, right)


def _batched_left(dtype: torch.dtype, batch: int, rows: int, inner: int, columns: int) -> Run:
    gradient, right = torch.randn(batch, rows, columns, dtype=dtype), torch.randn(batch, columns, inner, dtype=dtype)
    return lambda: torch.bmm(gradient, right)


def _batched_right(dtype: torch.dtype, batch: int, rows: int, inner: int, columns: int) -> Run:
    gradient, left = torch.randn(batch, rows, columns, dtype=dtype), torch.randn(batch, rows, inner, dtype=dtype)
    return lambda: torch.bmm(left.transpose(1, 2), gradient)


def _convolution(dtype: torch.dtype, samples: int, channels: int, filters: int, kernel: int, px: int, _: int, stride: int) -> Made:
    image, weight = _leaf(samples, channels, px, px, dtype=dtype), _leaf(filters, channels, kernel, kernel, dtype=dtype)
    return (lambda: functional.conv2d(image, weight, None, stride, kernel // 2)), (image, weight)


def _stem(dtype: torch.dtype, *sizes: int) -> Made:
    run, (_, weight) = _convolution(dtype, *sizes)
    return run, (weight,)


def _attention(*, causal: bool) -> Callable[..., Made]:
    def make(dtype: torch.dtype, samples: int, tokens: int, width: int, heads: int) -> Made:
        three = torch.randn(samples, tokens, 3, heads, width // heads, dtype=dtype).permute(2, 0, 3, 1, 4)
        query, key, value = (three[place].detach().requires_grad_() for place in range(3))
        return (lambda: functional.scaled_dot_product_attention(query, key, value, is_causal=causal)), (query, key, value)

    return make


def _cached_attention(dtype: torch.dtype, samples: int, tokens: int, width: int, heads: int) -> Made:
    query, key, value = (_leaf(samples, heads, count, width // heads, dtype=dtype) for count in (1, tokens, tokens))
    return (lambda: functional.scaled_dot_product_attention(query, key, value)), (query, key, value)


def _lstm(dtype: torch.dtype, samples: int, steps: int, width: int) -> Made:
    cells, inputs = nn.LSTM(width, width, 1, batch_first=True, dtype=dtype), _leaf(samples, steps, width, dtype=dtype)
    return (lambda: cells(inputs)[0]), (inputs, *cells.parameters())


# ---------------------------------------------------------------- bound by memory


def _of(function: Callable[[Tensor], Tensor]) -> Callable[..., Made]:
    """A function of one array of these sizes."""

    def make(dtype: torch.dtype, *sizes: int) -> Made:
        array = _leaf(*sizes, dtype=dtype)
        return (lambda: function(array)), (array,)

    return make


def _sum(dtype: torch.dtype, *sizes: int) -> Made:
    left, right = _leaf(*sizes, dtype=dtype), _leaf(*sizes, dtype=dtype)
    return (lambda: left + right), (left, right)


def _mean(dtype: torch.dtype, samples: int, channels: int, px: int) -> Made:
    image = _leaf(samples, channels, px, px, dtype=dtype)
    return (lambda: image.mean((2, 3))), (image,)


def _binary_loss(dtype: torch.dtype, samples: int) -> Made:
    score, target = _leaf(samples, 1, dtype=dtype), torch.randint(2, (samples, 1)).to(dtype)
    return (lambda: functional.binary_cross_entropy_with_logits(score, target)), (score,)


def _picked(dtype: torch.dtype, rows: int, classes: int) -> Run:
    scores, target = _leaf(rows, classes, dtype=dtype), torch.randint(classes, (rows,))
    with torch.enable_grad():
        loss = functional.nll_loss(scores, target)
    return lambda: torch.autograd.grad(loss, (scores,), retain_graph=True)


def _layer_norm(dtype: torch.dtype, rows: int, width: int) -> Made:
    array, scale, shift = _leaf(rows, width, dtype=dtype), _leaf(width, dtype=dtype), _leaf(width, dtype=dtype)
    return (lambda: functional.layer_norm(array, (width,), scale, shift)), (array, scale, shift)


def _batch_norm(*, training: bool) -> Callable[..., Made]:
    def make(dtype: torch.dtype, samples: int, channels: int, px: int) -> Made:
        image, scale, shift = _leaf(samples, channels, px, px, dtype=dtype), _leaf(channels, dtype=dtype), _leaf(channels, dtype=dtype)
        mean, variance = torch.zeros(channels, dtype=dtype), torch.ones(channels, dtype=dtype)
        return (lambda: functional.batch_norm(image, mean, variance, scale, shift, training=training)), (image, scale, shift)

    return make


def _pooling(dtype: torch.dtype, samples: int, channels: int, px: int, _: int) -> Made:
    image = _leaf(samples, channels, px, px, dtype=dtype)
    return (lambda: functional.max_pool2d(image, 3, 2, 1)), (image,)


def _embedding(dtype: torch.dtype, table_rows: int, lookups: int, width: int) -> Made:
    table, rows = _leaf(table_rows, width, dtype=dtype), torch.randint(table_rows, (lookups,))
    return (lambda: functional.embedding(rows, table)), (table,)


def _embedding_bag(dtype: torch.dtype, table_rows: int, lookups: int, width: int, each: int) -> Made:
    table, rows = _leaf(table_rows, width, dtype=dtype), torch.randint(table_rows, (lookups // each, each))
    return (lambda: functional.embedding_bag(rows, table, mode="sum")), (table,)


# ---------------------------------------------------------------- copies


def _copy(dtype: torch.dtype, numbers: int) -> Run:
    array, target = torch.randn(numbers, dtype=dtype), torch.randn(numbers, dtype=dtype)
    return lambda: target.copy_(array)


def _host_to_device(dtype: torch.dtype, numbers: int) -> Run:
    target = torch.randn(numbers, dtype=dtype)
    source = torch.randn(numbers, dtype=dtype, device="cpu", pin_memory=target.is_cuda)
    return lambda: target.copy_(source, non_blocking=True)


def _zeros(dtype: torch.dtype, numbers: int) -> Run:
    like = torch.empty(numbers, dtype=dtype)  # on the device that is measured, which is set while arrays are made only
    return lambda: torch.zeros_like(like)


def _into_zeros(dtype: torch.dtype, numbers: int) -> Run:
    """What the gradient of one of three slices does."""
    part = torch.randn(numbers, dtype=dtype)

    def run() -> None:
        part.new_zeros(3, numbers)[0].copy_(part)

    return run


def _batches_seen(_: torch.dtype, __: int) -> Run:
    seen = torch.zeros((), dtype=torch.long)
    return lambda: seen.add_(1)


def _cast(dtype: torch.dtype, numbers: int) -> Made:
    kept = _leaf(numbers, dtype=torch.float32)
    return (lambda: kept.to(dtype)), (kept,)


def _cached(dtype: torch.dtype, samples: int, heads: int, width: int) -> Run:
    """One more key and value at the end of a cache."""
    cache = torch.randn(2, samples, heads, 256, width, dtype=dtype)
    key, value = torch.randn(2, samples, heads, 1, width, dtype=dtype)

    def run() -> None:
        cache[0, :, :, -1:].copy_(key)
        cache[1, :, :, -1:].copy_(value)

    return run


def _stacked(dtype: torch.dtype, samples: int, vectors: int, width: int) -> Made:
    parts = [_leaf(samples, width, dtype=dtype) for _ in range(vectors)]
    return (lambda: torch.stack(parts, 1)), tuple(parts)


def _stacked_backward(dtype: torch.dtype, samples: int, vectors: int, width: int) -> Run:
    """The parts of a gradient as tables take them: each copied out."""
    parts = torch.randn(samples, vectors, width, dtype=dtype).unbind(1)
    return lambda: [part.contiguous() for part in parts]


def _joined(dtype: torch.dtype, samples: int, left: int, right: int) -> Made:
    parts = (_leaf(samples, left, dtype=dtype), _leaf(samples, right, dtype=dtype))
    return (lambda: torch.cat(parts, 1)), parts


def _joined_backward(dtype: torch.dtype, samples: int, left: int, right: int) -> Run:
    parts = torch.randn(samples, left + right, dtype=dtype).split((left, right), 1)
    return lambda: [part.contiguous() for part in parts]


def _pairs(dtype: torch.dtype, samples: int, vectors: int) -> Made:
    products, chosen = _leaf(samples, vectors, vectors, dtype=dtype), torch.tril_indices(vectors, vectors, -1)
    return (lambda: products[:, chosen[0], chosen[1]]), (products,)


# ---------------------------------------------------------------- updates

OPTIMISERS: dict[str, Callable[[list[nn.Parameter]], torch.optim.Optimizer]] = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, 1e-3),
    "momentum": lambda parameters: torch.optim.SGD(parameters, 1e-3, momentum=0.9),
    "adam": lambda parameters: torch.optim.Adam(parameters, 1e-3),
    "adamw": lambda parameters: torch.optim.AdamW(parameters, 1e-3),
}


def _update(rule: str) -> Callable[..., Run]:
    def make(dtype: torch.dtype, numbers: int, tensors: int) -> Run:
        parameters = [nn.Parameter(torch.randn(numbers, dtype=dtype)) for _ in range(tensors)]
        for parameter in parameters:
            parameter.grad = torch.randn(numbers, dtype=dtype) * 1e-3
        step: Run = OPTIMISERS[rule](parameters).step
        return step

    return make


def _table_update(rule: str) -> Callable[..., Run]:
    def make(dtype: torch.dtype, rows: int, lookups: int, width: int) -> Run:
        table = nn.Parameter(torch.randn(rows, width, dtype=dtype))
        table.grad = torch.zeros(rows, width, dtype=dtype)
        table.grad[torch.randint(rows, (lookups,))] = 1e-3
        step: Run = OPTIMISERS[rule]([table]).step
        return step

    return make


FORWARD: dict[str, Callable[..., Made]] = {
    "matmul": _matmul,
    "batched_matmul": _batched,
    "convolution": _convolution,
    "stem": _stem,
    "pointwise_convolution": _convolution,
    "attention": _attention(causal=False),
    "causal_attention": _attention(causal=True),
    "cached_attention": _cached_attention,
    "lstm": _lstm,
    "relu": _of(torch.relu),
    "sum": _sum,
    "gradient_sum": _sum,
    "gelu": _of(functional.gelu),
    "binary_loss": _binary_loss,
    "layer_norm": _layer_norm,
    "batch_norm": _batch_norm(training=True),
    "fixed_batch_norm": _batch_norm(training=False),
    "loss": _of(lambda array: torch.log_softmax(array, 1)),
    "pooling": _pooling,
    "mean": _mean,
    "bias": _of(lambda array: array.sum(0)),
    "positions": _of(lambda array: array.sum(0, keepdim=True)),
    "embedding": _embedding,
    "embedding_bag": _embedding_bag,
    "cast": _cast,
    "stacked": _stacked,
    "joined": _joined,
    "pairs": _pairs,
}
APART: dict[tuple[str, str], Callable[..., Run]] = {
    ("matmul", "left"): _matmul_left,
    ("matmul", "right"): _matmul_right,
    ("batched_matmul", "left"): _batched_left,
    ("batched_matmul", "right"): _batched_right,
    ("loss", "picked"): _picked,
    ("stacked", "backward"): _stacked_backward,
    ("joined", "backward"): _joined_backward,
    ("copy", ""): _copy,
    ("host_to_device", ""): _host_to_device,
    ("zeros", ""): _zeros,
    ("into_zeros", ""): _into_zeros,
    ("batches_seen", ""): _batches_seen,
    ("cached", ""): _cached,
    **{(f"{rule}_update", ""): _update(rule) for rule in OPTIMISERS},
    **{(f"{rule}_table_update", ""): _table_update(rule) for rule in ("adam", "adamw")},
}
