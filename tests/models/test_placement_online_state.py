"""The state of an online cluster: amounts that are never over-allocated, and the bridge to the placement kind's own verify."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.placement.online.planning import as_problem, node_of, node_spec, request_of
from models.placement.online.rules import BestFit, RandomFit
from models.placement.online.state import MILLI, Cluster, NodeSpec, Request, Seat
from models.placement.schema import Job
from models.placement.verify import verify

NODES = (
    NodeSpec("a", gpus=2, model="T4", cpu_milli=8_000, memory_mib=16_384),
    NodeSpec("b", gpus=4, model="G2", cpu_milli=16_000, memory_mib=32_768),
    NodeSpec("c", cpu_milli=4_000, memory_mib=8_192),
)


@st.composite
def requests(draw: st.DrawFn) -> Request:
    """A request that may or may not fit NODES."""
    gpus = draw(st.integers(0, 3))
    share = draw(st.integers(1, MILLI)) if gpus == 1 else MILLI
    models = draw(st.sets(st.sampled_from(["T4", "G2", "H100"]), max_size=2))
    return Request(
        f"r{draw(st.integers(0, 10**9))}",
        gpus=gpus,
        share_milli=share,
        cpu_milli=draw(st.integers(0, 9_000)),
        memory_mib=draw(st.integers(0, 9_000)),
        workers=draw(st.integers(1, 3)),
        models=frozenset(models),
    )


def check_sums(cluster: Cluster) -> None:
    """What the cluster keeps of each node follows from what is free of each GPU and who sits there."""
    for node in range(len(cluster.nodes)):
        used = np.zeros(cluster.free_milli.shape[1], dtype=np.int64)
        for request, seat in cluster.sitting[node]:
            used[list(seat.gpus)] += request.share_milli
        assert (cluster.capacity_milli[node] - used == cluster.free_milli[node]).all()
        assert cluster.free_milli[node].min() >= 0
        assert cluster.cpu[node] - cluster.free_cpu[node] == sum(request.cpu_milli for request, _ in cluster.sitting[node])
        assert cluster.memory[node] - cluster.free_memory[node] == sum(request.memory_mib for request, _ in cluster.sitting[node])
        assert cluster.idle[node] == (cluster.free_milli[node] == MILLI).sum()
        assert cluster.largest[node] == cluster.free_milli[node].max()
        assert cluster.left_milli[node] == cluster.free_milli[node].sum()


@settings(max_examples=60, deadline=None)
@given(st.lists(requests(), max_size=25, unique_by=lambda one: one.id), st.randoms(use_true_random=False))
def test_seats_are_right_and_given_back(asked: list[Request], draw: object) -> None:
    cluster, rule, sitting = Cluster(NODES), RandomFit(3), []
    for request in asked:
        seats = rule.choose(cluster, request)
        if seats is None:
            continue
        cluster.seat(request, seats)
        sitting.append((request, seats))
        if draw.random() < 0.3:  # type: ignore[attr-defined]
            cluster.unseat(*sitting.pop(draw.randrange(len(sitting))))  # type: ignore[attr-defined]
        check_sums(cluster)
    assert verify(*as_problem(cluster)).ok
    assert cluster.used_milli() == sum(request.gpu_milli * request.workers for request, _ in sitting)
    for request, seats in sitting:
        cluster.unseat(request, seats)
    assert cluster.used_milli() == 0
    assert (cluster.free_cpu == cluster.cpu).all()
    check_sums(cluster)


@settings(max_examples=80, deadline=None)
@given(requests())
def test_fits_says_exactly_who_can_be_seated(request: Request) -> None:
    cluster = Cluster(NODES)
    cluster.seat(Request("x", gpus=1, share_milli=400, cpu_milli=3_000, memory_mib=100), (Seat(0, (1,)),))
    cluster.seat(Request("y", gpus=3, cpu_milli=9_000, memory_mib=30_000), (Seat(1, (0, 2, 3)),))
    one = Request(request.id, request.gpus, request.share_milli, request.cpu_milli, request.memory_mib, models=request.models)
    for node, fits in enumerate(cluster.fits(one).tolist()):
        able = [gpu for gpu in range(NODES[node].gpus) if cluster.free_milli[node, gpu] >= one.share_milli]
        seat = Seat(node, tuple(able[: one.gpus]))
        if fits:
            cluster.seat(one, (seat,))
            cluster.unseat(one, (seat,))
        else:
            with pytest.raises(ValueError, match="request"):
                cluster.seat(one, (seat,))


def test_a_gang_whose_second_seat_is_taken_leaves_no_trace() -> None:
    cluster = Cluster(NODES)
    gang = Request("gang", gpus=2, workers=2)
    before = cluster.free_milli.copy()
    with pytest.raises(ValueError, match="too little left"):
        cluster.seat(gang, (Seat(0, (0, 1)), Seat(0, (0, 1))))
    assert (cluster.free_milli == before).all()
    assert cluster.sitting == [(), (), ()]
    with pytest.raises(ValueError, match="2 workers and 1 seats"):
        cluster.seat(gang, (Seat(0, (0, 1)),))
    cluster.seat(gang, (Seat(0, (0, 1)), Seat(1, (0, 1))))
    with pytest.raises(ValueError, match="does not sit"):
        cluster.unseat(gang, (Seat(0, (0, 1)), Seat(1, (2, 3))))
    assert cluster.used_milli() == 4 * MILLI


def test_who_does_not_sit_there_cannot_leave() -> None:
    cluster = Cluster(NODES)
    with pytest.raises(ValueError, match="does not sit on node 'c'"):
        cluster.unseat(Request("nobody", cpu_milli=1), (Seat(2),))


@pytest.mark.parametrize(
    ("amounts", "message"),
    [
        ({"gpus": -1}, "0 or more"),
        ({"workers": 0}, "1 or more"),
        ({"gpus": 2, "share_milli": 500}, "whole GPUs"),
        ({"gpus": 1, "share_milli": 0}, "whole GPUs"),
        ({"gpus": 1, "share_milli": 1001}, "whole GPUs"),
    ],
)
def test_amounts_nobody_can_have_are_refused(amounts: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Request("bad", **amounts)  # type: ignore[arg-type]


def test_bad_nodes_are_refused() -> None:
    with pytest.raises(ValueError, match="same id"):
        Cluster((NODES[0], NODES[0]))
    with pytest.raises(ValueError, match="negative"):
        Cluster((NodeSpec("a", cpu_milli=-1),))


def test_a_closed_node_takes_nobody_and_a_copy_lives_alone() -> None:
    cluster = Cluster(NODES)
    cluster.open[1] = False
    assert BestFit().choose(cluster, Request("four", gpus=4)) is None
    other = cluster.copy()
    other.open[1] = True
    other.seat(Request("four", gpus=4), (Seat(1, (0, 1, 2, 3)),))
    assert not cluster.open[1]
    assert cluster.used_milli() == 0
    assert cluster.sitting[1] == ()


def test_amounts_of_jobs_are_rounded_up_and_of_nodes_down() -> None:
    request = request_of(Job(id="j", gpus_per_worker=0.4601, cpu_cores=1.0001, memory_gib=0.1, workers=2))
    assert request == Request("j", gpus=1, share_milli=461, cpu_milli=1_001, memory_mib=103, workers=2)
    assert request_of(Job(id="j", gpus_per_worker=0.46)).share_milli == 460
    assert request_of(Job(id="j", gpus_per_worker=8)).gpus == 8
    assert request_of(Job(id="j", gpus_per_worker=0, cpu_cores=2)) == Request("j", cpu_milli=2_000)
    for node in NODES:
        assert node_spec(node_of(node)) == node


def test_an_empty_cluster_takes_nobody() -> None:
    cluster = Cluster(())
    assert cluster.total_milli() == 0
    assert BestFit().choose(cluster, Request("one", gpus=1)) is None
