"""Small tierings for tests: random ones with a seed, and the answer of the exact program."""

from __future__ import annotations

import random

from models.tiering import formulation
from models.tiering.schema import (
    Compression,
    CurrentCopy,
    GoalName,
    Migration,
    Object,
    Plan,
    Problem,
    Read,
    Reader,
    SiteLink,
    Tier,
)
from models.tiering.verify import verify
from optimizer.backend import ProgramStatus
from optimizer.compile import compile_model
from optimizer.highs import HighsBackend
from optimizer.limits import Limits

SITES = ("north", "south")


def exact(problem: Problem) -> tuple[Plan, tuple[float, ...]] | None:
    """The plan of the exact program and its goals' values, one goal after another; None when it is infeasible."""
    floors: dict[GoalName, float] = {}
    plan = Plan()
    for goal in problem.goals:
        compiled = compile_model(formulation.build(problem, goal, floors))
        result = HighsBackend().solve(compiled.program, Limits(time_limit_s=20, gap=0.0))
        if result.status is ProgramStatus.infeasible:
            return None
        assert result.values is not None, result
        plan = formulation.extract(problem, compiled.values_by_ids(result.values))
        verdict = verify(problem, plan)
        assert verdict.ok, verdict.violations
        floors[goal] = verdict.objectives[goal.value]
    return plan, tuple(verify(problem, plan).objectives[goal.value] for goal in problem.goals)


def random_problem(seed: int) -> Problem:
    """A small tiering in which everything occurs now and then."""
    draw = random.Random(seed)
    tiers = tuple(_tier(draw, number) for number in range(draw.randint(2, 3)))
    objects = tuple(_object(draw, number, tiers) for number in range(draw.randint(1, 3)))
    readers = tuple(
        Reader(
            id=f"r{number}",
            site=draw.choice(SITES),
            accelerator=draw.choice((None, "gpu")),
            reads=tuple(
                Read(object=one.id, read_gbps=draw.choice((0.0, 1.0, 2.5)), reads_per_s=draw.choice((0.0, 20.0)))
                for one in draw.sample(objects, draw.randint(1, len(objects)))
            ),
        )
        for number in range(draw.randint(0, 2))
    )
    pairs = [("north", "south"), ("south", "north")]
    links = tuple(
        SiteLink(
            source=source,
            target=target,
            gbps=draw.choice((None, 2.0, 10.0)),
            stream_gbps=draw.choice((None, 1.0)),
            latency_ms=draw.choice((0.0, 15.0)),
            usd_per_gib=draw.choice((0.0, 0.001)),
        )
        for source, target in pairs
        if draw.random() < 0.8
    )
    goals = list(GoalName)
    draw.shuffle(goals)
    return Problem(
        goals=tuple(goals[: draw.randint(1, 3)]),
        period_days=draw.choice((365 / 12, 10.0)),
        tiers=tiers,
        objects=objects,
        readers=readers,
        site_links=links,
        compression=Compression(latency_ms=draw.choice((0.0, 2.0)), usd_per_gib=draw.choice((0.0, 0.0001))),
        migration=Migration(gib=draw.choice((None, None, 60.0)), usd=draw.choice((None, None, 3.0))),
        budget_usd=draw.choice((None, None, None, 60.0)),
    )


def _tier(draw: random.Random, number: int) -> Tier:
    return Tier(
        id=f"t{number}",
        site=draw.choice(SITES),
        failure_domain=draw.choice((None, None, "hall")),
        region=draw.choice((None, "eu")),
        capacity_gib=draw.choice((None, 60.0, 120.0)),
        read_gbps=draw.choice((None, 4.0, 20.0)),
        write_gbps=draw.choice((None, None, 1.5)),
        stream_gbps=draw.choice((None, 2.0)),
        latency_ms=draw.choice((0.1, 5.0, 30.0)),
        usd_per_gib_month=draw.choice((0.02, 0.1, 0.3)),
        usd_per_1000_reads=draw.choice((0.0, 0.0005)),
        usd_per_1000_writes=draw.choice((0.0, 0.001)),
        usd_per_gib_read=draw.choice((0.0, 0.00001)),
        usd_per_gib_written=draw.choice((0.0, 0.005)),
        minimum_days=draw.choice((0.0, 0.0, 40.0)),
        protections=draw.choice(((), ("encrypted",))),
        accelerators=draw.choice(((), ("gpu",))),
    )


def _object(draw: random.Random, number: int, tiers: tuple[Tier, ...]) -> Object:
    replicas = draw.choice((1, 1, 1, 2)) if len({tier.failure_domain or tier.id for tier in tiers}) > 1 else 1
    share = draw.choice((None, None, 0.5))
    free = replicas > 1
    return Object(
        id=f"o{number}",
        size_gib=draw.choice((10.0, 25.0, 50.0)),
        read_gbps=draw.choice((0.0, 0.5, 3.0)),
        reads_per_s=draw.choice((0.0, 50.0)),
        write_gbps=draw.choice((0.0, 1.0)),
        writes_per_s=draw.choice((0.0, 10.0)),
        latency_limit_ms=draw.choice((None, None, 20.0)),
        replicas=replicas,
        copies_max=draw.choice((None, replicas + 1)),
        regions=None if free else draw.choice((None, None, None, ("eu",))),
        protections=() if free else draw.choice(((), (), ("encrypted",))),
        compressed_share=share,
        minimum_stay_days=draw.choice((0.0, 0.0, 30.0)),
        lifetime_days=draw.choice((None, None, 8.0, 20.0)),
        current=tuple(
            CurrentCopy(tier=tier.id, compressed=share is not None and draw.random() < 0.5, stored_days=draw.choice((2.0, 35.0, 1e6)))
            for tier in draw.sample(tiers, draw.choice((0, 1, 1, 2)))
        ),
    )
