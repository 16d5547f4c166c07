"""Offload: sizes and times of one case worked by hand, the plan against trying all, and what must hold whatever the plan."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest

from models.tiering.offload import DISK, GPU, HOST, Memory, Setting, Transformer, offload_problem, peak_memory, step_times
from models.tiering.schema import Copies, Plan, Problem
from models.tiering.verify import verify
from optimizer.limits import Limits
from optimizer.solve import solve

GBIT = 8.589934592

# As OPT-30B: 12 * 7168**2 * 2 bytes are 1.1484375 GiB; 2 * 8 * 1024 * 7168 * 2 bytes are 0.21875 GiB.
MODEL = Transformer(layers=48, hidden=7168)


def setting(**changes: object) -> Setting:
    start = Setting(
        model=MODEL,
        batch=8,
        sequence=1024,
        gpu=Memory(24.0, 8000.0),
        host=Memory(64.0, 96.0),
        disk=Memory(1000.0, 16.0),
        gpu_tflops=100.0,
    )
    return replace(start, **changes)  # type: ignore[arg-type]


def small(layers: int = 2) -> Setting:
    """Layers of 12 MiB of weights and 1 MiB of cache; room for some of them."""
    mib = 1 / 1024
    model = Transformer(layers=layers, hidden=1024, parameters_per_layer=6 * 2**20)
    return Setting(model, 1, 256, Memory(40 * mib, 800.0), Memory(40 * mib, 8.0), Memory(1.0, 0.8), gpu_tflops=1.0)


def plan(problem: Problem, where: dict[str, str]) -> Plan:
    names = tuple(one.id for one in problem.objects)
    return Plan(copies=Copies(object=names, tier=tuple(where.get(name, GPU) for name in names)))


def test_sizes_by_hand() -> None:
    case = setting()
    assert case.gib_of["weights"] == 1.1484375
    assert case.gib_of["cache"] == 0.21875
    assert case.gib_of["activations"] == pytest.approx(8 * 7168 * 2 / 2**30)
    assert case.model.flops(8, 1024) == 8 * (2 * 12 * 7168**2 + 4 * 1024 * 7168) == 10_099_884_032
    # 10.1 GFLOP at 100 TFLOP/s are 0.10 ms; reading 1.3672 GiB at 8 Tbit/s takes 1.468 ms, and that decides.
    assert case.compute_s == pytest.approx(1.3671875 * GBIT / 8000)
    assert case.compute_s == pytest.approx(1.468e-3, rel=1e-3)


def test_times_by_hand() -> None:
    """Layer 0 on the GPU, layer 1's weights on the host, layer 2's on disk, layer 3's cache on the host."""
    case = setting(model=replace(MODEL, layers=4))
    times = step_times(case, plan(offload_problem(case), {"weights-1": HOST, "weights-2": DISK, "cache-3-0": HOST}))
    assert times.layer_s[0] == case.compute_s
    assert times.layer_s[1] == pytest.approx(1.1484375 * GBIT / 96)  # 0.10276 s
    assert times.layer_s[1] == pytest.approx(0.10276, rel=1e-4)
    assert times.layer_s[2] == pytest.approx(1.1484375 * GBIT / 16)  # 0.61656 s: the disk is slower than the way to the GPU
    assert times.layer_s[3] == pytest.approx(0.21875 * GBIT / 96)
    assert times.carried_s["host to gpu"] == pytest.approx((2 * 1.1484375 + 0.21875) * GBIT / 96)
    assert times.carried_s["gpu to host"] == pytest.approx(0.21875 / 1024 * GBIT / 96)  # the new token's keys and values
    assert times.step_s == pytest.approx(sum(times.layer_s))
    assert times.tokens_per_s == pytest.approx(8 / times.step_s)
    assert times.apart_s == pytest.approx(times.compute_s + sum(times.carried_s.values()))
    assert times.step_s <= times.apart_s


def test_peaks_by_hand() -> None:
    case = setting(model=replace(MODEL, layers=4))
    problem = offload_problem(case)
    work = case.gib_of["activations"]
    peaks = peak_memory(case, plan(problem, {"weights-1": HOST, "weights-2": DISK, "cache-3-0": HOST}))
    # GPU: two layers' weights, three caches, activations; weights 1 and 2 pass one after the other and are held together.
    assert peaks[GPU] == pytest.approx(2 * 1.1484375 + 3 * 0.21875 + work + 2 * 1.1484375)
    assert peaks[HOST] == pytest.approx(1.1484375 + 0.21875 + 1.1484375)  # its own, and weights 2 on their way
    assert peaks[DISK] == pytest.approx(1.1484375)
    assert peak_memory(case, plan(problem, {}))[GPU] == pytest.approx(4 * 1.3671875 + work)


def test_the_plan_is_the_best_of_all() -> None:
    case = small()
    problem = offload_problem(case)
    result = solve(problem, Limits(time_limit_s=20, gap=0.0), isolate=False)
    assert result.certificate is not None
    names = [one.id for one in problem.objects]
    found = []
    for places in product((GPU, HOST, DISK), repeat=len(names)):
        verdict = verify(problem, plan(problem, dict(zip(names, places, strict=True))))
        if verdict.ok:
            found.append(verdict.objectives["access_time"])
    assert result.certificate.goals[0].objective == pytest.approx(min(found), rel=1e-6)


def test_access_time_is_what_the_reads_take() -> None:
    case = small()
    problem = offload_problem(case)
    apart = verify(problem, plan(problem, {"weights-0": HOST, "weights-1": DISK})).objectives["access_time"]
    gib = case.gib_of
    gpu = 2 * case.model.layers * gib["activations"] + 2 * gib["cache"]
    assert apart == pytest.approx(GBIT * (gib["weights"] / 8.0 + gib["weights"] / 0.8 + gpu / 800.0))


@pytest.mark.parametrize("layers", [1, 2, 5])
def test_peaks_keep_the_memories_of_a_right_plan(layers: int) -> None:
    case = small(layers)
    problem = offload_problem(case)
    result = solve(problem, Limits(time_limit_s=20, gap=0.01), isolate=False)
    assert isinstance(result.plan, Plan)
    peaks = peak_memory(case, result.plan)
    for tier, memory in case.memories.items():
        assert peaks[tier] <= memory.capacity_gib * (1 + 1e-9)
    times = step_times(case, result.plan)
    assert times.compute_s <= times.step_s * (1 + 1e-12) <= times.apart_s * (1 + 1e-9)


def test_a_cache_in_blocks_is_as_large_as_a_whole_one() -> None:
    whole, parts = setting(), setting(blocks=4)
    assert sum(one.size_gib for one in offload_problem(whole).objects) == pytest.approx(
        sum(one.size_gib for one in offload_problem(parts).objects)
    )
    everything = {f"cache-{layer}-{block}": HOST for layer in range(48) for block in range(4)}
    one = step_times(whole, plan(offload_problem(whole), everything))
    four = step_times(parts, plan(offload_problem(parts), everything))
    assert one.step_s == pytest.approx(four.step_s)


def test_what_cannot_run_is_refused() -> None:
    with pytest.raises(ValueError, match=r"gpu memory is .* GiB too small"):
        offload_problem(setting(gpu=Memory(1.0, 8000.0)))
    with pytest.raises(ValueError, match="at least one layer"):
        Transformer(layers=0, hidden=8)
    with pytest.raises(ValueError, match="rate above 0"):
        Memory(1.0, 0.0)
    with pytest.raises(ValueError, match="at least 1"):
        setting(batch=0)
