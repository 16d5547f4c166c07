"""Pairs that share a device: the model is found again from pairs it made, and says what it does not know."""

import math

import numpy as np
import pytest

from models.runtime.scaling.variances import combined, most_probable_variances
from models.runtime.speeds.interference import FilledPair, Interference, JobType, PairSpeed, filled_pairs, fit

JOBS = tuple(
    JobType(f"{family} {batch:g}", family, batch) for family in ("conv", "text", "rank", "play") for batch in (8.0, 16.0, 32.0, 64.0)
)
LIKES = {"conv": 0.8, "text": 0.2, "rank": -0.4, "play": -0.9}
PRESSES = {"conv": -0.7, "text": 0.1, "rank": 0.3, "play": 0.6}


def truth(first: JobType, second: JobType) -> float:
    """Additive in logits, smooth in the batch."""
    logit = 0.3 + LIKES[first.family] + PRESSES[second.family] - 0.25 * math.log2(second.batch / 16) + 0.1 * math.log2(first.batch / 16)
    return 1 / (1 + math.exp(-logit))


def all_pairs() -> list[PairSpeed]:
    return [PairSpeed(a.name, b.name, truth(a, b), truth(b, a)) for place, a in enumerate(JOBS) for b in JOBS[place:]]


def fifth(seed: int = 0) -> tuple[list[PairSpeed], list[PairSpeed]]:
    pairs = all_pairs()
    order = np.random.default_rng(seed).permutation(len(pairs))
    count = len(pairs) // 5
    return [pairs[place] for place in order[:count]], [pairs[place] for place in order[count:]]


def error(model: Interference, pairs: list[PairSpeed]) -> float:
    found = model.predict([pair.first for pair in pairs], [pair.second for pair in pairs])
    return float(np.abs(found.p50 - [pair.first_speed for pair in pairs]).mean())


@pytest.mark.parametrize("habits", [True, False])
def test_a_fifth_of_the_pairs_foretells_the_rest(habits: bool) -> None:
    known, hidden = fifth()
    model = fit(JOBS, known, habits=habits)
    assert error(model, hidden) < 0.03
    assert error(model, hidden) < np.abs(np.array([pair.first_speed for pair in hidden]) - 0.5).mean() / 5
    assert model.tested


def test_habits_of_families_are_learnt_where_they_are() -> None:
    def odd(pair: PairSpeed) -> PairSpeed:
        """The ranking jobs do not mind each other."""
        return PairSpeed(pair.first, pair.second, 0.95, 0.95) if pair.first[:4] == pair.second[:4] == "rank" else pair

    known, hidden = ([odd(pair) for pair in part] for part in fifth(1))
    with_habits, without = fit(JOBS, known), fit(JOBS, known, habits=False)
    assert error(with_habits, hidden) < error(without, hidden)


def test_speeds_and_intervals_stay_in_order_and_in_range() -> None:
    known, hidden = fifth()
    found = fit(JOBS, known).predict([pair.first for pair in hidden], [pair.second for pair in hidden])
    assert np.all((found.p10 > 0) & (found.p10 <= found.p50) & (found.p50 <= found.p90) & (found.p90 <= 1))
    speeds = np.array([pair.first_speed for pair in hidden])
    assert ((found.p10 <= speeds) & (speeds <= found.p90)).mean() > 0.7


def test_no_interference_at_all_can_be_said() -> None:
    free = [PairSpeed(a.name, b.name, 1.0, 1.0) for place, a in enumerate(JOBS) for b in JOBS[place:]]
    assert fit(JOBS, free[::3]).predict([JOBS[0].name], [JOBS[5].name]).p50[0] > 0.97


def test_a_job_in_no_pair_is_drawn_to_its_family_and_flagged() -> None:
    newcomer, stranger = JobType("conv 128", "conv", 128.0), JobType("odd", "odd")
    known = all_pairs()[::4]
    model = fit((*JOBS, newcomer, stranger), known)
    assert model.measured.sum() == len(JOBS)
    found = model.predict(["conv 128", "odd", "conv 64"], ["text 8", "text 8", "text 8"])
    assert list(found.extrapolated) == [True, True, False]
    assert abs(found.p50[0] - truth(JOBS[3], JOBS[4])) < 0.15
    assert found.p90[1] - found.p10[1] > found.p90[0] - found.p10[0] > found.p90[2] - found.p10[2]


