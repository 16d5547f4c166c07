"""What single operators took, beside what the device's form says of them: a curve over shapes, from micro-benchmarks.

One efficiency per class is a coarse thing: a convolution of 16 channels, a softmax of ten classes and one of ten thousand differ more
than a form with few coefficients can say. So the logarithm of measured over predicted seconds is interpolated between the shapes that
were measured: a Gaussian process (Rasmussen & Williams, "Gaussian processes for machine learning", 2006), whose mean falls back to 0, the
form alone, away from them, and whose variance says how far away that is. Shapes of one kind are compared by the numbers in their
``shape_key``, shapes of one class, phase and precision by FLOPs, bytes and narrowest dimension.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from models.kept import Kept
from models.runtime.operators import Operator, OperatorClass, Phase, Precision
from models.vocabulary import Document

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.program import Floats, Ints

SPREAD = 0.6  # of a shape's log ratio before anything is measured near it
NOISE = 0.06  # of one measured operator: a process's layout, the clock's grain
BY_SIZE = 0.3  # share of the variance that shapes of a class have in common by size alone; the rest goes by kind and numbers
SIZE_REACH = 3.0  # how far a size reaches, in logarithms of FLOPs, bytes and narrowest dimension
NEAR, FAR = 1.2, 4.0  # how far a shape of the same kind reaches, in logarithms of its numbers
NEAR_SHARE = 0.6
MOST_NUMBERS = 8  # of a shape key that are compared

NUMBER = re.compile(r"\d+")
AGAIN = " again"  # of a key: a forward operator that checkpointing runs in the backward pass


class Shape(Document):
    """One operator that was measured on its own, and ``log_ratio``: the logarithm of its seconds over those of the device's form."""

    cls: OperatorClass
    phase: Phase
    precision: Precision
    kind: str = Field(description="The shape's key with # for each number.")
    numbers: tuple[float, ...] = Field(description="Logarithms of the numbers of the key.")
    sizes: tuple[float, float, float] = Field(description="Logarithms of FLOPs, bytes and narrowest dimension of a call, from 1.")
    log_ratio: float


def shape_of(operator: Operator, log_ratio: float) -> Shape:
    """The shape of a measured operator."""
    kind, numbers = _key(operator.shape_key)
    return Shape(
        cls=operator.cls,
        phase=operator.phase,
        precision=operator.precision,
        kind=kind,
        numbers=numbers,
        sizes=_sizes(operator),
        log_ratio=log_ratio,
    )


@lru_cache(maxsize=65536)
def _key(text: str) -> tuple[str, tuple[float, ...]]:
    """Kind and logarithms of the numbers of a shape key. A product with a weight is a product, one computed again the same one."""
    found = tuple(float(np.log(max(1.0, float(number)))) for number in NUMBER.findall(text)[:MOST_NUMBERS])
    return NUMBER.sub("#", text).replace(" weight", "").removesuffix(AGAIN), found


def _group_of(operator: Operator) -> tuple[OperatorClass, Phase, Precision]:
    return operator.cls, Phase.forward if operator.shape_key.endswith(AGAIN) else operator.phase, operator.precision


def _sizes(operator: Operator) -> tuple[float, float, float]:
    flops, moved, narrow = np.log(np.maximum(1.0, [operator.flops, operator.bytes, operator.narrow])).tolist()
    return flops, moved, narrow


