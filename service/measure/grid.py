"""The jobs that are measured on a CPU: a quick grid for calibration in minutes on one core, and a full one around it.

The quick grid spreads each family over width, depth, batch, length, precision, mode and update rule so that no two rows
are near copies, with steps of about 5 to 150 ms of CPU time. Jobs are in a mixed order: a drift of the machine meets all families alike.
"""

from __future__ import annotations

from typing import Any

from models.runtime.job import JobSpec

GRIDS = ("quick", "full")
TRAIN, PREFILL, DECODE = ({"mode": mode} for mode in ("train", "prefill", "decode"))
BF16 = {"precision": "bf16"}
CAST = {"precision": "bf16", "weights": "autocast"}

MLP: tuple[dict[str, Any], ...] = (
    {"layers": 3, "width": 512, "batch": 64},
    {"layers": 4, "width": 1024, "batch": 64, "optimizer": "sgd"},
    {"layers": 3, "width": 1024, "batch": 256, "optimizer": "adam"},
    {"layers": 8, "width": 256, "batch": 512},
    {"layers": 5, "width": 512, "batch": 128, "optimizer": "momentum", **CAST},
    {"layers": 3, "width": 768, "batch": 32, **BF16},
    {"layers": 5, "width": 1536, "batch": 128, **PREFILL},
    {"layers": 4, "width": 2048, "batch": 64, **PREFILL, **BF16},
)
CNN: tuple[dict[str, Any], ...] = (
    {"layers": 18, "width": 16, "image_px": 32, "batch": 16},
    {"layers": 18, "width": 32, "image_px": 64, "batch": 4, "optimizer": "sgd"},
    {"layers": 34, "width": 16, "image_px": 64, "batch": 8, "optimizer": "momentum"},
    {"layers": 50, "width": 16, "image_px": 48, "batch": 4},
    {"layers": 18, "width": 24, "image_px": 96, "batch": 2, **CAST},
    {"layers": 34, "width": 32, "image_px": 32, "batch": 8, "optimizer": "sgd", **BF16},
    {"layers": 18, "width": 64, "image_px": 64, "batch": 4, **PREFILL},
    {"layers": 50, "width": 32, "image_px": 96, "batch": 4, **PREFILL},
    {"layers": 34, "width": 32, "image_px": 64, "batch": 16, **PREFILL, **BF16},
)
ENCODER: tuple[dict[str, Any], ...] = (
    {"layers": 2, "width": 128, "heads": 4, "seq": 64, "batch": 8},
    {"layers": 4, "width": 256, "heads": 4, "seq": 128, "batch": 1},
    {"layers": 2, "width": 256, "heads": 8, "seq": 64, "batch": 4, "optimizer": "sgd"},
    {"layers": 2, "width": 192, "heads": 3, "seq": 256, "batch": 2, "optimizer": "adam"},
    {"layers": 3, "width": 256, "heads": 4, "seq": 96, "batch": 2, **CAST},
    {"layers": 2, "width": 384, "heads": 6, "seq": 32, "batch": 4, **BF16},
    {"layers": 4, "width": 384, "heads": 6, "seq": 128, "batch": 4, **PREFILL},
    {"layers": 4, "width": 256, "heads": 4, "seq": 512, "batch": 1, **PREFILL},
    {"layers": 3, "width": 512, "heads": 8, "seq": 64, "batch": 4, **PREFILL, **BF16},
)
DECODER: tuple[dict[str, Any], ...] = (
    {"layers": 2, "width": 128, "heads": 4, "seq": 64, "batch": 4, "vocab": 4000},
    {"layers": 4, "width": 256, "heads": 4, "seq": 128, "batch": 1, "vocab": 2000, "optimizer": "adam"},
    {"layers": 3, "width": 192, "heads": 6, "seq": 256, "batch": 1, "vocab": 1000, "optimizer": "sgd"},
    {"layers": 2, "width": 256, "heads": 8, "seq": 64, "batch": 4, "vocab": 3000, **CAST},
    {"layers": 4, "width": 384, "heads": 6, "seq": 256, "batch": 1, "vocab": 8000, **PREFILL},
    {"layers": 3, "width": 256, "heads": 4, "seq": 128, "batch": 4, "vocab": 8000, **PREFILL, **BF16},
    {"layers": 6, "width": 512, "heads": 8, "seq": 256, "batch": 1, "vocab": 8000, **DECODE},
    {"layers": 4, "width": 384, "heads": 6, "seq": 512, "batch": 8, "vocab": 4000, **DECODE},
    {"layers": 4, "width": 512, "heads": 8, "seq": 128, "batch": 4, "vocab": 8000, **DECODE, **BF16},
)
RECOMMENDER: tuple[dict[str, Any], ...] = (
    {"tables": 8, "table_rows": 10_000, "embedding_dim": 32, "width": 256, "batch": 256, "inputs": 13, "optimizer": "sgd"},
    {"tables": 4, "table_rows": 20_000, "embedding_dim": 16, "width": 128, "batch": 512, "inputs": 13},
    {"tables": 12, "table_rows": 5_000, "embedding_dim": 32, "width": 512, "batch": 256, "inputs": 64, "lookups": 4, "optimizer": "adam"},
    {"tables": 26, "table_rows": 10_000, "embedding_dim": 16, "width": 256, "batch": 1024, "inputs": 13, "lookups": 2, **PREFILL},
    {"tables": 8, "table_rows": 50_000, "embedding_dim": 64, "width": 1024, "batch": 512, "inputs": 256, "lookups": 8, **PREFILL},
    {"tables": 6, "table_rows": 10_000, "embedding_dim": 64, "width": 512, "batch": 512, "inputs": 32, "optimizer": "sgd", **BF16},
)
LSTM: tuple[dict[str, Any], ...] = (
    {"layers": 1, "width": 128, "seq": 32, "batch": 16, "vocab": 2000},
    {"layers": 2, "width": 256, "seq": 32, "batch": 8, "vocab": 1000, "optimizer": "sgd"},
    {"layers": 1, "width": 384, "seq": 16, "batch": 32, "vocab": 1000, "optimizer": "adam"},
    {"layers": 3, "width": 128, "seq": 64, "batch": 4, "vocab": 4000},
    {"layers": 2, "width": 192, "seq": 24, "batch": 16, "vocab": 1000, **BF16},
    {"layers": 2, "width": 256, "seq": 64, "batch": 16, "vocab": 2000, **PREFILL},
    {"layers": 1, "width": 512, "seq": 32, "batch": 16, "vocab": 4000, **PREFILL, **BF16},
)
FAMILIES: dict[str, tuple[dict[str, Any], ...]] = {
    "mlp": MLP,
    "cnn": CNN,
    "encoder": ENCODER,
    "decoder": DECODER,
    "recommender": RECOMMENDER,
    "lstm": LSTM,
}