def test_one_pair_gives_a_number_and_a_wide_interval() -> None:
    model = fit(JOBS, [PairSpeed(JOBS[0].name, JOBS[4].name, 0.4, 0.7)])
    assert not model.tested
    far = model.predict([JOBS[8].name], [JOBS[12].name])
    near = model.predict([JOBS[0].name], [JOBS[4].name])
    assert near.p50[0] == pytest.approx(0.4, abs=0.1)
    assert far.p90[0] - far.p10[0] > near.p90[0] - near.p10[0]


def test_the_order_of_pairs_and_sides_changes_nothing() -> None:
    known, _ = fifth()
    turned = [PairSpeed(pair.second, pair.first, pair.second_speed, pair.first_speed) for pair in reversed(known)]
    names = [job.name for job in JOBS]
    one, other = fit(JOBS, known).predict(names, names[::-1]), fit(JOBS, turned).predict(names, names[::-1])
    assert one.p50 == pytest.approx(other.p50, abs=1e-6)


def test_filled_pairs_keep_what_was_measured() -> None:
    known, _ = fifth()
    model = fit(JOBS, known)
    alone = {job.name: 2.0 + place for place, job in enumerate(JOBS)}
    filled = filled_pairs(model, alone, known)
    assert len(filled) == len(JOBS) * (len(JOBS) + 1) // 2
    measured = {frozenset((pair.first, pair.second)): pair for pair in known}
    assert sum(not one.predicted for one in filled) == len(measured)
    for one in filled:
        assert 0 < one.first_slow_steps_per_s <= one.first_steps_per_s <= alone[one.first]
        assert 0 < one.second_slow_steps_per_s <= one.second_steps_per_s <= alone[one.second]
        pair = measured.get(frozenset((one.first, one.second)))
        assert one.predicted == (pair is None)
        if pair is not None:
            first = pair.first_speed if pair.first == one.first else pair.second_speed
            assert one.first_steps_per_s == pytest.approx(first * alone[one.first])
    sides = {(one.first, one.second): one for one in filled}
    here = sides[JOBS[0].name, JOBS[9].name]
    assert isinstance(here, FilledPair)
    if here.predicted:
        expected = model.predict([JOBS[9].name], [JOBS[0].name]).p50[0] * alone[JOBS[9].name]
        assert here.second_steps_per_s == pytest.approx(expected)


def test_pairs_that_do_not_fit_are_left_out() -> None:
    known, _ = fifth()
    alone = {job.name: 1.0 for job in JOBS}
    filled = filled_pairs(fit(JOBS, known), alone, known, fits=lambda first, second: "64" not in first + second)
    assert filled
    assert not any("64" in one.first + one.second for one in filled)


def test_bad_pairs_are_named() -> None:
    with pytest.raises(ValueError, match="no pair was measured"):
        fit(JOBS, [])
    with pytest.raises(ValueError, match=r"'conv 8'.*speed 0"):
        fit(JOBS, [PairSpeed("conv 8", "text 8", 0.0, 0.5)])
    with pytest.raises(ValueError, match="'nobody'"):
        fit(JOBS, [PairSpeed("nobody", "text 8", 0.5, 0.5)])
    with pytest.raises(ValueError, match="listed twice"):
        fit((*JOBS, JOBS[0]), fifth()[0])
    with pytest.raises(ValueError, match="batch"):
        fit((JobType("x", "x", 0.0),), [PairSpeed("x", "x", 0.5, 0.5)])
    model = fit(JOBS, fifth()[0])
    with pytest.raises(ValueError, match="'nobody'"):
        model.predict(["nobody"], ["text 8"])
    with pytest.raises(ValueError, match="beside them"):
        model.predict(["text 8"], [])
    with pytest.raises(ValueError, match="leave the job out"):
        filled_pairs(model, {"text 8": 0.0}, [])


def test_variances_are_found_again() -> None:
    rng = np.random.default_rng(4)
    group = np.repeat(np.arange(60), 5)
    parts = [(group[:, None] == group).astype(np.float64), np.eye(len(group))]
    true = np.array([1.0, 0.1])
    values = np.linalg.cholesky(combined(parts, true)) @ rng.standard_normal(len(group))
    found = most_probable_variances(parts, values, 1e-9 * np.eye(len(group)), np.array([0.2, 0.2]), 3.0)
    assert found == pytest.approx(true, rel=0.5)
