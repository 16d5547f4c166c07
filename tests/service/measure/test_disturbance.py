"""The rule that rejects disturbed runs, on loads made up for it."""

from itertools import combinations

import pytest

from service.measure.disturbance import Accounts, Disturbance, Load, accounts, is_quiet, judged, load_between, wait_for_quiet

QUIET = Load(on_core=0.0, elsewhere=0.0, steal=0.0)


def test_a_quiet_run_counts() -> None:
    assert judged(QUIET, spread=0.02, repeats=5) == ()


@pytest.mark.parametrize(
    ("load", "spread", "repeats", "broken"),
    [
        (Load(0.11, 0, 0), 0.0, 5, Disturbance.foreign_on_core),
        (Load(0, 0.51, 0), 0.0, 5, Disturbance.foreign_elsewhere),
        (Load(0, 0, 0.021), 0.0, 5, Disturbance.steal),
        (QUIET, 0.101, 5, Disturbance.repeats_differ),
        (QUIET, 0.0, 2, Disturbance.too_few_repeats),
    ],
)
def test_each_rule_rejects_alone(load: Load, spread: float, repeats: int, broken: Disturbance) -> None:
    assert judged(load, spread, repeats) == (broken,)


def test_limits_themselves_are_allowed() -> None:
    assert judged(Load(0.10, 0.50, 0.02), spread=0.10, repeats=3) == ()


def test_every_broken_rule_is_named() -> None:
    assert set(judged(Load(1, 1, 1), spread=1.0, repeats=0)) == set(Disturbance) - {Disturbance.foreign_on_device}


def test_on_a_gpu_the_cores_do_not_count_but_the_device_does() -> None:
    busy = Load(1.0, 1.0, 0.0)
    assert judged(busy, 0.0, 5, foreign_on_device_gib=0.5) == ()
    assert judged(busy, 0.0, 5, foreign_on_device_gib=1.5) == (Disturbance.foreign_on_device,)


def test_load_is_what_others_did() -> None:
    before = Accounts(at_s=0.0, busy_s=(10.0, 20.0), steal_s=1.0, own_s=5.0)
    after = Accounts(at_s=10.0, busy_s=(19.0, 24.0), steal_s=1.2, own_s=12.0)
    load = load_between(before, after, (0,))
    assert [load.on_core, load.elsewhere, load.steal] == pytest.approx([0.2, 0.4, 0.01])


def test_shares_stay_between_nothing_and_all() -> None:
    before = Accounts(at_s=0.0, busy_s=(0.0, 0.0), steal_s=0.0, own_s=0.0)
    after = Accounts(at_s=1.0, busy_s=(0.99, 5.0), steal_s=0.0, own_s=1.0)  # ticks are coarse: our own time may exceed the core's
    assert load_between(before, after, (0,)) == Load(0.0, 1.0, 0.0)


def test_a_window_too_short_to_tell_and_a_process_on_no_core() -> None:
    now = accounts()
    assert load_between(now, now, (0,)) == QUIET
    before = Accounts(at_s=0.0, busy_s=(0.0,), steal_s=0.0, own_s=0.0)
    after = Accounts(at_s=1.0, busy_s=(1.0,), steal_s=0.0, own_s=0.0)
    assert load_between(before, after, ()).on_core == 0.0


def test_rules_add_up() -> None:
    loads = {Disturbance.foreign_on_core: Load(1, 0, 0), Disturbance.foreign_elsewhere: Load(0, 1, 0), Disturbance.steal: Load(0, 0, 1)}
    for first, second in combinations(loads, 2):
        a, b = loads[first], loads[second]
        both = Load(max(a.on_core, b.on_core), max(a.elsewhere, b.elsewhere), max(a.steal, b.steal))
        assert set(judged(both, 0.0, 5)) == {first, second}


def test_waiting_ends_when_it_is_quiet_or_patience_does(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = iter([False, False, True])
    monkeypatch.setattr("service.measure.disturbance.is_quiet", lambda _: next(looks))
    assert wait_for_quiet(0, most_s=60.0) < 60.0
    assert next(looks, None) is None
    assert wait_for_quiet(0, most_s=0.0) == pytest.approx(0.0, abs=0.1)
    assert isinstance(is_quiet(0, look_s=0.0), bool)
