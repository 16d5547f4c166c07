"""Predictions by hand for one operator, laws for whole jobs, gradients against differences, and what counts as extrapolation."""

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.runtime.device import ClassCoefficients, Combine, DeviceSpec, Uncertainty
from models.runtime.devices_known import known_devices
from models.runtime.families.work import work
from models.runtime.job import Family, JobSpec, Mode, Parallel
from models.runtime.operators import Operator, OperatorClass, Phase, Precision, Work
from models.runtime.prediction.communication import all_reduce_s, rings
from models.runtime.prediction.extrapolation import hull_of
from models.runtime.prediction.predict import many_step_seconds, predict, step_seconds
from models.runtime.prediction.roofline import log_slopes, operator_seconds, slope_paths, tier_shares
from tests.models.runtime_devices import links, measured, plain_device, tiered_device

TRACED = JobSpec(family=Family.traced, steps=10)
MLP = JobSpec(family=Family.mlp, layers=3, width=256, batch=32, steps=100)
DECODER = JobSpec(family=Family.decoder, layers=4, width=64, heads=4, seq=32, batch=4, vocab=100, steps=100)


def one(flops: float = 1e9, size: float = 1e8, calls: float = 1.0, **changes: Any) -> Work:
    operator = Operator(OperatorClass.matmul, Precision.fp32, flops, size / 2, size / 2, calls)
    return Work((dataclasses.replace(operator, **changes),), 0.0, 10.0, 40.0, gradient_bytes=4e6)


def test_one_operator_by_hand() -> None:
    compute, memory, overhead = 1e9 / 5e11, 1e8 / 1e11, 1e-6
    assert step_seconds(one(calls=3), plain_device()) == pytest.approx(3 * (compute + memory + overhead))
    assert step_seconds(one(), plain_device(combine=Combine.maximum)) == pytest.approx(max(compute, memory) + overhead)
    norm = plain_device(combine=Combine.norm, norm_power=2.0)
    assert step_seconds(one(), norm) == pytest.approx(math.hypot(compute, memory) + overhead)
    assert step_seconds(one(flops=0.0, size=0.0), plain_device()) == pytest.approx(overhead)
    assert step_seconds(Work((), 0, 0, 0), plain_device()) == 0.0


def test_narrow_products_and_backward_by_hand() -> None:
    device = tiered_device()
    bulk = step_seconds(one(size=0.0), device) - 3e-6
    assert bulk == pytest.approx(1e9 / 5e11)
    assert step_seconds(one(size=0.0, narrow=8.0), device) - 3e-6 == pytest.approx(2 * bulk)
    assert step_seconds(one(size=0.0, phase=Phase.backward), device) - 3e-6 == pytest.approx(1.5 * bulk)


def test_a_tier_serves_what_fits() -> None:
    shares = tier_shares(np.array([1.0, 0.5e6, 1e6, 1e9]), np.array([1e6]))
    assert shares.sum(axis=1) == pytest.approx(1.0)
    assert shares[:, 0] == pytest.approx([1.0, 0.8, 0.5, 1e-6], abs=1e-6)
    three = tier_shares(np.array([0.0, 1e5, 1e7]), np.array([1e4, 1e6]))
    assert np.all(three >= 0)
    assert three.sum(axis=1) == pytest.approx(1.0)
    small, large = one(flops=0.0, size=1e4), one(flops=0.0, size=1e8)
    assert step_seconds(large, tiered_device()) > 1e4 * 7 * (step_seconds(small, tiered_device()) - 3e-6)  # and eight times slower a byte


def test_the_whole_run() -> None:
    device = plain_device(warm_up_s=measured(0.5), step_overhead_s=measured(1e-3))
    found = predict(MLP, device)
    assert found.step_s.p50 == pytest.approx(step_seconds(work(MLP), device))
    assert found.total_s.p50 == pytest.approx(2.0 + 0.5 + 100 * found.step_s.p50)
    assert math.fsum(found.parts.values()) == pytest.approx(found.step_s.p50)
    assert found.parts["step_overhead"] == 1e-3
    shared = predict(MLP, device, slow_down=1.7)
    assert shared.total_s.p50 == pytest.approx(2.5 + 170 * found.step_s.p50)
    nothing = predict(MLP.model_copy(update={"steps": 0}), device)
    assert nothing.total_s.p50 == 2.5
    assert predict(MLP.model_copy(update={"mode": Mode.prefill}), device).start_up_s == 0.0


@pytest.mark.parametrize("slow_down", [0.5, float("nan")])
def test_a_slow_down_is_no_speed_up(slow_down: float) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        predict(MLP, plain_device(), slow_down=slow_down)


def test_never_below_the_input_time() -> None:
    device = plain_device(storage_bytes_per_s=measured(1e6))
    alone = predict(MLP, device).step_s.p50
    for size in (1.0, 1e5, 1e9):
        found = predict(MLP.model_copy(update={"input_bytes_per_step": size}), device)
        assert found.step_s.p50 == pytest.approx(max(alone, size / 1e6))
        assert math.fsum(found.parts.values()) == pytest.approx(found.step_s.p50)
    copies = MLP.model_copy(update={"input_bytes_per_step": 1e9, "parallel": Parallel(dp=4)})
    assert predict(copies, plain_device(storage_bytes_per_s=measured(1e6), links=links())).step_s.p50 == pytest.approx(250.0)


