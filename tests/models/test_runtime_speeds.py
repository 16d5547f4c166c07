"""Predicted speeds as the sharing of GPU time takes them: their numbers, where a job cannot run, gangs, pairs, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from models.runtime.device import Coefficient, DeviceSpec, Source
from models.runtime.devices_known import known_devices
from models.runtime.job import Family, JobSpec, Parallel
from models.runtime.prediction.communication import rings
from models.runtime.prediction.memory import memory
from models.runtime.prediction.predict import predict
from models.runtime.records import PairRecord, Sharing
from models.runtime.speeds.jobs import SharedJob, SharedJobs
from models.runtime.speeds.pairs import paired
from models.runtime.speeds.predicted import Offer, Speeds, robust_budget, speeds
from models.runtime.speeds.spread import spread_device, with_network
from tests.models.test_runtime_evaluate import ROW

V100, T4 = known_devices()["V100-SXM2-16GB"], known_devices()["T4"]


def job(fields: dict[str, Any]) -> SharedJob:
    return SharedJob.model_validate(fields)


def mlp(**fields: Any) -> SharedJob:
    return job({"id": "mlp", "family": "mlp", "layers": 4, "width": 2048, "batch": 256, "steps": 1000} | fields)


def cnn(**fields: Any) -> SharedJob:
    return job({"id": "cnn", "family": "cnn", "layers": 50, "width": 64, "classes": 1000, "batch": 32} | fields)


def offers(**links: float) -> list[Offer]:
    devices = [with_network(device, links["gbps"]) if links else device for device in (V100, T4)]
    return [Offer(devices[0], 8, 3.0), Offer(devices[1], 4, 0.5)]


def found(*jobs: SharedJob, on: list[Offer] | None = None, **options: Any) -> Speeds:
    return speeds(SharedJobs(jobs=jobs), on or offers(), **options)


def test_speeds_are_those_of_the_predictor() -> None:
    given = found(mlp(), cnn())
    assert [(one.workload, one.accelerator) for one in given.found] == [(w, a.name) for w in ("mlp", "cnn") for a in (V100, T4)]
    plain = JobSpec(family=Family.mlp, layers=4, width=2048, batch=256, steps=1000)
    told = predict(plain, V100)
    assert given.found[0].steps_per_s == pytest.approx(1 / told.step_s.p50)
    assert given.found[0].slow_steps_per_s == pytest.approx(1 / told.step_s.p90)
    assert given.found[0].need == memory(plain, V100)
    assert all(0 < one.slow_steps_per_s < one.steps_per_s for one in given.found)


def test_the_parts_of_a_problem() -> None:
    asked = SharedJobs.model_validate(
        {
            "now_s": 5.0,
            "tenants": [{"id": "team", "weight": 2}],
            "jobs": [
                mlp(count=3, weight=2.0, tenant="team", deadline_s=9.0, total_steps=2000).model_dump(),
                mlp(id="again", steps=7).model_dump(),
                cnn(id="", steps=0).model_dump(),
            ],
        }
    )
    problem = speeds(asked, offers()).problem("least_cost", robust_budget(1.5))
    assert problem["accelerators"][0] == {"id": V100.name, "count": 8, "usd_per_hour": 3.0, "gpus_per_node": 8}
    assert [(one["id"], one["gpus"], len(one["speeds"])) for one in problem["workloads"]] == [("mlp", 1, 2), ("j2", 1, 2)]
    assert problem["jobs"] == [
        {
            "id": "mlp",
            "workload": "mlp",
            "count": 3,
            "weight": 2.0,
            "tenant": "team",
            "total_steps": 2000.0,
            "deadline_s": 9.0,
            "remaining_steps": 1000.0,
        },
        {"id": "again", "workload": "mlp", "remaining_steps": 7.0},  # the same work: the same workload
        {"id": "j2", "workload": "j2"},
    ]
    assert (problem["policy"], problem["now_s"], problem["robust"]) == ("least_cost", 5.0, {"budget": 1.5})
    assert problem["tenants"] == [{"id": "team", "weight": 2.0}]
    assert "pairs" not in problem


def test_a_device_without_room_is_left_out_and_says_so() -> None:
    size: dict[str, Any] = {"layers": 24, "width": 1024, "heads": 16, "seq": 1024, "vocab": 50257, "batch": 8}
    large = job({"id": "gpt", "family": "decoder", "precision": "fp16", "weights": "autocast"} | size)
    a100 = Offer(known_devices()["A100-SXM4-40GB"], 2)
    given = found(large, on=[*offers(), a100])
    assert [one.accelerator for one in given.found] == ["A100-SXM4-40GB"]
    assert [one.accelerator for one in given.left_out] == [V100.name, T4.name]
    first = given.left_out[0]
    assert first.fits_probability == memory(large.spec, V100).fits_probability < 0.9
    assert "probability" in first.why
    daring = found(large, on=[*offers(), a100], least_fit=0.2)
    assert len(daring.found) == 3
    assert any("fits into the memory with probability" in warning for warning in daring.warnings)


def test_a_job_that_runs_nowhere_is_an_error_with_all_reasons() -> None:
    with pytest.raises(ValueError, match=r"/jobs/1: job 'cnn'.*V100-SXM2-16GB: its gang of 16 is larger than the 8.*T4: .*offer another"):
        found(mlp(), cnn(parallel=Parallel(dp=16)))
    with pytest.raises(ValueError, match=r"/jobs/0: job 'x' can run on none.*traced"):
        found(job({"id": "x", "family": "traced"}))
    with pytest.raises(ValueError, match=r"bf16"):
        found(mlp(precision="bf16"))


def test_a_precision_that_one_device_lacks_leaves_only_that_device_out() -> None:
    given = found(mlp(precision="bf16"), on=[*offers(), Offer(known_devices()["A100-SXM4-40GB"], 2)])
    assert [one.accelerator for one in given.found] == ["A100-SXM4-40GB"]
    assert all("bf16" in one.why for one in given.left_out)


@pytest.mark.parametrize(
    ("jobs", "words"),
    [
        ((), "/jobs: there is no job"),
        ((mlp(), mlp()), "/jobs/1/id: the id 'mlp' is already that of /jobs/0"),
        ((mlp(measured_steps_per_s={"H100": 3.0}),), "/jobs/0/measured_steps_per_s: no device 'H100'"),
    ],
)
def test_wrong_jobs(jobs: tuple[SharedJob, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        found(*jobs)


def test_wrong_devices() -> None:
    with pytest.raises(ValueError, match="device 2 is called 'T4' as device 1 is"):
        found(mlp(), on=[Offer(T4, 1), Offer(T4, 2)])
    with pytest.raises(ValueError, match="between 0 and 1"):
        found(mlp(), least_fit=1.5)


def test_measured_speeds_take_the_place_of_predictions() -> None:
    given = found(mlp(measured_steps_per_s={V100.name: 123.0}))
    assert (given.found[0].steps_per_s, given.found[0].measured, given.found[0].extrapolated) == (123.0, True, False)
    assert not given.found[1].measured


def test_extrapolations_are_in_one_warning_for_each_device() -> None:
    given = found(mlp(), cnn())
    assert [warning for warning in given.warnings if "extrapolated" in warning] == [
        f"{device.name}: extrapolated for mlp, cnn: {device.name} was never calibrated on measured jobs" for device in (V100, T4)
    ]


# ---------------------------------------------------------------- gangs


def test_a_gang_that_is_spread_talks_over_the_network() -> None:
    gang = cnn(parallel=Parallel(dp=4))
    given = found(gang, on=offers(gbps=10.0))
    for one in given.found:
        assert one.spread_steps_per_s is not None
        assert one.spread_steps_per_s < one.steps_per_s
    fast = found(gang, on=offers(gbps=400.0)).found[0]
    assert fast.steps_per_s == given.found[0].steps_per_s, "a consolidated gang stays on its node"
    assert (fast.spread_steps_per_s or 0) > (given.found[0].spread_steps_per_s or 0)
    assert all(one.spread_steps_per_s is None for one in found(gang).found), "no link between nodes is known"
    assert all(one.spread_steps_per_s is None for one in found(cnn(), on=offers(gbps=10.0)).found), "one GPU is no gang"


def test_a_spread_gang_has_as_few_members_on_a_node_as_the_network_joins() -> None:
    def small(nodes: int) -> DeviceSpec:
        wired = with_network(V100, 10.0)
        return wired.model_copy(update={"links": (wired.links[0], wired.links[1].model_copy(update={"devices": nodes}))})

    for nodes, gang, peers in ((16, 8, [8]), (4, 8, [2, 4]), (2, 8, [4, 2])):
        spread = spread_device(small(nodes), gang)
        assert spread is not None
        assert [ring.peers for ring in rings(gang, 1, spread.links)] == peers
    assert spread_device(small(1), 8) is None
    assert spread_device(small(2), 16) is None, "a gang that fills all nodes is as it is"
    alone = with_network(V100.model_copy(update={"links": ()}), 10.0)
    assert alone.links[0].devices == 1
    assert with_network(alone, 99.0) is alone


# ---------------------------------------------------------------- scenarios and pairs


def test_scenarios_slow_one_device_at_a_time_to_the_tenth_percentiles() -> None:
    given = found(mlp(), cnn())
    plain, *slow = given.robust_scenarios()["scenarios"]
    assert plain == {"id": "as predicted"}
    assert [one["id"] for one in slow] == [f"slow {V100.name}", f"slow {T4.name}"]
    speed = {(one.workload, one.accelerator): one for one in given.found}
    for one in slow:
        assert len(one["factors"]) == 2
        for factor in one["factors"]:
            at = speed[factor["workload"], factor["accelerator"]]
            assert factor["factor"] * at.steps_per_s == pytest.approx(at.slow_steps_per_s)


def pair(first: JobSpec, second: JobSpec, slow: tuple[float, float], **fields: Any) -> PairRecord:
    row: dict[str, Any] = ROW | {"sharing": Sharing.same_device, "first_alone_s": 1.0, "second_alone_s": 1.0} | fields
    return PairRecord(first=first, second=second, first_together_s=slow[0], second_together_s=slow[1], **row)


def test_pairs_are_measured_or_predicted_and_no_better_than_their_medians() -> None:
    jobs = [mlp(), mlp(id="mlp2", batch=128), cnn(), cnn(id="cnn2", batch=16), cnn(id="gang", parallel=Parallel(dp=2))]
    plain = found(*jobs)
    rows = [
        pair(jobs[0].spec.model_copy(update={"id": "x", "steps": 1}), jobs[2].spec, (1.25, 1.6)),
        pair(jobs[2].spec, jobs[2].spec, (1.7, 1.5)),
        pair(jobs[1].spec, jobs[0].spec, (1.2, 1.3)),
        pair(jobs[1].spec, jobs[3].spec, (9.0, 9.0), accepted=False),
        pair(jobs[1].spec, jobs[3].spec, (1.01, 1.01), sharing=Sharing.two_cores),
    ]
    median = {(one["first"], one["second"]): one for one in paired(plain, {V100.name: rows}, medians=True).pairs}
    careful = {(one["first"], one["second"]): one for one in paired(plain, {V100.name: rows}).pairs}
    alone = {one.workload: one.steps_per_s for one in plain.found if one.accelerator == V100.name}
    assert median["mlp", "cnn"]["first_steps_per_s"] == pytest.approx(alone["mlp"] / 1.25)
    assert median["mlp", "cnn"]["second_steps_per_s"] == pytest.approx(alone["cnn"] / 1.6)
    assert median["mlp", "mlp2"]["first_steps_per_s"] == pytest.approx(alone["mlp"] / 1.3), "told from the other side"
    twins = median["cnn", "cnn"]
    assert twins["first_steps_per_s"] == twins["second_steps_per_s"] == pytest.approx(alone["cnn"] * (1 / 1.7 + 1 / 1.5) / 2)
    assert careful.keys() <= median.keys()
    assert careful["mlp", "cnn"] == median["mlp", "cnn"]
    assert all(one[side] <= median[key][side] for key, one in careful.items() for side in ("first_steps_per_s", "second_steps_per_s"))
    assert not any("gang" in key for key in median)
    for one in median.values():
        assert one["first_steps_per_s"] / alone[one["first"]] + one["second_steps_per_s"] / alone[one["second"]] >= 1.0
    told = paired(plain, {V100.name: rows}).warnings[-1]
    assert "pairs are predicted from 3 measured ones" in told
    assert told.endswith("in no measured pair: cnn2")


def test_pairs_that_do_not_fit_together_are_left_out() -> None:
    need = found(mlp()).found[0].need.total_gib
    tight = V100.model_copy(update={"memory_gib": 1.6 * need})
    given = found(mlp(), on=[Offer(tight, 2)])
    rows = [pair(given.jobs[0].spec, given.jobs[0].spec, (1.1, 1.1))]
    assert paired(given, {V100.name: rows}).pairs == ()
    assert len(paired(found(mlp()), {V100.name: rows}).pairs) == 1


def test_wrong_pairs() -> None:
    given = found(mlp())
    with pytest.raises(ValueError, match=r"'H100', which is not on offer \(there are: V100"):
        paired(given, {"H100": []})
    with pytest.raises(ValueError, match="no accepted pair ran on one 'T4'"):
        paired(given, {"T4": []})


def test_a_wide_interval_is_told() -> None:
    vague = Coefficient(value=0.5, source=Source.assumed, log_sd=3.0)
    classes = tuple(row.model_copy(update={"efficiency": vague}) for row in V100.classes)
    given = found(mlp(), on=[Offer(V100.model_copy(update={"classes": classes}), 1)])
    assert any("times below the median; measure it there" in warning for warning in given.warnings)
