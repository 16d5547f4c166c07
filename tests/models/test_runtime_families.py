"""Closed forms against counts derived another way: published sizes, formulas by hand, and laws that every network obeys."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.runtime.families.work import CLOSED_FORMS, work
from models.runtime.job import Family, JobSpec, Mode, OptimizerName, Weights
from models.runtime.operators import OperatorClass, Phase, Work

PRODUCTS = {
    OperatorClass.matmul,
    OperatorClass.convolution,
    OperatorClass.pointwise_convolution,
    OperatorClass.depthwise_convolution,
}
SMALL: dict[Family, dict[str, Any]] = {
    Family.mlp: {"layers": 3, "width": 32, "batch": 4},
    Family.cnn: {"layers": 18, "width": 8, "batch": 2, "image_px": 40},
    Family.encoder: {"layers": 2, "width": 16, "heads": 2, "seq": 8, "batch": 3, "vocab": 50},
    Family.decoder: {"layers": 2, "width": 16, "heads": 2, "seq": 8, "batch": 3, "vocab": 50},
    Family.recommender: {"tables": 3, "table_rows": 100, "embedding_dim": 8, "inputs": 13, "batch": 4, "lookups": 2},
    Family.lstm: {"layers": 2, "width": 16, "seq": 5, "batch": 3, "vocab": 50},
}


def job(family: Family, **changes: Any) -> JobSpec:
    return JobSpec.model_validate({"family": family} | SMALL[family] | changes)


def product_flops(found: Work, phase: Phase | None = None) -> float:
    return sum(row.flops * row.calls for row in found.operators if row.cls in PRODUCTS and phase in {None, row.phase})


def class_flops(found: Work, cls: OperatorClass, phase: Phase) -> float:
    return sum(row.flops * row.calls for row in found.operators if row.cls is cls and row.phase is phase)


@pytest.mark.parametrize(("depth", "parameters", "giga_macs"), [(18, 11_689_512, 1.814), (34, 21_797_672, 3.664), (50, 25_557_032, 4.089)])
def test_residual_networks_have_their_published_sizes(depth: int, parameters: int, giga_macs: float) -> None:
    """Parameters and multiply-adds of torchvision's models for 224 px and 1,000 classes."""
    found = work(JobSpec(family=Family.cnn, layers=depth, classes=1000, mode=Mode.prefill))
    assert found.parameters == parameters
    assert product_flops(found) / 2e9 == pytest.approx(giga_macs, rel=1e-3)


def test_gpt2_has_its_published_size() -> None:
    found = work(JobSpec(family=Family.decoder, layers=12, width=768, heads=12, vocab=50257, positions=1024, seq=1024))
    assert found.parameters == 124_439_808


def test_a_bert_encoder_has_its_published_size() -> None:
    """BERT base is 109,482,240 with its pooler (width**2 + width) and token types (2 * width); ours has a head for 2 classes instead."""
    found = work(JobSpec(family=Family.encoder, layers=12, width=768, heads=12, vocab=30522, positions=512, seq=128, classes=2))
    assert found.parameters == 109_482_240 - (768**2 + 768) - 2 * 768 + (2 * 768 + 2)


@given(
    sizes=st.lists(st.integers(1, 40), min_size=3, max_size=3),
    layers=st.integers(1, 5),
    batch=st.integers(1, 9),
)
@settings(max_examples=60, deadline=None)
def test_an_mlp_by_hand(sizes: list[int], layers: int, batch: int) -> None:
    inputs, width, classes = sizes
    shape = [inputs] + [width] * (layers - 1) + [classes]
    weights = [a * b for a, b in pairwise(shape)]
    spec = JobSpec(family=Family.mlp, layers=layers, inputs=inputs, width=width, classes=classes, batch=batch)
    found = work(spec)
    assert found.parameters == sum(weights) + sum(shape[1:])
    assert product_flops(found, Phase.forward) == 2 * batch * sum(weights)
    assert product_flops(found, Phase.backward) == 4 * batch * sum(weights) - 2 * batch * weights[0]  # no gradient of the input
    assert product_flops(work(spec.model_copy(update={"mode": Mode.prefill}))) == 2 * batch * sum(weights)