def test_copies_exchange_their_gradients() -> None:
    device = plain_device(links=links())
    alone = predict(MLP, device).step_s.p50
    two = predict(MLP.model_copy(update={"parallel": Parallel(dp=2)}), device)
    assert two.step_s.p50 - alone == pytest.approx(all_reduce_s(4 * work(MLP).parameters, rings(2, 1, links())[0]))
    hidden = plain_device(links=links(), overlap_gamma=measured(50.0))
    assert alone <= predict(MLP.model_copy(update={"parallel": Parallel(dp=2)}), hidden).step_s.p50 < two.step_s.p50
    inference = MLP.model_copy(update={"mode": Mode.prefill, "parallel": Parallel(dp=2)})
    assert "gradient_sync" not in predict(inference, device).parts


def test_micro_batches_repeat_all_but_the_update() -> None:
    device = plain_device()
    rows = work(MLP).operators
    update = step_seconds(dataclasses.replace(work(MLP), operators=tuple(row for row in rows if row.phase is Phase.update)), device)
    single = predict(MLP, device).step_s.p50
    four = predict(MLP.model_copy(update={"parallel": Parallel(grad_accum=4)}), device).step_s.p50
    assert four == pytest.approx(4 * (single - update) + update)


def test_a_pipeline_idles_by_its_bubble() -> None:
    free = tuple(link.model_copy(update={"alpha_s": measured(0.0), "bytes_per_s": measured(1e19)}) for link in links())
    device = plain_device(links=free)
    single = predict(DECODER.model_copy(update={"parallel": Parallel(grad_accum=8)}), device)
    piped = predict(DECODER.model_copy(update={"parallel": Parallel(pp=4, grad_accum=8)}), device)
    useful = sum(part for name, part in piped.parts.items() if not name.startswith("pipeline"))
    assert useful == pytest.approx(single.step_s.p50 / 4)
    busy = useful - piped.parts["optimiser"]
    assert piped.parts["pipeline_bubble"] / (busy + piped.parts["pipeline_bubble"]) == pytest.approx(3 / 11)


def test_shards_divide_products_and_reduce_activations() -> None:
    device = plain_device(links=links())
    alone = predict(DECODER, device).parts
    found = predict(DECODER.model_copy(update={"parallel": Parallel(tp=2)}), device).parts
    assert found["normalisation"] == alone["normalisation"]
    assert found["matmul"] < alone["matmul"]
    ring = rings(2, 1, links())[0]
    assert found["shard_reduce"] == pytest.approx(4 * 4 * all_reduce_s(4 * 32 * 64 * 4, ring))  # four a block, four blocks


def test_many_workers_wait_for_the_slowest() -> None:
    calm, noisy = plain_device(links=links()), plain_device(links=links(), straggler_cv=measured(0.1))
    spread = MLP.model_copy(update={"parallel": Parallel(dp=8)})
    assert predict(MLP, noisy).step_s == predict(MLP, calm).step_s
    assert predict(spread, noisy).step_s.p50 == pytest.approx(predict(spread, calm).step_s.p50 * (1 + 0.1 * 1.4236), rel=1e-4)


def test_what_the_device_does_not_describe_is_refused() -> None:
    bf16 = MLP.model_copy(update={"precision": Precision.bf16})
    with pytest.raises(ValueError, match="plain has no peak of its matrix unit for bf16"):
        predict(bf16, plain_device())
    with pytest.raises(ValueError, match="K80 has no peak of its matrix unit for fp16"):
        predict(MLP.model_copy(update={"precision": Precision.fp16}), known_devices()["K80"])
    rows = tuple(row for row in plain_device().classes if row.cls is not OperatorClass.elementwise)
    with pytest.raises(ValueError, match="does not describe the operator class elementwise"):
        predict(MLP, plain_device(classes=rows))
    with pytest.raises(ValueError, match="links join 1"):
        predict(MLP.model_copy(update={"parallel": Parallel(dp=2)}), plain_device())
    with pytest.raises(ValueError, match="traced"):
        predict(TRACED, plain_device())


def test_tf32_falls_back_to_fp32() -> None:
    v100 = known_devices()["V100-SXM2-16GB"]
    tf32 = MLP.model_copy(update={"precision": Precision.tf32})
    assert predict(tf32, v100).step_s.p50 == pytest.approx(predict(MLP, v100).step_s.p50)
    assert (
        predict(tf32, known_devices()["A100-SXM4-40GB"]).parts["matmul"] < predict(MLP, known_devices()["A100-SXM4-40GB"]).parts["matmul"]
    )


