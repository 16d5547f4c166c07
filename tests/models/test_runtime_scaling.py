"""The scaling law: what it computes, that it is found again from runs it made, and what it says when little is known."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from models.program import Floats
from models.runtime.scaling.estimator import Belief, most_probable, slopes
from models.runtime.scaling.law import FORMS, PARAMETERS, Form, Hops, Runs, Shapes, Waiting, delays, largest_normal
from models.runtime.scaling.pollux import log_ridge, no_communication, pollux, pollux_log_seconds
from models.runtime.scaling.pooled import Scaling, choose_form, fit
from models.runtime.scaling.strong import in_proportion, time_to_train, weak_scaling

TRUE = {
    "overhead_s": 0.05,
    "per_sample_s": 0.004,
    "sharpness": 1.0,
    "wait": 0.05,
    "local_ring_s": 0.02,
    "local_hop_s": 0.004,
    "pair_ring_s": 0.08,
    "wide_ring_s": 0.06,
    "wide_hop_s": 0.01,
    "overlap": 0.7,
}
USUAL = Form()
PLACES = ((1, 1), (2, 1), (2, 2), (3, 1), (3, 2), (3, 3), (4, 1), (4, 2), (4, 4), (8, 1), (8, 2), (16, 4), (32, 8), (64, 16))  # GPUs, nodes


def made(coefficients: dict[str, float], form: Form = USUAL, noise: float = 0.0, seed: int = 0) -> Runs:
    batches = (8.0, 16.0, 32.0, 64.0)
    table = np.array([(batch, gpus, nodes) for gpus, nodes in PLACES for batch in batches], dtype=np.float64)
    parameters = np.log([coefficients[name] for name in PARAMETERS])
    logs = Shapes.of(table[:, 0], table[:, 1], table[:, 2], form).log_seconds(parameters)
    logs = logs + noise * np.random.default_rng(seed).standard_normal(len(logs))
    return Runs(table[:, 0], table[:, 1], table[:, 2], np.exp(logs))


def cluster(noise: float = 0.02, jobs: int = 4, form: Form = USUAL) -> dict[tuple[str, str], Runs]:
    """Jobs of unlike size on one cluster."""
    groups = {}
    for job in range(jobs):
        sizes = TRUE | {"per_sample_s": 0.002 * (job + 1), "overhead_s": 0.02 * (job + 1), "wait": 0.04 + 0.01 * job}
        groups[f"job {job}", "here"] = made(sizes, form, noise, job)
    return groups


def small(groups: dict[tuple[str, str], Runs]) -> dict[tuple[str, str], Runs]:
    return {key: runs.only(runs.gpus <= 4) for key, runs in groups.items()}


def median_error(model: Scaling, runs: Runs) -> float:
    asked = runs.only(runs.gpus > 4)
    return float(np.median(np.abs(model.predict(asked.batch, asked.gpus, asked.nodes).p50_s / asked.step_s - 1)))


def test_the_law_by_hand() -> None:
    runs = made(TRUE)
    at = int(np.flatnonzero((runs.gpus == 4) & (runs.nodes == 2) & (runs.batch == 16))[0])
    computing = math.hypot(0.05, 0.004 * 16)  # sharpness 1: power 2
    exchange = 0.08 * 2 * 3 / 4 + 0.01 * 2
    joined = (computing**1.7 + exchange**1.7) ** (1 / 1.7)
    assert runs.step_s[at] == pytest.approx(joined + 0.05 * largest_normal(4) * computing, rel=1e-9)
    alone = int(np.flatnonzero((runs.gpus == 1) & (runs.batch == 16))[0])
    assert runs.step_s[alone] == pytest.approx(computing, rel=1e-9)


def test_the_largest_of_normal_draws() -> None:
    assert largest_normal(1) == pytest.approx(0, abs=1e-9)
    assert largest_normal(2) == pytest.approx(1 / math.sqrt(math.pi), rel=1e-6)
    assert largest_normal(3) == pytest.approx(1.5 / math.sqrt(math.pi), rel=1e-6)
    draws = np.random.default_rng(0).standard_normal((20_000, 16)).max(axis=1)
    assert largest_normal(16) == pytest.approx(draws.mean(), abs=0.02)
    gpus = np.array([1.0, 2.0, 16.0])
    assert list(delays(gpus, Waiting.NONE)) == [0, 0, 0]
    uniform = np.random.default_rng(1).uniform(-math.sqrt(3), math.sqrt(3), (20_000, 16)).max(axis=1)
    assert delays(gpus, Waiting.UNIFORM)[2] == pytest.approx(uniform.mean(), abs=0.02)


@given(st.floats(-8, 2), st.floats(-3, 3), st.integers(1, 512), st.sampled_from(FORMS))
@settings(max_examples=60, deadline=None)
def test_a_step_is_finite_and_never_shorter_than_computing(log_size: float, log_overlap: float, gpus: int, form: Form) -> None:
    coefficients = {name: math.exp(log_size) for name in PARAMETERS} | {"overlap": math.exp(log_overlap), "sharpness": 1.0}
    parameters = np.log([coefficients[name] for name in PARAMETERS])
    ones = np.ones(1)
    many = Shapes.of(8 * ones, gpus * ones, ones, form).log_seconds(parameters)
    alone = Shapes.of(8 * ones, ones, ones, form).log_seconds(parameters)
    assert np.isfinite(many).all()
    assert many[0] >= alone[0] - 1e-12


def test_large_runs_are_foretold_from_small_ones() -> None:
    groups = cluster()
    models = fit(small(groups))
    for key, runs in groups.items():
        model = models[key]
        assert median_error(model, runs) < 0.12
        assert all(value > 0 for value in model.coefficients.values())
        assert set(model.coefficients) == set(PARAMETERS)
    baseline = groups["job 0", "here"]
    asked = baseline.only(baseline.gpus > 4)
    off = np.median(np.abs(pollux(small(groups)["job 0", "here"])(asked) / asked.step_s - 1))
    assert off > 2 * median_error(models["job 0", "here"], baseline)


def test_intervals_hold_most_runs_and_widen_with_distance() -> None:
    groups = cluster(noise=0.04)
    models = fit(small(groups))
    inside = []
    for key, runs in groups.items():
        found = models[key].predict(runs.batch, runs.gpus, runs.nodes)
        assert np.all((found.p10_s < found.p50_s) & (found.p50_s < found.p90_s))
        inside.append((found.p10_s <= runs.step_s) & (runs.step_s <= found.p90_s))
        width = found.p90_s / found.p10_s
        assert width[runs.gpus == 64].mean() > width[runs.gpus == 4].mean()
    assert np.concatenate(inside).mean() > 0.7


def test_extrapolation_is_flagged() -> None:
    model = fit(small(cluster()))["job 0", "here"]
    batch, gpus = np.array([16.0, 16.0, 128.0, 4.0]), np.array([4.0, 8.0, 4.0, 4.0])
    assert list(model.predict(batch, gpus, np.array([2.0, 2.0, 2.0, 2.0])).extrapolated) == [False, True, True, True]
    one_node = cluster()["job 0", "here"]
    local = fit({("job", "here"): one_node.only(one_node.nodes == 1)})["job", "here"]
    asked = local.predict(np.array([16.0, 16.0]), np.array([4.0, 4.0]), np.array([1.0, 2.0]))
    assert list(asked.extrapolated) == [False, True]


def test_the_form_that_made_the_runs_is_found() -> None:
    strong = TRUE | {"wait": 0.3, "wide_hop_s": 1e-5, "local_hop_s": 1e-5, "overlap": 0.01}
    groups = {
        ("a", "x"): made(strong, Form(Waiting.UNIFORM), 0.01),
        ("b", "x"): made(strong | {"wait": 0.4}, Form(Waiting.UNIFORM), 0.01, 1),
    }
    found, errors = choose_form(small(groups))
    assert set(errors) == set(FORMS)
    assert errors[found] == min(errors.values())
    assert errors[Form(Waiting.UNIFORM)] <= errors[Form(Waiting.NONE)] + 1e-9


def test_one_gpu_only_says_little_of_more() -> None:
    runs = made(TRUE, noise=0.01).only(made(TRUE).gpus == 1)
    model = fit({("job", "here"): runs})["job", "here"]
    assert not model.tested
    found = model.predict(np.array([16.0, 16.0]), np.array([1.0, 8.0]), np.array([1.0, 1.0]))
    assert list(found.extrapolated) == [False, True]
    assert found.p90_s[1] / found.p10_s[1] > 1.3 * found.p90_s[0] / found.p10_s[0]
    assert choose_form({("job", "here"): runs}) == (Form(), {})


def test_one_run_is_enough_for_a_number() -> None:
    one = Runs(np.array([16.0]), np.array([1.0]), np.array([1.0]), np.array([0.2]))
    found = fit({("job", "here"): one})["job", "here"].predict(np.array([16.0]), np.array([1.0]), np.array([1.0]))
    assert found.p50_s[0] == pytest.approx(0.2, rel=0.1)


def test_a_wild_run_does_not_move_the_fit() -> None:
    groups = cluster(noise=0.01)
    runs = small(groups)["job 0", "here"]
    times = runs.step_s.copy()
    times[5] *= 8
    wild = fit({("job", "here"): replace(runs, step_s=times)}, Form())["job", "here"]
    calm = fit({("job", "here"): runs}, Form())["job", "here"]
    asked = (np.array([32.0]), np.array([8.0]), np.array([2.0]))
    assert wild.predict(*asked).p50_s[0] == pytest.approx(calm.predict(*asked).p50_s[0], rel=0.15)


def test_the_order_of_jobs_and_runs_changes_nothing() -> None:
    groups = small(cluster(jobs=3))
    turned = {key: runs.only(np.argsort(-runs.step_s)) for key, runs in reversed(list(groups.items()))}  # type: ignore[arg-type]
    asked = (np.array([32.0]), np.array([8.0]), np.array([2.0]))
    for key, model in fit(groups, Form()).items():
        assert fit(turned, Form())[key].predict(*asked).p50_s[0] == pytest.approx(model.predict(*asked).p50_s[0], rel=1e-3)


@pytest.mark.parametrize(
    ("column", "value"),
    [("step_s", 0.0), ("step_s", -1.0), ("step_s", math.nan), ("batch", 0.0), ("gpus", 0.0), ("gpus", 2.5), ("nodes", 99.0)],
)
def test_a_run_that_cannot_be_is_named(column: str, value: float) -> None:
    runs = made(TRUE)
    values = getattr(runs, column).copy()
    values[3] = value
    with pytest.raises(ValueError, match="run 3"):
        replace(runs, **{column: values})


@pytest.mark.parametrize("factor", [1e-6, 1e3])
def test_units_of_time_change_nothing(factor: float) -> None:
    groups = small(cluster(jobs=2))
    scaled = {key: replace(runs, step_s=factor * runs.step_s) for key, runs in groups.items()}
    asked = (np.array([32.0, 32.0]), np.array([8.0, 64.0]), np.array([2.0, 16.0]))
    for key, model in fit(groups, Form()).items():
        one, other = model.predict(*asked), fit(scaled, Form())[key].predict(*asked)
        assert other.p50_s == pytest.approx(factor * one.p50_s, rel=1e-3)
        assert other.p90_s / other.p10_s == pytest.approx(one.p90_s / one.p10_s, rel=1e-2)


def test_missing_runs_and_columns_of_unlike_length() -> None:
    with pytest.raises(ValueError, match="nothing to fit"):
        fit({})
    none = Runs(*(np.zeros(0) for _ in range(4)))
    with pytest.raises(ValueError, match="bert on aws has no runs"):
        fit({("bert", "aws"): none})
    with pytest.raises(ValueError, match="one length"):
        Runs(np.ones(2), np.ones(3), np.ones(3), np.ones(3))


def test_the_estimator_finds_what_scipy_finds() -> None:
    rng = np.random.default_rng(3)
    table, belief = rng.standard_normal((30, 3)), Belief(np.zeros(3), np.array([1.0, 2.0, 0.5]))
    logs = table @ np.array([0.3, -0.2, 0.1]) + 0.1 * np.tanh(table[:, 0]) + 0.02 * rng.standard_normal(30)

    def law(at: Floats) -> Floats:
        return np.asarray(table @ at + 0.1 * np.tanh(at[0] * table[:, 1]))

    def loss(at: Floats) -> float:
        size = np.abs(law(at) - logs) / 0.05
        huber = np.where(size > 3, 6 * size - 9, size**2).sum()
        return float(huber + (((at - belief.mean) / belief.spread) ** 2).sum())

    found = most_probable(law, np.exp(logs), belief, 0.05)
    assert found.loss <= minimize(loss, found.mean, method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-9}).fun + 1e-5
    assert found.loss == pytest.approx(loss(found.mean))
    assert np.all(np.linalg.eigvalsh(found.covariance) > 0)
    assert slopes(law, np.zeros(3)) == pytest.approx(table + 0.1 * np.outer(table[:, 1], [1, 0, 0]), abs=1e-3)


def test_pollux_finds_its_own_form_again() -> None:
    runs = made(TRUE)
    parameters = np.append(np.log([0.05, 0.004, 0.02, 0.005, 0.06, 0.01]), 0.3)
    own = replace(runs, step_s=np.exp(pollux_log_seconds(parameters, runs)))
    found = pollux(own.only(own.gpus <= 4))(own)
    assert found == pytest.approx(own.step_s, rel=0.02)


def test_simple_forms() -> None:
    runs = made(TRUE)
    few = runs.only(runs.gpus <= 4)
    flat = no_communication(few)(runs)
    assert flat[runs.gpus == 64] == pytest.approx(flat[runs.gpus == 1])
    assert np.all(flat > 0)
    power = replace(runs, step_s=0.01 * runs.batch**0.7)
    assert log_ridge(power.only(power.gpus <= 4))(power) == pytest.approx(power.step_s, rel=0.1)
    same = Runs(np.full(3, 8.0), np.ones(3), np.ones(3), np.array([0.1, 0.11, 0.09]))
    assert log_ridge(same)(same) == pytest.approx(0.1, rel=0.02)
    assert no_communication(same)(same) == pytest.approx(0.1, rel=0.05)


def test_time_to_train_lies_between_proportion_and_standstill() -> None:
    sizes = np.array([8.0, 16.0, 32.0])
    minutes = 400 / sizes + 2.0
    curve = time_to_train(sizes, minutes)
    found = curve.predict(np.array([16.0, 64.0]))
    assert list(found.extrapolated) == [False, True]
    assert in_proportion(sizes, minutes, np.array([64.0]), weak=False)[0] < found.p50[1] < minutes[-1]
    assert found.p50[1] == pytest.approx(400 / 64 + 2, rel=0.1)
    assert found.p10[1] < found.p50[1] < found.p90[1]


def test_weak_scaling_recovers_its_law() -> None:
    sizes = np.array([1.0, 2.0])
    per_s = sizes * 100 / (1 + 0.2 * 2 * (sizes - 1) / sizes)
    found = weak_scaling(sizes, per_s).predict(np.array([8.0]))
    assert found.p50[0] == pytest.approx(800 / (1 + 0.2 * 2 * 7 / 8), rel=0.03)
    assert in_proportion(sizes, per_s, np.array([8.0]), weak=True)[0] == pytest.approx(4 * per_s[1])


def test_other_cases_widen_a_curve_and_its_own_fit_does_not() -> None:
    sizes = np.array([1.0, 2.0])
    curve = weak_scaling(sizes, sizes * 100.0)
    asked = np.array([2.0, 8.0])
    alone = curve.predict(asked)
    assert np.all(np.diff(np.log(alone.p90 / alone.p10)) > 0)  # wider, the further beyond
    scores = curve.scores(np.array([4.0, 8.0]), np.array([300.0, 500.0]))
    assert np.all(scores > 0)
    far = curve.widened([scores, scores, 5 * scores, 2 * scores, scores])
    assert far.widening == pytest.approx(5 * scores.max() / 1.28155)
    assert far.predict(asked).p90 / far.predict(asked).p10 == pytest.approx((alone.p90 / alone.p10) ** (far.widening / curve.widening))
    quiet = curve.widened([np.full(9, 0.01)] * 6)
    assert quiet.widening == 1.0  # never narrower than the fit's own
    assert curve.widened([]).widening == pytest.approx(2.0)
    assert curve.widened([np.full(3, 9.0)]).widening == pytest.approx(9.0 / 1.28155)
    with pytest.raises(ValueError, match="not positive"):
        curve.scores(sizes, np.zeros(2))


def test_few_jobs_are_few_scores_however_many_runs() -> None:
    """Three jobs cannot tell how a fourth differs: intervals are twice as wide at least, and it is said."""
    groups = small(cluster(jobs=3))
    for model in fit(groups, USUAL).values():
        assert not model.tested
        assert model.widening >= 2.0
    wild = groups["job 0", "here"].step_s.copy()
    wild[np.flatnonzero(groups["job 0", "here"].gpus == 4)[0]] *= 8
    disturbed = fit(groups | {("job 0", "here"): replace(groups["job 0", "here"], step_s=wild)}, USUAL)
    assert disturbed["job 1", "here"].widening < 5  # one wild run is not the measure of all
    for model in fit(small(cluster(jobs=4)), USUAL).values():
        assert model.tested


def test_curves_refuse_what_cannot_be() -> None:
    with pytest.raises(ValueError, match="at least one run"):
        time_to_train(np.zeros(0), np.zeros(0))
    with pytest.raises(ValueError, match="not positive"):
        weak_scaling(np.ones(1), np.zeros(1))
    with pytest.raises(ValueError, match="at least one accelerator"):
        time_to_train(np.zeros(1), np.ones(1))
    assert Form().hops is Hops.TREE


def test_a_noisy_cluster_is_not_judged_by_a_quiet_one() -> None:
    """Its own runs widen its intervals; the quiet one's are never narrower than those of all runs together."""
    noisy = {(job, "there"): runs for (job, _), runs in cluster(noise=0.3).items()}
    quiet = cluster(noise=0.02)
    models = fit(small(quiet | noisy), USUAL)
    widening = {place: models["job 0", place].widening for place in ("here", "there")}
    assert widening["there"] > 1.5 * widening["here"]
    assert all(models["job 2", place].widening == value for place, value in widening.items())
    assert models["job 0", "there"].tested
