"""Closed forms of the mlp, the recommender (DLRM-like) and the lstm language model."""

from __future__ import annotations

from itertools import pairwise

from models.runtime.families.counting import Tally
from models.runtime.job import JobSpec
from models.runtime.operators import Work


def mlp(job: JobSpec) -> Work:
    """``layers`` dense layers, inputs to width to ... to width to classes, ReLU between, cross-entropy."""
    tally = Tally(job)
    if job.layers == 1:
        tally.linear(job.batch, job.inputs, job.classes, input_gradient=False)
    else:
        tally.linear(job.batch, job.inputs, job.width, input_gradient=False)
        tally.elementwise(job.batch * job.width)
        inner = Tally(job)
        inner.linear(job.batch, job.width, job.width)
        inner.elementwise(job.batch * job.width)
        tally.repeat(inner, job.layers - 2)
        tally.linear(job.batch, job.width, job.classes)
    tally.cross_entropy(job.batch, job.classes)
    return tally.work(boundary=job.batch * job.width)


def recommender(job: JobSpec) -> Work:
    """DLRM (Naumov et al., "Deep learning recommendation model for personalization and recommendation systems", 2019).

    Dense features through inputs to width to embedding_dim (ReLU after both); ``tables`` lookups; products of all pairs of vectors;
    these and the dense vector through to width (ReLU) to 1; binary cross-entropy. Gradients of the tables are dense.
    """
    batch, dim, vectors = job.batch, job.embedding_dim, job.tables + 1
    pairs = vectors * (vectors - 1) // 2
    tally = Tally(job)
    for place, (inputs, outputs) in enumerate(pairwise([job.inputs, job.width, dim])):
        tally.linear(batch, inputs, outputs, input_gradient=place > 0)
        tally.elementwise(batch * outputs)
    table = Tally(job)
    table.embedding(job.table_rows, batch * job.lookups, dim, results=batch)
    tally.repeat(table, job.tables)
    tally.copy(batch * vectors * dim, "stacked")
    tally.product(batch, vectors, dim, vectors)
    both = batch * vectors * dim  # the product's two gradients are of one array: they are added
    tally.gradients_added(both)
    tally.pairs(batch, vectors)
    tally.copy(batch * (dim + pairs), "joined")
    tally.gradients_added(batch * dim)  # of the dense vector, which is stacked and joined
    tally.keep(batch * vectors * dim)
    tally.linear(batch, dim + pairs, job.width)
    tally.elementwise(batch * job.width)
    tally.linear(batch, job.width, 1)
    if job.training:
        tally.transcendental(batch, "binary cross-entropy")
    return tally.work(boundary=batch * job.width)


def lstm(job: JobSpec) -> Work:
    """A language model: embedding, ``layers`` LSTM layers of ``width`` units, one dense layer to the vocabulary at every position.

    Hochreiter & Schmidhuber, "Long short-term memory", 1997; torch keeps two bias vectors a layer.
    """
    rows = job.batch * job.seq
    tally = Tally(job)
    tally.embedding(job.vocab, rows, job.width)
    layer = Tally(job)
    layer.recurrent(job.batch, job.seq, job.width)
    tally.repeat(layer, job.layers)
    tally.linear(rows, job.width, job.vocab)
    tally.elementwise(rows * job.vocab, operands=2, backward=False)  # the bias: the states lie step by step, so it is added apart
    tally.cross_entropy(rows, job.vocab)
    return tally.work(boundary=rows * job.width)
