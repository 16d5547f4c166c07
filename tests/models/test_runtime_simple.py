"""The simple forms beside their corrections: units, limits, and how far each is off on jobs that were really measured."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from models.program import Floats
from models.runtime.families.work import work
from models.runtime.job import Family, JobSpec, Mode
from models.runtime.operators import OperatorClass, Phase
from models.runtime.prediction.simple import (
    access_s,
    compute_s,
    flops_over_peak_s,
    inference_flops,
    naive_access_s,
    naive_compute_s,
    naive_transfer_s,
    training_flops,
    transfer_s,
)

MEASURED = Path(__file__).resolve().parents[2] / "benchmarks" / "measured"
ENOUGH = 12


def test_a_transfer_takes_bits_and_a_way() -> None:
    """1 GB over 10 Gbit/s is 0.8 s and not 0.1 s; a small message takes its way and nothing else."""
    assert naive_transfer_s(1e9, 1e10) == pytest.approx(0.1)
    assert transfer_s(1e9, 1e10) == pytest.approx(0.8)
    assert transfer_s(1e9, 1e10) / naive_transfer_s(1e9, 1e10) == pytest.approx(8.0)
    assert transfer_s(100, 1e10, 0.03) == pytest.approx(0.03, rel=1e-4)
    assert transfer_s(0, 1e10, 0.03) == 0.03


def test_parameters_are_no_operations() -> None:
    """GPT-3 (Brown et al. 2020): 175e9 parameters, 300e9 tokens, 3.14e23 FLOPs."""
    assert training_flops(175e9, 300e9) == pytest.approx(3.14e23, rel=0.01)
    assert inference_flops(175e9, 1.0) == 350e9
    true = compute_s(training_flops(175e9, 300e9), 1024, 312e12, 0.45)
    assert true / 86_400 == pytest.approx(25.4, rel=0.02)
    assert naive_compute_s(175e9, 1024, 312e12) < 1e-3  # the simple form: half a millisecond for 25 days
    assert flops_over_peak_s(6e12, 2, 3e12) == pytest.approx(1.0)
    assert compute_s(6e12, 2, 3e12, 0.5, communication_s=0.25) == pytest.approx(2.25)


def test_capacity_is_a_limit_and_no_rate() -> None:
    """A 2 TB drive is not twice as fast as one of 1 TB."""
    assert naive_access_s(1e9, 2e12) == naive_access_s(1e9, 1e12) / 2
    assert access_s(1e9, 5e9, 1e-4, capacity=2e12) == access_s(1e9, 5e9, 1e-4, capacity=1e12) == pytest.approx(0.2001)
    assert access_s(0, 5e9, 1e-4) == 1e-4
    with pytest.raises(ValueError, match="more than the 1e\\+12 that fit"):
        access_s(2e12, 5e9, capacity=1e12)


@pytest.mark.parametrize("utilisation", [0.0, -0.1, 1.1, float("nan")])
def test_utilisation_is_a_share(utilisation: float) -> None:
    with pytest.raises(ValueError, match="in \\(0, 1\\]"):
        compute_s(1.0, 1, 1.0, utilisation)


@pytest.mark.parametrize(
    ("form", "sizes"), [(transfer_s, (1, 0)), (naive_compute_s, (1, 1, 0)), (access_s, (1, -1)), (naive_access_s, (1, 0))]
)
def test_rates_of_zero_are_refused(form: Callable[..., float], sizes: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="must be above 0"):
        form(*sizes)


def test_no_device_computes_nothing() -> None:
    with pytest.raises(ValueError, match="at least one device"):
        flops_over_peak_s(1, 0, 1)


def test_how_far_six_per_parameter_and_token_is_off() -> None:
    """Against exact counts of products and attention: close for a large model in a short context, far for a small one in a long context."""

    def ratio(layers: int, width: int, seq: int, vocab: int) -> float:
        found = work(JobSpec(family=Family.decoder, layers=layers, width=width, heads=width // 64, seq=seq, vocab=vocab))
        products = {OperatorClass.matmul, OperatorClass.attention}
        flops = sum(row.flops * row.calls for row in found.operators if row.cls in products and row.phase is not Phase.update)
        return flops / training_flops(found.parameters, seq)

    assert ratio(24, 2048, 512, 50_000) == pytest.approx(1.0, abs=0.05)
    assert ratio(12, 768, 1024, 50_257) == pytest.approx(1.0, abs=0.15)
    assert ratio(2, 64, 4096, 100) > 1.8
    large = work(JobSpec(family=Family.recommender, tables=20, table_rows=100_000, mode=Mode.train, batch=64))
    assert large.flops_by_class()[OperatorClass.matmul] < 0.01 * training_flops(large.parameters, 64)  # most parameters do nothing


def measured_jobs(folder: Path) -> Iterator[tuple[JobSpec, float]]:
    """Accepted jobs of families with their seconds per step."""
    for path in sorted(folder.rglob("rows*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            if row.get("row", "job") == "job" and row["accepted"] and row.get("timing") and row["job"]["family"] != "traced":
                yield JobSpec.model_validate(row["job"]), row["timing"].get("device_s") or row["timing"]["cpu_s"]


def spread_of(ratios: Floats) -> float:
    """Median factor by which predictions miss."""
    return float(np.exp(np.median(np.abs(np.log(ratios)))))


def test_how_far_the_simple_compute_time_is_off_on_measured_jobs() -> None:
    folders = [folder for folder in sorted(MEASURED.glob("*")) if folder.is_dir()] if MEASURED.is_dir() else []
    grids = [jobs for jobs in (list(measured_jobs(folder)) for folder in folders) if len(jobs) >= ENOUGH]
    if not grids:
        pytest.skip(f"no {ENOUGH} measured jobs are committed under benchmarks/measured")
    for jobs in grids:
        flops = np.array([work(job).flops * job.parallel.grad_accum for job, _ in jobs])
        seconds = np.array([taken for _, taken in jobs])
        parameters = np.array([work(job).parameters for job, _ in jobs])
        peak = float((flops / seconds).max())  # no job can do more than the machine: the kindest peak for the simple forms
        naive = np.array([naive_compute_s(each, 1, peak) for each in parameters]) / seconds
        over_peak = np.array([flops_over_peak_s(each, 1, peak) for each in flops]) / seconds
        utilisation = float(np.median(over_peak))
        corrected = np.array([compute_s(each, 1, peak, utilisation) for each in flops]) / seconds
        assert np.all(over_peak <= 1 + 1e-9)
        assert spread_of(naive) > 5.0  # parameters are not operations
        assert spread_of(corrected) < spread_of(over_peak) < spread_of(naive)
