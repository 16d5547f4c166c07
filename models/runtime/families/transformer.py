"""Closed forms of the transformer encoder (BERT-like) and decoder (GPT-like: training, prefill, decode).

Devlin et al., "BERT", 2019; Radford et al., "Language models are unsupervised multitask learners", 2019. No dropout. FLOPs of training
follow Kaplan et al., "Scaling laws for neural language models", 2020 (6 per parameter and token) with what that leaves out: attention,
the output head, and the input gradient that the first layer does not need.
"""

from __future__ import annotations

from models.runtime.families.counting import FP32_BYTES, Tally
from models.runtime.job import JobSpec, Mode, Weights
from models.runtime.operators import Work

TENSOR_PARALLEL_REDUCES = 2  # of a block going forward, and again going backward (Shoeybi et al., Megatron-LM, 2019)


def encoder(job: JobSpec) -> Work:
    """Embeddings, normalised; ``layers`` blocks normalised after each half; the first token through one layer to the classes."""
    rows, width = job.batch * job.seq, job.width
    tally = Tally(job)
    _embedded(tally, rows, job.seq)
    tally.layer_normalisation(rows, width)
    tally.checkpointed(_block(job, job.seq, job.seq, causal=False), job.layers, rows * width)
    tally.zeros(rows * width)  # into which the first tokens' gradients go
    tally.linear(job.batch, width, job.classes)
    tally.cross_entropy(job.batch, job.classes)
    return _sharded(tally, rows)


def decoder(job: JobSpec) -> Work:
    """Embeddings, ``layers`` blocks normalised before each half, a last normalisation, the token table again as the output layer.

    Training scores every position, a prefill the last one; decoding takes one token per sample against ``seq`` cached ones.
    """
    decoding = job.mode is Mode.decode
    queries, keys = (1, job.seq + 1) if decoding else (job.seq, job.seq)
    rows, width = job.batch * queries, job.width
    scored = rows if job.training else job.batch
    tally = Tally(job)
    _embedded(tally, rows, queries)
    tally.checkpointed(_block(job, queries, keys, causal=not decoding), job.layers, rows * width, ends_in_product=True)
    tally.layer_normalisation(scored, width)
    tally.linear(scored, width, job.vocab, bias=False, own=False)
    if job.training:
        tally.gradients_added(job.vocab * width)  # of the table: as embedding and as output layer
    tally.cross_entropy(scored, job.vocab)
    return _sharded(tally, rows)


def _embedded(tally: Tally, rows: int, positions: int) -> None:
    """Tokens gathered, learned positions added; going backward the positions' gradient is summed over the samples."""
    job = tally.job
    tally.embedding(job.vocab, rows, job.width)
    tally.parameter(job.position_count * job.width)
    numbers = rows * job.width
    tally.elementwise(numbers, operands=2, backward=False)
    tally.positions_gradient(rows, positions, job.width, known=job.position_count)


def _block(job: JobSpec, queries: int, keys: int, *, causal: bool) -> Tally:
    """Attention and feed-forward with their normalisations and sums: 12 * width**2 + 13 * width parameters at the usual hidden width."""
    rows, width = job.batch * queries, job.width
    numbers = rows * width
    block = Tally(job)
    block.layer_normalisation(rows, width)
    block.linear(rows, width, 3 * width)
    if job.mode is Mode.decode:
        block.copy(2 * numbers, "cached", backward=False)
    block.attention(job.batch, queries, keys, width, job.heads, causal=causal)
    block.gradients_joined(numbers)
    block.linear(rows, width, width)
    block.elementwise(numbers, operands=2, backward=False)
    block.layer_normalisation(rows, width)
    block.linear(rows, width, job.hidden)
    block.transcendental(rows * job.hidden, "gelu")
    block.linear(rows, job.hidden, width)
    block.elementwise(numbers, operands=2, backward=False)
    for _ in ("attention", "feed-forward"):
        block.gradients_added(numbers)  # what goes around each half and what goes through it
    return block


def _sharded(tally: Tally, rows: int) -> Work:
    """The work with what tensor-parallel shards reduce, what pipeline stages send, and the cache of keys and values."""
    job = tally.job
    per_block = TENSOR_PARALLEL_REDUCES * (2 if job.training else 1)
    if job.training and job.checkpointing:
        per_block += TENSOR_PARALLEL_REDUCES
    return tally.work(cache_bytes=cache_bytes(job), boundary=rows * job.width, reduced=float(per_block * job.layers * rows * job.width))


def cache_bytes(job: JobSpec) -> float:
    """Bytes of all keys and values when decoding: two vectors a layer and token, of the tokens before and the one that is added."""
    if job.mode is not Mode.decode:
        return 0.0
    size = job.precision.bytes if job.weights is not Weights.autocast else min(FP32_BYTES, job.precision.bytes)
    return 2.0 * job.layers * job.batch * (job.seq + 1) * job.width * size
