"""What a seed decides, the measures, and the comparison of policies."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from service.replay import outages
from service.replay.comparison import compared, pair
from service.replay.draws import Arrivals, Estimates, Wish, drawn, offered_load
from service.replay.jobs import ReplayError, ordered
from service.replay.measures import MEASURES, averages, integral, measured
from service.replay.policies import POLICIES, policy_called
from service.replay.queues import DISCIPLINES
from service.replay.replays import Replay, replays
from tests.service.replay.cases import Replayed, job, nodes

TRACE = ordered("test", [job(f"j{n}", 10.0 * n, 5.0 + n % 7, 1 + n % 3) for n in range(40)])
CLUSTER = nodes(4, 4)


def test_the_same_seed_draws_the_same_and_another_differs() -> None:
    wish = Wish(jobs=60, arrivals=Arrivals.poisson, load=0.8, estimates=Estimates.noisy, mean_up_h=1.0)
    one, two, three = (drawn(TRACE, CLUSTER, wish, seed) for seed in (7, 7, 8))
    assert one.jobs == two.jobs
    assert one.estimates_s == two.estimates_s
    assert one.jobs != three.jobs
    assert offered_load(one.jobs, CLUSTER) == pytest.approx(0.8)
    assert len({each.request.id for each in one.jobs}) == 60


def test_each_thing_is_drawn_from_a_stream_of_its_own() -> None:
    plain = drawn(TRACE, CLUSTER, Wish(jobs=30), 3)
    noisy = drawn(TRACE, CLUSTER, Wish(jobs=30, estimates=Estimates.limit, error=1.0), 3)
    assert plain.jobs == noisy.jobs
    ratios = np.array(noisy.estimates_s) / np.array(plain.estimates_s)
    assert 1.0 <= ratios.min() < ratios.max() <= 2.0


def test_a_replay_gives_the_same_numbers_again() -> None:
    wish = Wish(jobs=30, arrivals=Arrivals.poisson, load=1.1, estimates=Estimates.noisy, mean_up_h=0.05, mean_down_h=0.01)
    both = [list(replays(TRACE, CLUSTER, [POLICIES["quartermaster"], POLICIES["fifo"]], wish, [0, 1])) for _ in range(2)]
    assert [(one.seed, one.policy, one.measures) for one in both[0]] == [(one.seed, one.policy, one.measures) for one in both[1]]
    assert sum(one.measures["evictions"] or 0 for one in both[0]) > 0


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        ({"load": 0.0}, "--load: must be a number above 0"),
        ({"load": math.nan}, "--load"),
        ({"mean_up_h": -1.0}, "--mean-up-h"),
        ({"error": -1.0, "estimates": Estimates.noisy}, "--estimate-error: must be"),
        ({"error": 1.0}, "exact estimates have none"),
        ({"mean_up_h": 1.0, "outages": (outages.Outage(0, 1.0, 2.0),)}, "drawn or given"),
    ],
)
def test_wishes_that_make_no_sense(wish: dict[str, object], said: str) -> None:
    with pytest.raises(ReplayError, match=said):
        Wish(**wish)  # type: ignore[arg-type]


def test_more_recorded_jobs_than_there_are() -> None:
    with pytest.raises(ReplayError, match=r"has 40 jobs and 41 are asked for.*--arrivals poisson"):
        drawn(TRACE, CLUSTER, Wish(jobs=41), 0)
    at_once = ordered("once", [job("a", 5, 1), job("b", 5, 1)])
    with pytest.raises(ReplayError, match="all jobs come at once"):
        drawn(at_once, CLUSTER, Wish(load=1.0), 0)
    with pytest.raises(ReplayError, match="tells no rate"):
        drawn(at_once, CLUSTER, Wish(arrivals=Arrivals.poisson), 0)


def test_unknown_policies_are_told_with_the_nearest() -> None:
    with pytest.raises(ReplayError, match="did you mean 'backfill'"):
        policy_called("backfil")
    assert policy_called("easy+packing").discipline == "easy"
    with pytest.raises(ReplayError, match="no policy 'easy\\+x'"):
        policy_called("easy+x")
    assert all(policy.discipline in DISCIPLINES for policy in POLICIES.values())


def test_drawn_outages_follow_each_other_on_every_node() -> None:
    stream = outages.drawn(3, 100.0, 10.0, np.random.default_rng(0))
    found = [next(stream) for _ in range(3000)]
    assert outages.checked("drawn", found) == tuple(found)
    up = np.mean([one.up_s - one.down_s for one in found])
    assert 9 < up < 11


# ---------------------------------------------------------------- measures


def test_measures_of_a_hand_worked_replay() -> None:
    jobs = [job("a", 0, 100, 4), job("b", 40, 20, 2, workers=2)]
    found = Replayed(nodes(4), jobs, "fifo")
    numbers = measured(found.history, jobs, ("V100",))
    assert numbers["jct_mean_s"] == 90
    assert numbers["waiting_mean_s"] == 30
    assert numbers["gang_waiting_mean_s"] == 60
    assert numbers["slowdown_mean"] == pytest.approx((1 + 80 / 20) / 2)
    assert numbers["makespan_s"] == 120
    assert numbers["allocated_percent"] == numbers["utilised_percent"] == 100
    assert numbers["waiting_jobs_mean"] == 0  # b comes last, and the window ends there
    assert numbers["blocked_percent"] == numbers["evictions"] == numbers["lost_gpu_h"] == 0
    assert list(numbers) == [one.name for one in MEASURES]


@settings(max_examples=50, deadline=None)
@given(steps=st.lists(st.tuples(st.integers(0, 20), st.integers(0, 9)), min_size=1, max_size=9), until=st.integers(1, 60))
def test_integrals_of_steps(steps: list[tuple[int, int]], until: int) -> None:
    times = np.cumsum([0] + [gap for gap, _ in steps[1:]]).astype(float)
    values = np.array([value for _, value in steps], dtype=float)
    second = [0.0] * until
    for at in range(until):
        known = [value for time, value in zip(times, values, strict=True) if time <= at]
        second[at] = known[-1]
    assert integral(times, values, until) == pytest.approx(sum(second))
    edges = np.arange(until + 1.0)
    assert averages(times, values, edges) == pytest.approx(np.array(second), abs=1e-6)


# ---------------------------------------------------------------- comparison


def replay(policy: str, seed: int, jct: float) -> Replay:
    measures: dict[str, float | None] = {one.name: 1.0 for one in MEASURES}
    return Replay("t", policy, seed, 10, 0.9, measures | {"jct_mean_s": jct, "gang_waiting_mean_s": None}, {}, 0.1)


def test_differences_are_paired_and_their_interval_is_that_of_students_t() -> None:
    first, second = [100.0, 200.0, 400.0, 300.0], [90.0, 195.0, 380.0, 291.0]
    both = [replay("a", seed, value) for seed, value in enumerate(first)] + [replay("b", seed, value) for seed, value in enumerate(second)]
    found = {(one.policy, one.measure): one for one in compared(both)}
    one = found["b", "jct_mean_s"]
    differences = np.array(second) - np.array(first)
    low, high = stats.t.interval(0.95, 3, loc=differences.mean(), scale=stats.sem(differences))
    assert (one.difference, one.difference_low, one.difference_high) == pytest.approx((differences.mean(), low, high))
    assert one.finding == "better"  # although the means overlap by far
    assert one.relative_percent == pytest.approx(-100 * 11 / 250)
    assert found["a", "jct_mean_s"].finding == "first"
    assert found["b", "makespan_s"].finding == "same"
    assert found["b", "gang_waiting_mean_s"].finding == "unknown"


def test_any_two_policies_are_compared_pair_by_pair() -> None:
    values = {"a": [100.0, 200.0, 400.0], "b": [90.0, 195.0, 380.0], "c": [91.0, 194.0, 379.0]}
    every = [replay(policy, seed, value) for policy, row in values.items() for seed, value in enumerate(row)]
    one = pair(every, "t", "jct_mean_s", "b", "c")
    assert one.difference == pytest.approx(-1 / 3)
    assert one.finding == "open"


def test_one_seed_has_no_interval() -> None:
    found = {(one.policy, one.measure): one for one in compared([replay("a", 0, 5.0), replay("b", 0, 4.0)])}
    assert found["b", "jct_mean_s"].finding == "open"
    assert found["b", "jct_mean_s"].low is None
