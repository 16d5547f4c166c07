"""The benchmark of flow: published instances of each form, and seeded networks at data-centre size.

What may be committed lies in ``benchmarks/data``. SNDlib, Repetita and the NCFlow matrices have no licence that allows it: their
instances are read from the folder that QUARTERMASTER_SHARED_DATA names, or from ``shared/data`` beside this repository, and are
left out of a run where neither is there.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import networks
from benchmarks.flow_baselines import BASELINES
from benchmarks.suite import SHARED, Instance, Suite, Target
from models.flow.schema import Charge, Objective, PathChoice, Paths

if TYPE_CHECKING:
    from collections.abc import Iterator

    from models.flow.schema import Problem

HERE = Path(__file__).resolve().parent
SEED = 0
PROVED = 1e-7  # the gap that is asked for, so that ...
CLOSE = Target("gap", "at most", 1e-6)  # ... this is kept
AHEAD = Target("ahead_of_baselines", "at least", -1e-6)
MULTI, SINGLE = ("pyomo_highs", "cvxpy_highs"), ("networkx", "pyomo_highs", "cvxpy_highs")

MATRICES = {"Abilene": 5, "AttMpls": 1, "Geant2012": 5, "GtsCe": 1, "Nsfnet": 5, "Renater2010": 1}
NCFLOW = {
    "gravity": ("gravity_x32_seed1192263082", 14144.420745, 14147.133372),
    "uniform": ("uniform_x64_seed1216622520", 23444.957968, 23724.845081),
}
LEAST_COSTS = {
    "netgen_8_08a": 142274536,
    "netgen_8_10a": 369269289,
    "assignment_50x50": 50,
    "circulation_100_0_10": -352582,
    "diamond_graph": 80,
    "grid_5x5": 27000,
}
MAXIMUM_FLOWS = {"gl1": 156545, "gw1": 1202018, "wlm3": 11875108}
DESIGNS = (
    ("pdh", "U-U-M-N-C-A-N-N"),
    ("di-yuan", "U-U-M-N-C-A-N-N"),
    ("atlanta", "D-B-M-N-C-A-N-N"),
    ("polska", "U-U-M-N-C-A-N-N"),
    ("nobel-us", "U-U-M-N-C-A-N-N"),
    ("dfn-gwin", "U-U-M-N-C-A-N-N"),
)


def around(name: str, value: float, relative: float = 1e-6) -> tuple[Target, Target]:
    """The two promises that a number of the row is ``value`` to a relative tolerance."""
    slack = relative * max(1.0, abs(value))
    return Target(name, "at least", value - slack), Target(name, "at most", value + slack)


def repetita(name: str, matrix: int) -> Problem:
    """A Topology Zoo graph with one of its demand matrices."""
    from service.importers.repetita import import_repetita

    folder = SHARED / "repetita"
    return import_repetita(folder / f"{name}.graph", folder / f"{name}.{matrix:04}.demands").problem


def ncflow(matrix: str, objective: Objective, paths: Paths | None = None) -> Problem:
    """GtsCe with one of its two demand matrices."""
    from service.importers.links_demands import import_links_demands

    stem = f"GtsCe_{NCFLOW[matrix][0]}"
    files = SHARED / "ncflow" / f"{stem}.links.csv", SHARED / "ncflow" / f"{stem}.demands.csv.gz"
    return import_links_demands(*files, objective=objective, paths=paths or Paths()).problem


def dimacs(folder: str, name: str) -> Problem:
    """A least cost or maximum flow in the DIMACS format."""
    from service.importers.dimacs import import_dimacs

    return import_dimacs(HERE / "data" / folder / name)


def sndlib(name: str, model: str) -> Problem:
    """A network to be designed; routing costs as in the value that is known."""
    from service.importers.sndlib import import_sndlib

    return import_sndlib(
        SHARED / "sndlib" / "native" / f"{name}.txt", model=model, charge=Charge.sum if name == "atlanta" else Charge.larger
    )


def _repetita() -> Iterator[Instance]:
    for name, count in MATRICES.items():
        low, high = (0.894, 0.8965) if name == "Nsfnet" else (0.8999, 0.9001)
        value = (Target("max_utilisation", "at least", low), Target("max_utilisation", "at most", high))
        for matrix in range(count):
            yield Instance(
                name=f"repetita-{name}-{matrix}",
                summary=f"{name} of the Topology Zoo, demand matrix {matrix}: least largest utilisation",
                read=partial(repetita, name, matrix),
                time_limit_s=10.0,
                targets=(*value, CLOSE, Target("solve_wall_s", "at most", 1.0)),
                gap=PROVED,
                baselines=MULTI if matrix == 0 else (),
                needs=SHARED / "repetita",
            )


def _ncflow() -> Iterator[Instance]:
    four = Paths(choice=PathChoice.edge_disjoint, k=4)
    for matrix, (_, disjoint, best) in NCFLOW.items():
        for what, paths, value, seconds in (("4-paths", four, disjoint, 5.0), ("all-paths", None, best, 20.0)):
            yield Instance(
                name=f"ncflow-{matrix}-{what}",
                summary=f"GtsCe, {matrix} demands, {what.replace('-', ' ')}: most traffic",
                read=partial(ncflow, matrix, Objective.max_throughput, paths),
                time_limit_s=seconds,
                targets=(*around("throughput", value), CLOSE, Target("solve_wall_s", "at most", seconds)),
                gap=PROVED,
                baselines=MULTI if paths is None else (),
                needs=SHARED / "ncflow",
            )
        yield Instance(
            name=f"ncflow-{matrix}-concurrent",
            summary=f"GtsCe, {matrix} demands: the largest share that every demand gets",
            read=partial(ncflow, matrix, Objective.max_concurrent),
            time_limit_s=60.0,
            targets=(Target("gap", "at most", 0.005), Target("solve_wall_s", "at most", 60.0)),
            baselines=("cvxpy_highs",),
            needs=SHARED / "ncflow",
        )


def _single() -> Iterator[Instance]:
    known = [("dimacs_netgen", name, f"{name}.min", value, "cost") for name, value in LEAST_COSTS.items()]
    known.append(("networkx_flow", "netgen-2", "netgen-2.txt", 6749969302, "cost"))
    known += [("networkx_flow", name, f"{name}.txt", value, "throughput") for name, value in MAXIMUM_FLOWS.items()]
    for folder, name, file, value, metric in known:
        yield Instance(
            name=name,
            summary=f"{file}: {'least cost' if metric == 'cost' else 'maximum flow'} with a published value",
            read=partial(dimacs, folder, file),
            time_limit_s=10.0,
            targets=(*around(metric, value, 1e-9), CLOSE),
            gap=PROVED,
            baselines=SINGLE if metric == "cost" else ("networkx",),
        )
    yield Instance(
        name="chain-parallel-float",
        summary="a line of 41 nodes, three parallel links with fractional costs between neighbours: 26 by hand",
        read=partial(networks.chain, 41),
        time_limit_s=5.0,
        targets=(*around("cost", 40 * (0.1 + 0.2 + 0.5 * 0.7), 1e-9), CLOSE),
        gap=PROVED,
        baselines=SINGLE,
    )
    for arcs, nodes in ((100_000, 10_000), (1_000_000, 62_500)):
        for fractions in (False, True):
            yield Instance(
                name=f"supplies-{arcs}{'-float' if fractions else ''}",
                summary=f"{arcs:,} arcs, {nodes:,} nodes: least cost{', costs with three decimals' if fractions else ''}",
                read=partial(networks.supplies, arcs, nodes, SEED, fractions=fractions),
                time_limit_s=15.0,
                targets=(CLOSE, Target("solve_wall_s", "at most", 15.0), AHEAD),
                gap=PROVED,
                # At a million arcs none of them ends within minutes.
                baselines=SINGLE if arcs < 1_000_000 else (),
            )


def _designs() -> Iterator[Instance]:
    for name, model in DESIGNS:
        value = around("objective", 46244642.4, 1e-6) if name == "atlanta" else ()
        yield Instance(
            name=f"design-{name}",
            summary=f"SNDlib {name}, model {model}: cheapest modules and routes",
            read=partial(sndlib, name, model),
            time_limit_s=120.0,
            targets=(*value, Target("gap", "at most", 0.02), Target("solve_wall_s", "at most", 121.0)),
            needs=SHARED / "sndlib",
        )


def _fat_trees() -> Iterator[Instance]:
    for uneven in (0, 20):
        for objective in Objective:
            # At nine tenths some racks ask for more than they can send, which the two objectives that carry everything do not allow.
            load = 0.45 if objective is Objective.min_cost else 0.9
            yield Instance(
                name=f"fat-tree-16-{objective.value.replace('_', '-')}{'-uneven' if uneven else ''}",
                summary=f"fat-tree of degree 16, 4,000 demands: {objective.value}{f', {uneven} links at half' if uneven else ''}",
                read=partial(networks.fat_tree, 16, 4_000, objective, SEED, load=load, uneven=uneven),
                time_limit_s=60.0,
                targets=(Target("gap", "at most", 1e-4), Target("solve_wall_s", "at most", 60.0)),
                baselines=("cvxpy_highs",) if objective is Objective.max_throughput and not uneven else (),
            )


SUITE = Suite(
    kind="flow",
    instances=(*_repetita(), *_ncflow(), *_single(), *_designs(), *_fat_trees()),
    baselines=dict(BASELINES),
)
