"""Torch networks of each family, as small and plain as they can be written; their sizes are those of ``JobSpec``.

They follow the published ones in structure: ResNet (He et al., 2016), BERT (Devlin et al., 2019: normalised after each
half block), GPT-2 (Radford et al., 2019: normalised before, output tied to the token embedding), DLRM (Naumov et al., 2019) and a
language model by LSTM (Zaremba et al., 2014). There is no dropout. Only the child process that runs a job imports this.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

if TYPE_CHECKING:
    from collections.abc import Iterable

    from models.runtime.job import JobSpec

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}
BOTTLENECK_DEPTH = 50
EXPANSION = 4  # of a bottleneck block's output over its width


def through(blocks: Iterable[nn.Module], x: Tensor, *, recompute: bool) -> Tensor:
    """``x`` after all blocks; with ``recompute`` only each block's input is kept for the backward pass."""
    for block in blocks:
        x = checkpoint(block, x, use_reentrant=False) if recompute else block(x)
    return x


class Mlp(nn.Module):
    """``layers`` linear layers with ReLU between: inputs -> width -> ... -> width -> classes; one layer goes straight."""

    def __init__(self, job: JobSpec) -> None:
        super().__init__()
        sizes = [job.inputs, *[job.width] * (job.layers - 1), job.classes]
        self.linears = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))

    def forward(self, x: Tensor) -> Tensor:
        """(batch, inputs) -> (batch, classes)."""
        for linear in self.linears[:-1]:
            x = functional.relu(linear(x))
        out: Tensor = self.linears[-1](x)
        return out


class Residual(nn.Module):
    """A residual block: two 3x3 convolutions, or 1x1, 3x3, 1x1 when it is a bottleneck; a 1x1 shortcut where shapes change."""

    def __init__(self, before: int, width: int, stride: int, *, bottleneck: bool) -> None:
        super().__init__()
        after = width * (EXPANSION if bottleneck else 1)
        steps = [(before, width, 1, 1), (width, width, 3, stride), (width, after, 1, 1)]
        if not bottleneck:
            steps = [(before, width, 3, stride), (width, after, 3, 1)]
        self.convolutions = nn.ModuleList(nn.Conv2d(a, b, size, s, size // 2, bias=False) for a, b, size, s in steps)
        self.norms = nn.ModuleList(nn.BatchNorm2d(b) for _, b, _, _ in steps)
        changes = before != after or stride > 1
        self.shortcut = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after)) if changes else None

    def forward(self, x: Tensor) -> Tensor:
        """(batch, before, h, w) -> (batch, after, h / stride, w / stride)."""
        y = x
        for i, (convolution, norm) in enumerate(zip(self.convolutions, self.norms, strict=True)):
            y = norm(convolution(y))
            if i + 1 < len(self.norms):
                y = functional.relu(y, inplace=True)
        shortcut = x if self.shortcut is None else self.shortcut(x)
        return functional.relu(y + shortcut, inplace=True)