def jobs(grid: str) -> tuple[JobSpec, ...]:
    """The jobs of ``quick`` (48) or ``full`` (those and the quick ones' neighbours in batch, precision and mode)."""
    rounds = [list(made) for made in (_family(family, grid == "full") for family in FAMILIES)]
    return tuple(made[i] for i in range(max(len(made) for made in rounds)) for made in rounds if i < len(made))


def named(fields: dict[str, Any]) -> JobSpec:
    """The job with a name made of what sets it apart."""
    spec = JobSpec.model_validate(fields)
    sizes = [f"{spec.layers}x{spec.width}"] if fields["family"] != "recommender" else [f"{spec.tables}x{spec.embedding_dim}x{spec.width}"]
    sizes += [f"s{spec.seq}"] if "seq" in fields else []
    sizes += [f"i{spec.image_px}"] if "image_px" in fields else []
    weights = "" if spec.weights == "same" else f"-{spec.weights.value}"
    rule = [spec.optimizer.value] if spec.training else []
    parts = [spec.family.value, *sizes, f"b{spec.batch}", spec.mode.value, spec.precision.value + weights, *rule]
    return spec.model_copy(update={"id": "-".join(parts)})


def _family(family: str, full: bool) -> list[JobSpec]:  # noqa: FBT001  (one grid or the other)
    quick = [{"family": family, **fields} for fields in FAMILIES[family]]
    return list({spec.id: spec for spec in map(named, quick + (_neighbours(quick) if full else []))}.values())


def _neighbours(quick: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each job at half and twice the batch, and, decoding apart, in the other mode and the other precision."""
    made = []
    for fields in quick:
        made += [{**fields, "batch": max(1, int(fields["batch"] * factor))} for factor in (0.5, 2)]
        mode, precision = fields.get("mode", "train"), fields.get("precision", "fp32")
        other = {"train": "prefill", "prefill": "train"}.get(mode, mode)
        made += [{**fields, "mode": other}, {**fields, "precision": "bf16" if precision == "fp32" else "fp32"}]
    return made