def test_many_at_once_are_the_same() -> None:
    works = [work(MLP), work(DECODER), Work((), 0, 0, 0), one()]
    device = tiered_device(step_overhead_s=measured(1e-4))
    assert many_step_seconds(works, device) == pytest.approx([step_seconds(each, device) for each in works], rel=1e-12)
    assert many_step_seconds([], device).shape == (0,)


@pytest.mark.parametrize("combine", list(Combine))
@pytest.mark.parametrize("job", [MLP, DECODER], ids=["mlp", "decoder"])
def test_slopes_agree_with_differences(combine: Combine, job: JobSpec) -> None:
    device = tiered_device(combine=combine, norm_power=3.0)
    rows = work(job).arrays
    slopes = dict(zip(slope_paths(device), log_slopes(rows, operator_seconds(rows, device), device), strict=True))
    assert set(slopes) <= set(device.coefficients())
    for path, slope in slopes.items():
        value = device.coefficients()[path].value
        up, down = (step_seconds(work(job), device.with_values({path: value * math.exp(change)})) for change in (1e-5, -1e-5))
        assert slope == pytest.approx((up - down) / 2e-5, rel=1e-4, abs=1e-9 * step_seconds(work(job), device)), path


@given(st.sampled_from([MLP, DECODER]), st.sampled_from(["peak.matrix.fp32", "bandwidth.dram", "bandwidth.cache"]), st.floats(1.0, 50.0))
@settings(max_examples=40, deadline=None)
def test_a_faster_device_is_never_slower(job: JobSpec, path: str, factor: float) -> None:
    device = tiered_device()
    faster = device.with_values({path: factor * device.coefficients()[path].value})
    assert predict(job, faster).step_s.p50 <= predict(job, device).step_s.p50 * (1 + 1e-12)


def believed(device: DeviceSpec, covariance: float, residual: float = 0.0, repeat: float = 0.0, outside: float = 0.0) -> DeviceSpec:
    known = Uncertainty(
        paths=("efficiency.matmul", "start_up_s.train"),
        covariance=((covariance, 0.0), (0.0, 0.0)),
        residual_log_sd=residual,
        repeat_log_sd=repeat,
        extrapolated_log_sd=outside,
    )
    return device.model_copy(update={"uncertainty": known})


def test_uncertainty_reaches_the_quantiles() -> None:
    device = believed(plain_device(), 0.04)
    found = predict(TRACED, device, one(size=0.0))
    share = (1e9 / 5e11) / (1e9 / 5e11 + 1e-6)
    assert found.log_sd == pytest.approx(0.2 * share)
    assert found.step_s.p90 / found.step_s.p50 == pytest.approx(math.exp(1.2815515655 * found.log_sd))
    assert found.step_s.p10 < found.step_s.p50 < found.step_s.p90
    drawn = np.exp(np.random.default_rng(1).normal(0.0, 0.2, 4000))
    times = [1e9 / 5e11 / each + 1e-6 for each in drawn]
    assert found.step_s.p90 == pytest.approx(np.quantile(times, 0.9), rel=0.03)
    noisy = predict(TRACED, believed(plain_device(), 0.0, 0.3, 0.4), one())
    assert noisy.log_sd == pytest.approx(0.5)
    assert math.log(noisy.total_s.p90 / noisy.total_s.p50) < math.log(noisy.step_s.p90 / noisy.step_s.p50)  # start-up is certain here


def test_a_device_that_was_never_calibrated_is_not_sure() -> None:
    for device in known_devices().values():
        found = predict(MLP, device)
        assert found.extrapolated
        assert found.log_sd > 0.2
        assert "never calibrated" in found.reasons[0]


def test_extrapolation_is_flagged_with_its_reasons() -> None:
    seen = [MLP, MLP.model_copy(update={"batch": 64})]
    device = believed(plain_device(hull=hull_of(seen, [work(job) for job in seen])), 0.0, 0.05, outside=0.4)
    inside = predict(MLP.model_copy(update={"batch": 48}), device)
    assert not inside.extrapolated
    assert inside.reasons == ()
    assert inside.log_sd == pytest.approx(0.05)
    other = predict(DECODER, device)
    assert other.extrapolated
    assert other.log_sd == pytest.approx(0.4)
    assert "no job of the family decoder was measured on plain" in other.reasons
    assert any("attention that was never measured" in reason for reason in other.reasons)
    large = predict(MLP.model_copy(update={"width": 8192}), device)
    assert any("matmul that is larger or smaller than any" in reason for reason in large.reasons)
    assert any("prefill" in reason for reason in predict(MLP.model_copy(update={"mode": Mode.prefill}), device).reasons)
    with pytest.raises(ValueError, match="cover nothing"):
        hull_of([], [])


def test_costs_of_every_class_are_told() -> None:
    rows = tuple(
        ClassCoefficients(cls=row.cls, efficiency=row.efficiency, overhead_s=measured(1.0 if row.cls is OperatorClass.softmax else 0.0))
        for row in plain_device().classes
    )
    found = predict(DECODER, plain_device(classes=rows))
    assert max(found.parts, key=lambda name: found.parts[name]) == "softmax"