@dataclass(frozen=True, slots=True, eq=False)
class _Group:
    """The measured shapes of one class, phase and precision: codes of kinds (S,), numbers (S, MOST_NUMBERS), sizes (S, 3), weights (S,)."""

    codes: dict[str, int]
    kind: Ints
    numbers: Floats
    sizes: Floats
    weights: Floats
    inverse: Floats

    @classmethod
    def of(cls, shapes: Sequence[Shape]) -> _Group:
        codes = {kind: place for place, kind in enumerate(dict.fromkeys(shape.kind for shape in shapes))}
        kind = np.array([codes[shape.kind] for shape in shapes], dtype=np.int64)
        numbers, sizes = _padded([shape.numbers for shape in shapes]), np.array([shape.sizes for shape in shapes])
        covariance = _kernel((kind, numbers, sizes), (kind, numbers, sizes)) + NOISE**2 * np.eye(len(shapes))
        inverse = np.asarray(np.linalg.inv(covariance), dtype=np.float64)
        return cls(codes, kind, numbers, sizes, inverse @ np.array([shape.log_ratio for shape in shapes]), inverse)

    def at(self, operators: Sequence[Operator]) -> tuple[Floats, Floats]:
        keys = [_key(operator.shape_key) for operator in operators]
        kind = np.array([self.codes.get(name, -1) for name, _ in keys], dtype=np.int64)
        asked = (kind, _padded([numbers for _, numbers in keys]), np.array([_sizes(operator) for operator in operators]))
        near = _kernel(asked, (self.kind, self.numbers, self.sizes))
        variance = SPREAD**2 - np.einsum("ns,st,nt->n", near, self.inverse, near)
        return np.asarray(near @ self.weights), np.asarray(np.sqrt(np.maximum(variance, 0.0)))


def _padded(rows: Sequence[tuple[float, ...]]) -> Floats:
    """Numbers of unlike count as one table, -1 where there is none."""
    table = np.full((len(rows), MOST_NUMBERS), -1.0)
    for place, row in enumerate(rows):
        table[place, : len(row)] = row
    return table


def _kernel(left: tuple[Ints, Floats, Floats], right: tuple[Ints, Floats, Floats]) -> Floats:
    """Covariance (N, S) of log ratios of shapes, each given by kind, numbers and sizes."""
    by_size = np.exp(-_squares(left[2], right[2]) / (2 * SIZE_REACH**2))
    apart = _squares(left[1], right[1])
    by_number = NEAR_SHARE * np.exp(-apart / (2 * NEAR**2)) + (1 - NEAR_SHARE) * np.exp(-apart / (2 * FAR**2))
    alike = (left[0][:, None] == right[0][None, :]) & (left[0][:, None] >= 0)
    return np.asarray(SPREAD**2 * (BY_SIZE * by_size + (1 - BY_SIZE) * np.where(alike, by_number, 0.0)))


def _squares(left: Floats, right: Floats) -> Floats:
    return np.asarray(((left[:, None, :] - right[None, :, :]) ** 2).sum(axis=2))


@dataclass(frozen=True, slots=True, eq=False)
class Curves:
    """The measured shapes by class, phase and precision; ``at`` interpolates between them."""

    groups: dict[tuple[OperatorClass, Phase, Precision], _Group]

    @classmethod
    def of(cls, shapes: Sequence[Shape]) -> Curves:
        """From measured shapes; none at all make curves that say nothing."""
        groups: dict[tuple[OperatorClass, Phase, Precision], list[Shape]] = defaultdict(list)
        for shape in shapes:
            groups[shape.cls, shape.phase, shape.precision].append(shape)
        return cls({key: _Group.of(found) for key, found in groups.items()})

    def at(self, operators: Sequence[Operator]) -> tuple[Floats, Floats]:
        """Log ratio to the device's form, and its standard deviation, of each operator (N,): 0 and ``SPREAD`` where nothing is known."""
        mean, spread = np.zeros(len(operators)), np.full(len(operators), SPREAD)
        for key, group in self.groups.items():
            places = [place for place, operator in enumerate(operators) if _group_of(operator) == key]
            if places:
                mean[places], spread[places] = group.at([operators[place] for place in places])
        return mean, spread


class Shapes(Document):
    """All measured shapes of one device."""

    shapes: tuple[Shape, ...] = ()


def _curves(known: Shapes) -> Curves:
    return Curves.of(known.shapes)


_KEPT: Kept[Shapes, Curves] = Kept(_curves, most=8)


def curves_of(known: Shapes) -> Curves:
    """The curves through these shapes, made once while they live."""
    return _KEPT.of(known)
