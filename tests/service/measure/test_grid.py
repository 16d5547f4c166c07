"""The grids: how many jobs, no two alike, every family in every mode."""

import json
from collections import Counter

import pytest

from models.runtime.families.work import work
from models.runtime.job import Family, JobSpec, Mode
from models.runtime.operators import Precision
from models.runtime.records import Sharing
from service.measure.gpu_jobs import holdout_jobs, measured_jobs, pair_jobs
from service.measure.grid import jobs
from service.measure.pairs import paired, pairs


def test_the_quick_grid() -> None:
    quick = jobs("quick")
    assert len(quick) == len({job.id for job in quick}) == 48
    families = Counter(job.family for job in quick)
    assert set(families) == set(Family) - {Family.traced}
    assert min(families.values()) >= 6
    assert {job.mode for job in quick} == set(Mode)
    assert {job.precision for job in quick} == {Precision.fp32, Precision.bf16}


def test_quick_jobs_are_small() -> None:
    assert all(2e7 < work(job).flops < 1e10 for job in jobs("quick"))


def test_the_full_grid_holds_the_quick_one() -> None:
    full = {job.id: job for job in jobs("full")}
    assert all(full[job.id] == job for job in jobs("quick"))
    assert 150 < len(full) < 300


@pytest.mark.parametrize("tiny", [False, True])
def test_gpu_jobs_leave_the_holdout_unseen(tiny: bool) -> None:
    seen, unseen = measured_jobs(tiny=tiny), holdout_jobs(tiny=tiny)
    assert {job.family for job in seen} == {job.family for job in unseen} == {job.family for job in pair_jobs(tiny=tiny)} | {Family.encoder}
    if not tiny:  # shrunk to one size, they may coincide
        assert not {strip(job) for job in seen} & {strip(job) for job in unseen}
        assert len(seen) >= 35
        assert {job.mode for job in seen} == set(Mode)
        assert {job.precision for job in seen} == {Precision.fp32, Precision.tf32, Precision.bf16}


def test_the_holdout_is_listed_as_a_file_to_predict(capsys: pytest.CaptureFixture[str]) -> None:
    from service.measure.gpu import main

    assert main(["--list-holdout"]) == 0
    listed = json.loads(capsys.readouterr().out)["jobs"]
    assert tuple(JobSpec.model_validate(one) for one in listed) == holdout_jobs()


def strip(job: JobSpec) -> str:
    return job.model_copy(update={"id": ""}).model_dump_json()


def test_known_networks_have_their_known_sizes() -> None:
    found = {(job.family, job.layers, job.vocab): work(job).parameters / 1e6 for job in measured_jobs()}
    assert found[Family.cnn, 50, 1000] == pytest.approx(25.6, rel=0.01)  # He et al., 2016
    assert found[Family.decoder, 12, 50_257] == pytest.approx(124, rel=0.02)  # Radford et al., 2019, whose positions are 1024
    assert found[Family.encoder, 12, 30_522] == pytest.approx(109, rel=0.02)  # Devlin et al., 2019, without pooler


def test_pairs_are_spread_over_families_and_ways() -> None:
    found = pairs(40, "cpu")
    assert Counter(sharing for sharing, _, _ in found) == {Sharing.same_core: 20, Sharing.two_cores: 20}
    assert len({(first.id, second.id) for _, first, second in found}) == 20
    assert sum(first.family is not second.family for _, first, second in found) > 30
    assert {sharing for sharing, _, _ in pairs(5, "cuda")} == {Sharing.same_device}


def test_pairs_do_not_repeat_within_a_square_of_the_jobs() -> None:
    specs = jobs("quick")[:5]
    found = paired(specs, 20, (Sharing.same_core,))
    assert len({(first.id, second.id) for _, first, second in found}) == 20
