"""What is measured on a GPU: the networks people know, with random weights, over batch, length, precision and mode.

``measured_jobs`` calibrates; ``holdout_jobs`` has other sizes of the same networks, so that a frozen model can be judged on jobs it has
not seen. ``tiny`` shrinks every network until a CPU runs it in milliseconds: the same course, to test it where there is no GPU.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

from service.measure.grid import named

if TYPE_CHECKING:
    from models.runtime.job import JobSpec

RESNET50: dict[str, Any] = {"family": "cnn", "layers": 50, "width": 64, "image_px": 224, "classes": 1000, "optimizer": "momentum"}
# ViT-B as its blocks see it: 197 tokens of width 768; a table of tokens stands in for the embedding of patches, 1% of the work.
VIT_B: dict[str, Any] = {"family": "encoder", "layers": 12, "width": 768, "heads": 12, "seq": 197, "vocab": 768, "classes": 1000}
BERT: dict[str, Any] = {"family": "encoder", "layers": 12, "width": 768, "heads": 12, "vocab": 30_522, "classes": 2}
GPT2: dict[str, Any] = {"family": "decoder", "layers": 12, "width": 768, "heads": 12, "vocab": 50_257}
DLRM: dict[str, Any] = {
    "family": "recommender",
    "tables": 26,
    "table_rows": 200_000,
    "embedding_dim": 64,
    "width": 512,
    "inputs": 13,
    "optimizer": "sgd",
}
LSTM: dict[str, Any] = {"family": "lstm", "layers": 2, "width": 1024, "vocab": 10_000, "optimizer": "sgd"}

FP32, TF32 = {"precision": "fp32"}, {"precision": "tf32"}
BF16 = {"precision": "bf16", "weights": "autocast"}
BF16_ONLY = {"precision": "bf16"}
TRAIN, PREFILL, DECODE = ({"mode": mode} for mode in ("train", "prefill", "decode"))

TINY_LAYERS, TINY = 2, {"width": 32, "image_px": 32, "vocab": 100, "table_rows": 100, "heads": 4, "seq": 16, "batch": 4}


def measured_jobs(*, tiny: bool = False) -> tuple[JobSpec, ...]:
    """The jobs to calibrate on: every network in every precision, two batches or lengths each, all modes it has."""
    rows: list[dict[str, Any]] = []
    for sizes, kind in product(({"batch": 32}, {"batch": 128}), ({**TF32, **TRAIN}, {**BF16, **TRAIN}, {**BF16_ONLY, **PREFILL})):
        rows += [{**RESNET50, **sizes, **kind}, {**VIT_B, **sizes, **kind}]
    for sizes, kind in product(
        ({"batch": 8, "seq": 512}, {"batch": 32, "seq": 128}),
        ({**FP32, **TRAIN}, {**TF32, **TRAIN}, {**BF16, **TRAIN}, {**BF16_ONLY, **PREFILL}),
    ):
        rows += [{**BERT, **sizes, **kind}]
    for sizes, kind in product(
        ({"batch": 4, "seq": 1024}, {"batch": 16, "seq": 256}), ({**TF32, **TRAIN}, {**BF16, **TRAIN}, {**BF16_ONLY, **PREFILL})
    ):
        rows += [{**GPT2, **sizes, **kind}]
    rows += [
        {**GPT2, **sizes, **BF16_ONLY, **DECODE}
        for sizes in ({"batch": 1, "seq": 512}, {"batch": 32, "seq": 1024}, {"batch": 128, "seq": 256})
    ]
    for sizes, kind in product(({"batch": 2048}, {"batch": 16_384}), ({**FP32, **TRAIN}, {**TF32, **TRAIN}, {**FP32, **PREFILL})):
        rows += [{**DLRM, **sizes, **kind}]
    for sizes, kind in product(({"batch": 32, "seq": 64}, {"batch": 128, "seq": 32}), ({**TF32, **TRAIN}, {**BF16_ONLY, **PREFILL})):
        rows += [{**LSTM, **sizes, **kind}]
    return _made(rows, tiny=tiny)


def holdout_jobs(*, tiny: bool = False) -> tuple[JobSpec, ...]:
    """Jobs that calibration never sees: other batches, lengths, depths and widths."""
    rows: list[dict[str, Any]] = [
        {**RESNET50, "batch": 64, **TF32, **TRAIN},
        {**RESNET50, "layers": 34, "batch": 96, **BF16, **TRAIN},
        {**VIT_B, "batch": 64, **BF16, **TRAIN},
        {**VIT_B, "layers": 24, "width": 1024, "heads": 16, "batch": 16, **TF32, **TRAIN},
        {**BERT, "batch": 16, "seq": 256, **TF32, **TRAIN},
        {**BERT, "layers": 24, "width": 1024, "heads": 16, "batch": 8, "seq": 384, **BF16, **TRAIN},
        {**BERT, "batch": 64, "seq": 256, **BF16_ONLY, **PREFILL},
        {**GPT2, "batch": 8, "seq": 512, **BF16, **TRAIN},
        {**GPT2, "layers": 24, "width": 1024, "heads": 16, "batch": 2, "seq": 1024, **BF16, **TRAIN},
        {**GPT2, "batch": 64, "seq": 512, **BF16_ONLY, **DECODE},
        {**GPT2, "batch": 8, "seq": 768, **BF16_ONLY, **PREFILL},
        {**DLRM, "batch": 8192, "embedding_dim": 128, **TF32, **TRAIN},
        {**DLRM, "batch": 4096, **FP32, **PREFILL},
        {**LSTM, "layers": 3, "batch": 64, "seq": 48, **TF32, **TRAIN},
        {**LSTM, "width": 512, "batch": 64, "seq": 64, **BF16_ONLY, **PREFILL},
    ]
    return _made(rows, tiny=tiny)


def pair_jobs(*, tiny: bool = False) -> tuple[JobSpec, ...]:
    """One job of each network, small enough that two share the GPU's memory."""
    rows: list[dict[str, Any]] = [
        {**RESNET50, "batch": 32, **BF16, **TRAIN},
        {**BERT, "batch": 8, "seq": 256, **BF16, **TRAIN},
        {**GPT2, "batch": 16, "seq": 512, **BF16_ONLY, **DECODE},
        {**DLRM, "batch": 2048, **FP32, **TRAIN},
        {**LSTM, "batch": 32, "seq": 64, **TF32, **TRAIN},
    ]
    return _made(rows, tiny=tiny)


def _made(rows: list[dict[str, Any]], *, tiny: bool) -> tuple[JobSpec, ...]:
    return tuple({spec.id: spec for spec in (named(_shrunk(row) if tiny else row) for row in rows)}.values())


def _shrunk(row: dict[str, Any]) -> dict[str, Any]:
    layers = {"cnn": {"layers": 18, "width": 8}, "recommender": {"tables": 3, "embedding_dim": 8}}.get(
        row["family"], {"layers": TINY_LAYERS}
    )
    fields = {name: value for name, value in TINY.items() if name in row or name == "batch"}
    precision = {"precision": "fp32"} if row["precision"] == "tf32" else {}
    return {**row, **fields, **layers, **precision}
