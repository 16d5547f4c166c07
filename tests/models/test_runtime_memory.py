"""Memory: state by parameter against ZeRO's counts, shares of shards and stages, and the probability of fitting."""

import math

import pytest

from models.runtime.families.work import work
from models.runtime.job import Family, JobSpec, Mode, Parallel, Weights
from models.runtime.prediction.memory import GIB, fits_probability, memory, state_bytes
from tests.models.runtime_devices import measured, plain_device

DECODER = {"family": "decoder", "layers": 4, "width": 64, "heads": 4, "seq": 32, "batch": 4, "vocab": 100}


def decoder(**changes: object) -> JobSpec:
    return JobSpec.model_validate(DECODER | changes)


@pytest.mark.parametrize(
    ("changes", "total"),
    [
        ({"precision": "fp16", "weights": "master", "optimizer": "adam"}, 16),  # 2 + 2 + 12, Rajbhandari et al. 2020, section 3.1
        ({"precision": "fp32", "optimizer": "adam"}, 16),
        ({"precision": "fp32", "weights": "master", "optimizer": "adam"}, 16),  # FP32 is its own master copy
        ({"precision": "bf16", "weights": "same", "optimizer": "adamw"}, 8),
        ({"precision": "bf16", "weights": "autocast", "optimizer": "adamw"}, 16),
        ({"precision": "fp32", "optimizer": "sgd"}, 8),
        ({"precision": "fp32", "optimizer": "momentum"}, 12),
        ({"precision": "bf16", "mode": "prefill"}, 2),
    ],
)
def test_state_of_one_parameter(changes: dict[str, str], total: int) -> None:
    assert sum(state_bytes(decoder(**changes)).values()) == total


def test_parts_add_up() -> None:
    device = plain_device(context_gib=measured(0.5), fragmentation=measured(1.25))
    job = decoder()
    need, found = memory(job, device), work(job)
    used = 16 * found.parameters + found.activation_bytes
    assert need.total_gib == pytest.approx(1.25 * used / GIB + 0.5)
    assert math.fsum(need.parts_gib.values()) == pytest.approx(need.total_gib)
    assert need.parts_gib["activations"] == pytest.approx(found.activation_bytes / GIB)
    assert need.fits


def test_decoding_keeps_its_cache() -> None:
    job = decoder(mode=Mode.decode, seq=1000)
    assert memory(job, plain_device()).parts_gib["cache"] * GIB == 2 * 4 * 4 * 1001 * 64 * 4


def test_shards_and_stages_divide_the_state() -> None:
    device = plain_device()
    whole = memory(decoder(), device).parts_gib
    shards = memory(decoder(parallel=Parallel(tp=2)), device).parts_gib
    stages = memory(decoder(parallel=Parallel(pp=2, grad_accum=8)), device).parts_gib
    copies = memory(decoder(parallel=Parallel(dp=8)), device).parts_gib
    for name in ("weights", "gradients", "moments"):
        assert shards[name] == pytest.approx(whole[name] / 2)
        assert stages[name] == pytest.approx(whole[name] / 2)
        assert copies[name] == whole[name]
    assert shards["activations"] == pytest.approx(whole["activations"] * (10 + 24 / 2) / 34)
    assert stages["activations"] == pytest.approx(whole["activations"])  # two micro-batches under way, half of the layers each


def test_checkpointing_and_small_batches_need_less() -> None:
    device = plain_device()
    plain = memory(decoder(), device).total_gib
    assert memory(decoder(checkpointing=True), device).total_gib < plain
    assert memory(decoder(batch=2), device).total_gib < plain
    assert memory(decoder(mode="prefill"), device).total_gib < plain


def test_probability_of_fitting() -> None:
    assert fits_probability(8.0, 8.0, 0.2) == pytest.approx(0.5)
    assert fits_probability(8.0 * math.exp(0.2), 8.0, 0.2) == pytest.approx(0.158655, abs=1e-5)
    assert fits_probability(8.0, 8.0, 0.0) == 1.0
    assert fits_probability(8.1, 8.0, 0.0) == 0.0
    assert fits_probability(0.0, 8.0, 0.2) == 1.0


def test_what_does_not_fit_says_so() -> None:
    need = memory(decoder(batch=100_000), plain_device())
    assert not need.fits
    assert need.fits_probability < 0.01


def test_autocast_keeps_its_casts() -> None:
    job = decoder(precision="bf16", weights=Weights.autocast)
    assert memory(job, plain_device()).parts_gib["weights"] * GIB == pytest.approx(6 * work(job).parameters)


def test_a_traced_job_needs_its_work() -> None:
    traced = JobSpec(family=Family.traced, id="mine")
    with pytest.raises(ValueError, match="traced"):
        memory(traced, plain_device())
    assert memory(traced, plain_device(), work(decoder())).total_gib > 0