@given(
    layers=st.integers(1, 4),
    heads=st.integers(1, 4),
    each=st.integers(1, 8),
    seq=st.integers(1, 20),
    batch=st.integers(1, 4),
    vocab=st.integers(1, 60),
)
@settings(max_examples=60, deadline=None)
def test_a_decoder_by_hand(layers: int, heads: int, each: int, seq: int, batch: int, vocab: int) -> None:
    """12 d**2 weights a block at 2 FLOPs each and token, the output head, and 4 b s**2 d for attention, half of it when causal."""
    d = heads * each
    spec = JobSpec(family=Family.decoder, layers=layers, width=d, heads=heads, seq=seq, batch=batch, vocab=vocab)
    blocks, head = 2 * batch * seq * layers * 12 * d**2, 2 * batch * seq * vocab * d
    found = work(spec)
    assert found.parameters == vocab * d + seq * d + layers * (12 * d**2 + 13 * d) + 2 * d
    assert product_flops(found, Phase.forward) == blocks + head
    assert product_flops(found, Phase.backward) == 2 * (blocks + head)
    attention = 2 * batch * seq**2 * d * layers
    assert class_flops(found, OperatorClass.attention, Phase.forward) == attention
    assert class_flops(found, OperatorClass.attention, Phase.backward) == 2.5 * attention  # the fused kernel computes the scores again
    prefill = work(spec.model_copy(update={"mode": Mode.prefill}))
    assert product_flops(prefill) == blocks + 2 * batch * vocab * d
    assert class_flops(prefill, OperatorClass.attention, Phase.forward) == attention


def test_a_decoder_by_the_appendix_of_chinchilla() -> None:
    """Hoffmann et al., "Training compute-optimal large language models", 2022, appendix F, which discounts no causal attention."""
    d, heads, s, ff, vocab, layers = 48, 4, 20, 100, 70, 3
    spec = JobSpec(family=Family.decoder, layers=layers, width=d, heads=heads, seq=s, vocab=vocab, feed_forward=ff)
    projections, scores, mixed, out = 2 * 3 * s * d * d, 2 * s * s * d, 2 * s * s * d, 2 * s * d * d
    dense = 2 * s * (d * ff + d * ff)
    found = work(spec)
    assert product_flops(found, Phase.forward) == layers * (projections + out + dense) + 2 * s * d * vocab
    assert class_flops(found, OperatorClass.attention, Phase.forward) == layers * (scores + mixed) / 2


def test_decoding_does_one_token_against_the_cache() -> None:
    spec = job(Family.decoder, mode="decode", seq=8)
    found = work(spec)
    d, layers, batch, vocab = 16, 2, 3, 50
    assert product_flops(found) == 2 * batch * (layers * 12 * d**2 + vocab * d)
    assert class_flops(found, OperatorClass.attention, Phase.forward) == 4 * batch * (8 + 1) * d * layers
    assert found.cache_bytes == 2 * layers * batch * 9 * d * 4
    assert work(job(Family.decoder, mode="decode", seq=8, precision="bf16")).cache_bytes == found.cache_bytes / 2


def test_six_flops_a_parameter_and_token() -> None:
    """Kaplan et al. 2020, for a large narrow context: products are 6 N D within the head and the embeddings that N leaves out."""
    spec = JobSpec(family=Family.decoder, layers=24, width=2048, heads=16, seq=64, batch=2, vocab=512)
    found = work(spec)
    tokens = 2 * 64
    assert product_flops(found) == pytest.approx(6 * found.parameters * tokens, rel=0.01)
    assert found.flops == pytest.approx(6 * found.parameters * tokens, rel=0.03)


def test_a_recommender_by_hand() -> None:
    found = work(job(Family.recommender, width=64))
    batch, dim, vectors = 4, 8, 4
    dense = [13 * 64, 64 * dim]
    top = [(dim + 6) * 64, 64]
    pairs = 2 * batch * vectors**2 * dim
    assert found.parameters == 3 * 100 * dim + sum(dense) + 64 + dim + sum(top) + 64 + 1
    assert product_flops(found, Phase.forward) == 2 * batch * sum(dense + top) + pairs
    assert product_flops(found, Phase.backward) == 2 * (2 * batch * sum(dense + top) + pairs) - 2 * batch * dense[0]
    assert found.gradient_bytes == 4 * found.parameters  # the tables' gradients are dense


def test_an_lstm_by_hand() -> None:
    found = work(job(Family.lstm))
    width, layers, rows, vocab = 16, 2, 15, 50
    assert found.parameters == vocab * width + layers * (8 * width**2 + 8 * width) + vocab * (width + 1)
    assert product_flops(found, Phase.forward) == 2 * rows * width * vocab
    cells = class_flops(found, OperatorClass.recurrent, Phase.forward)
    assert cells == rows * layers * (16 * width**2 + 9 * width)
    assert class_flops(found, OperatorClass.recurrent, Phase.backward) == 2 * cells