class Cnn(nn.Module):
    """A ResNet of 18, 34 or 50 layers: 7x7 stem with stride 2, pooling, four stages whose width doubles, mean, one linear layer."""

    def __init__(self, job: JobSpec) -> None:
        super().__init__()
        bottleneck = job.layers == BOTTLENECK_DEPTH
        self.recompute = job.checkpointing
        self.stem = nn.Conv2d(job.channels, job.width, 7, 2, 3, bias=False)
        self.norm = nn.BatchNorm2d(job.width)
        self.pool = nn.MaxPool2d(3, 2, 1)
        blocks: list[nn.Module] = []
        before = job.width
        for stage, count in enumerate(BLOCKS[job.layers]):
            width = job.width * 2**stage
            for i in range(count):
                blocks.append(Residual(before, width, 2 if i == 0 and stage > 0 else 1, bottleneck=bottleneck))
                before = width * (EXPANSION if bottleneck else 1)
        self.blocks = nn.ModuleList(blocks)
        self.head = nn.Linear(before, job.classes)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, px, px) -> (batch, classes)."""
        x = self.pool(functional.relu(self.norm(self.stem(x)), inplace=True))
        x = through(self.blocks, x, recompute=self.recompute)
        out: Tensor = self.head(x.mean((2, 3)))
        return out


class Attention(nn.Module):
    """Multi-head self-attention: one product for query, key and value, one after."""

    def __init__(self, width: int, heads: int, *, causal: bool) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.inward, self.outward = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def split(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Query, key and value, each (batch, heads, tokens, width / heads)."""
        batch, tokens, width = x.shape
        shaped = self.inward(x).view(batch, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        return shaped[0], shaped[1], shaped[2]

    def merge(self, y: Tensor) -> Tensor:
        """The heads' outputs as (batch, tokens, width), through the outward product."""
        out: Tensor = self.outward(y.transpose(1, 2).flatten(2))
        return out

    def forward(self, x: Tensor) -> Tensor:
        """(batch, tokens, width) -> the same."""
        query, key, value = self.split(x)
        return self.merge(functional.scaled_dot_product_attention(query, key, value, is_causal=self.causal))

    def one_more(self, x: Tensor, cache: Tensor) -> Tensor:
        """One token per sample, attending to all of ``cache`` (2, batch, heads, tokens, width / heads), whose last place it takes."""
        query, key, value = self.split(x)
        cache[0, :, :, -1:].copy_(key)
        cache[1, :, :, -1:].copy_(value)
        return self.merge(functional.scaled_dot_product_attention(query, cache[0], cache[1]))


class Block(nn.Module):
    """A transformer block, normalised before each half (GPT-2) or after it (BERT)."""

    def __init__(self, job: JobSpec, *, causal: bool) -> None:
        super().__init__()
        self.before = causal
        self.attention = Attention(job.width, job.heads, causal=causal)
        self.norms = nn.ModuleList(nn.LayerNorm(job.width) for _ in range(2))
        self.inward, self.outward = nn.Linear(job.width, job.hidden), nn.Linear(job.hidden, job.width)

    def feed_forward(self, x: Tensor) -> Tensor:
        """The two products with GELU between."""
        out: Tensor = self.outward(functional.gelu(self.inward(x)))
        return out

    def forward(self, x: Tensor) -> Tensor:
        """(batch, tokens, width) -> the same."""
        first, second = self.norms
        if self.before:
            x = x + self.attention(first(x))
            return x + self.feed_forward(second(x))
        x = first(x + self.attention(x))
        out: Tensor = second(x + self.feed_forward(x))
        return out

    def one_more(self, x: Tensor, cache: Tensor) -> Tensor:
        """One token per sample with its cache; only for blocks normalised before."""
        first, second = self.norms
        x = x + self.attention.one_more(first(x), cache)
        return x + self.feed_forward(second(x))


class Encoder(nn.Module):
    """BERT: token and position embeddings, normalised; blocks; the first token's state through one linear layer to the classes."""

    def __init__(self, job: JobSpec) -> None:
        super().__init__()
        self.recompute = job.checkpointing
        self.tokens, self.positions = nn.Embedding(job.vocab, job.width), nn.Embedding(job.position_count, job.width)
        self.norm = nn.LayerNorm(job.width)
        self.blocks = nn.ModuleList(Block(job, causal=False) for _ in range(job.layers))
        self.head = nn.Linear(job.width, job.classes)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, tokens) -> (batch, classes)."""
        states = self.norm(self.tokens(x) + self.positions.weight[: x.shape[1]])
        states = through(self.blocks, states, recompute=self.recompute)
        out: Tensor = self.head(states[:, 0])
        return out


class Decoder(nn.Module):
    """GPT-2. In training every position is scored, in a prefill the last one."""

    def __init__(self, job: JobSpec) -> None:
        super().__init__()
        self.recompute, self.every_position = job.checkpointing, job.training
        self.tokens, self.positions = nn.Embedding(job.vocab, job.width), nn.Embedding(job.position_count, job.width)
        self.blocks = nn.ModuleList(Block(job, causal=True) for _ in range(job.layers))
        self.norm = nn.LayerNorm(job.width)

    def scored(self, states: Tensor) -> Tensor:
        """States -> a score per word."""
        return functional.linear(self.norm(states), self.tokens.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, tokens) -> (batch, tokens, vocab), or (batch, 1, vocab) for the last position."""
        states = self.tokens(x) + self.positions.weight[: x.shape[1]]
        states = through(self.blocks, states, recompute=self.recompute)
        return self.scored(states if self.every_position else states[:, -1:])

    def one_more(self, x: Tensor, caches: Tensor) -> Tensor:
        """(batch, 1) and caches (layers, 2, batch, heads, tokens, width / heads) -> (batch, 1, vocab): one step of decoding."""
        at = caches.shape[-2] - 1
        states = self.tokens(x) + self.positions.weight[at : at + 1]
        for block, cache in zip(self.blocks, caches, strict=True):
            states = block.one_more(states, cache)
        return self.scored(states)


class Recommender(nn.Module):
    """DLRM: dense features through two layers, one summed row per table, all pairwise products, two layers to one score."""

    def __init__(self, job: JobSpec) -> None:
        super().__init__()
        vectors = job.tables + 1
        self.tables = nn.ModuleList(nn.EmbeddingBag(job.table_rows, job.embedding_dim, mode="sum") for _ in range(job.tables))
        self.bottom = nn.Sequential(nn.Linear(job.inputs, job.width), nn.ReLU(), nn.Linear(job.width, job.embedding_dim), nn.ReLU())
        self.top = nn.Sequential(nn.Linear(job.embedding_dim + vectors * (vectors - 1) // 2, job.width), nn.ReLU(), nn.Linear(job.width, 1))
        self.register_buffer("pairs", torch.tril_indices(vectors, vectors, -1), persistent=False)
        self.pairs: Tensor

    def forward(self, dense: Tensor, rows: Tensor) -> Tensor:
        """(batch, inputs) and (tables, batch, lookups) -> (batch, 1)."""
        x = self.bottom(dense)
        vectors = torch.stack([x, *[table(row) for table, row in zip(self.tables, rows, strict=True)]], 1)
        products = torch.bmm(vectors, vectors.transpose(1, 2))
        out: Tensor = self.top(torch.cat([x, products[:, self.pairs[0], self.pairs[1]]], 1))
        return out


class Lstm(nn.Module):
    """A language model: embedding, ``layers`` LSTM layers, one linear layer to the vocabulary at every position."""

    def __init__(self, job: JobSpec) -> None:
        super().__init__()
        self.tokens = nn.Embedding(job.vocab, job.width)
        self.cells = nn.LSTM(job.width, job.width, job.layers, batch_first=True)
        self.head = nn.Linear(job.width, job.vocab)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, tokens) -> (batch, tokens, vocab)."""
        states, _ = self.cells(self.tokens(x))
        out: Tensor = self.head(states)
        return out