@pytest.mark.parametrize("family", [Family.cnn, Family.encoder, Family.decoder])
def test_checkpointing_pays_a_forward_pass_of_the_blocks_for_memory(family: Family) -> None:
    deep = {} if family is Family.cnn else {"layers": 6}
    plain, again = work(job(family, **deep)), work(job(family, checkpointing=True, **deep))
    extra = [row for row in again.operators if row.shape_key.endswith(" again")]
    assert all(row.phase is Phase.backward for row in extra)
    assert again.flops - plain.flops == pytest.approx(sum(row.flops * row.calls for row in extra), rel=1e-12)
    assert 0 < again.flops - plain.flops <= sum(row.flops * row.calls for row in plain.operators if row.phase is Phase.forward)
    assert again.activation_bytes < plain.activation_bytes
    assert again.parameters == plain.parameters


@pytest.mark.parametrize("family", list(CLOSED_FORMS))
@pytest.mark.parametrize("mode", [Mode.train, Mode.prefill])
def test_twice_the_batch_is_twice_the_products(family: Family, mode: Mode) -> None:
    once, twice = work(job(family, mode=mode)), work(job(family, mode=mode, batch=2 * SMALL[family]["batch"]))
    assert product_flops(twice) == 2 * product_flops(once)
    assert twice.parameters == once.parameters
    assert twice.bytes < 2 * once.bytes  # weights are read once all the same
    assert twice.calls == once.calls


@pytest.mark.parametrize("family", list(CLOSED_FORMS))
def test_inference_has_no_gradients_and_no_update(family: Family) -> None:
    found = work(job(family, mode=Mode.prefill))
    assert {row.phase for row in found.operators} == {Phase.forward}
    assert found.gradient_bytes == 0.0
    assert 0 < found.activation_bytes < work(job(family)).activation_bytes


@pytest.mark.parametrize("family", list(CLOSED_FORMS))
def test_half_the_bytes_a_number(family: Family) -> None:
    full, half = work(job(family)), work(job(family, precision="bf16"))
    assert half.flops == full.flops
    assert half.parameter_bytes == full.parameter_bytes / 2
    assert half.bytes < 0.75 * full.bytes  # indices keep their eight bytes
    cast = work(job(family, precision="bf16", weights=Weights.autocast))
    assert cast.parameter_bytes == full.parameter_bytes
    assert cast.bytes > half.bytes


def test_the_update_of_each_optimiser() -> None:
    """FLOPs, numbers moved and kernels per tensor, from the formulas: sgd p -= r*g; Adam's two moments, a root, a quotient."""
    moved = {OptimizerName.sgd: 3, OptimizerName.momentum: 8, OptimizerName.adam: 18, OptimizerName.adamw: 20}
    kernels = {OptimizerName.sgd: 1, OptimizerName.momentum: 3, OptimizerName.adam: 8, OptimizerName.adamw: 9}
    for name in OptimizerName:
        found = work(job(Family.mlp, optimizer=name))
        rows = [row for row in found.operators if row.phase is Phase.update]
        assert sum(row.bytes * row.calls for row in rows) == pytest.approx(4 * moved[name] * found.parameters)
        assert sum(row.calls for row in rows) == kernels[name] * 6  # three layers, each with weight and bias


def test_activations_of_a_block_agree_with_korthikanti() -> None:
    """34 s b h bytes at 2 bytes a number less 2 of dropout masks, with fused attention; normalisations keep two FP32 numbers a row."""
    each = {"layers": 1, "width": 256, "heads": 4, "seq": 64, "batch": 2, "precision": "bf16", "vocab": 50}
    one, three = work(job(Family.decoder, **each)), work(job(Family.decoder, **(each | {"layers": 3})))
    rows = 2 * 64
    statistics = rows * (2 * 2 * 4 + 4 * 4)  # of two normalisations, and a logarithm for each head
    assert (three.activation_bytes - one.activation_bytes) / 2 == 32 * rows * 256 + statistics


@pytest.mark.parametrize("family", [Family.mlp, Family.encoder, Family.decoder, Family.lstm])
def test_depth_costs_no_time_to_count(family: Family) -> None:
    thousand, billion = work(job(family, layers=1000)), work(job(family, layers=10**9))
    assert len(thousand.operators) == len(billion.operators)
    assert billion.flops / thousand.flops == pytest.approx(1e6, rel=0.05)


def test_a_traced_job_has_no_closed_form() -> None:
    with pytest.raises(ValueError, match=r"'mine' is traced: count its work from the module"):
        work(JobSpec(family=Family.traced, id="mine"))


@pytest.mark.parametrize("px", [1, 2, 7, 33])
def test_small_images_still_have_a_pixel(px: int) -> None:
    assert product_flops(work(job(Family.cnn, image_px=px))) > 0
