"""The commands ``import sndlib``, ``graphml``, ``repetita``, ``dimacs-min``, ``links-demands``: networks as flow problems."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from service.cli.errors import BadInputError
from service.cli.files import Target

if TYPE_CHECKING:
    from collections.abc import Callable

    from models.flow.schema import Objective as FlowObjective
    from models.flow.schema import Paths as FlowPaths
    from models.flow.schema import Problem
    from service.importers.network_files import Imported

Goal = Literal["min_cost", "max_throughput", "max_concurrent", "min_max_utilisation", "max_min_fair"]

Objective = Annotated[
    Goal | None,
    typer.Option(
        "--objective",
        metavar="NAME",
        help="min_cost, max_throughput, max_concurrent, min_max_utilisation or max_min_fair.",
        show_default="the format's usual one",
    ),
]
Paths = Annotated[
    str, typer.Option("--paths", metavar="CHOICE", help="Paths that a demand may use: all, edge-disjoint:K or shortest:K (fewest hops).")
]
Out = Annotated[str, typer.Option("--out", metavar="FILE", help="Where the problem is written (JSON).")]


def sndlib(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A network of SNDlib in its native format.", show_default=False)],
    out: Out,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", metavar="NAME", help="A model of SNDlib, such as U-U-M-N-C-A-N-N: what may be built, and how traffic is routed."
        ),
    ] = None,
    charge: Annotated[
        Literal["sum", "larger"],
        typer.Option("--charge", help="What routing costs on a link of a model with B: by the sum of both ways, or by the larger."),
    ] = "larger",
    objective: Objective = None,
    paths: Paths = "all",
) -> None:
    """Make a flow problem from a network of SNDlib: its routing, or with --model its design."""
    from models.flow.schema import Charge
    from service.importers.network_files import with_paths
    from service.importers.sndlib import import_sndlib

    chosen, choice = _objective(objective), _paths(paths)

    def read() -> Problem:
        found = import_sndlib(Path(file), model=model, charge=Charge(charge), **_if_given(chosen))
        return with_paths(Path(file), found, choice)

    _write((file,), out, read)


def graphml(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A topology in GraphML.", show_default=False)],
    out: Out,
    demands: Annotated[
        str | None, typer.Option("--demands", metavar="FILE", help="Demands (CSV: source, target, demand in Gbit/s).")
    ] = None,
    demand_gbps: Annotated[
        float | None, typer.Option("--demand-gbps", metavar="X", help="Without --demands: Gbit/s from every node to every other.")
    ] = None,
    capacity_gbps: Annotated[
        float | None, typer.Option("--capacity-gbps", metavar="X", help="Gbit/s, each way, of links that say nothing of their capacity.")
    ] = None,
    labels: Annotated[bool, typer.Option("--labels", help="Name nodes by their labels in place of their ids.")] = False,
    objective: Objective = None,
    paths: Paths = "all",
) -> None:
    """Make a flow problem from a topology in GraphML, such as those of the Topology Zoo."""
    from service.importers.graphml import import_graphml

    if (demands is None) == (demand_gbps is None):
        raise BadInputError("GraphML knows no demands: give one of --demands FILE and --demand-gbps X")
    for option, value in (("--demand-gbps", demand_gbps), ("--capacity-gbps", capacity_gbps)):
        if value is not None and not 0 < value <= 1e12:  # noqa: PLR2004  (the largest quantity of a problem)
            raise BadInputError(f"{option}: must be a number of Gbit/s above 0 and at most 1e12, not {value:g}")
    chosen, choice = _objective(objective), _paths(paths)

    def read() -> Imported:
        return import_graphml(
            Path(file),
            demands_csv=Path(demands) if demands is not None else None,
            demand_gbps=demand_gbps,
            capacity_gbps=capacity_gbps,
            label_names=labels,
            paths=choice,
            **_if_given(chosen),
        )

    _write((file,) if demands is None else (file, demands), out, read)


def repetita(
    graph: Annotated[str, typer.Argument(metavar="GRAPH", help="A .graph file of REPETITA.", show_default=False)],
    demands: Annotated[str, typer.Argument(metavar="DEMANDS", help="A .demands file that belongs to it.", show_default=False)],
    out: Out,
    objective: Objective = None,
    paths: Paths = "all",
) -> None:
    """Make a flow problem from a graph and demands of REPETITA; the usual objective is min_max_utilisation."""
    from service.importers.repetita import import_repetita

    chosen, choice = _objective(objective), _paths(paths)
    _write((graph, demands), out, lambda: import_repetita(Path(graph), Path(demands), paths=choice, **_if_given(chosen)))


def dimacs_min(
    file: Annotated[
        str,
        typer.Argument(metavar="FILE", help="Minimum-cost flow ('p min') or maximum flow ('p max') in DIMACS format.", show_default=False),
    ],
    out: Out,
    objective: Objective = None,
    paths: Paths = "all",
) -> None:
    """Make a single-commodity flow problem from a DIMACS file; the usual objective is min_cost, of 'p max' max_throughput."""
    from service.importers.dimacs import import_dimacs

    chosen, choice = _objective(objective), _paths(paths)
    _write((file,), out, lambda: import_dimacs(Path(file), objective=chosen, paths=choice))


def links_demands(
    links: Annotated[str, typer.Argument(metavar="LINKS.csv", help="Directed links (CSV: source, target, capacity).", show_default=False)],
    demands: Annotated[
        str, typer.Argument(metavar="DEMANDS.csv", help="Demands (CSV: source, target, demand), also .csv.gz.", show_default=False)
    ],
    out: Out,
    objective: Objective = None,
    paths: Paths = "all",
) -> None:
    """Make a flow problem from two CSV files, all rates in Gbit/s; the usual objective is max_throughput."""
    from service.importers.links_demands import import_links_demands

    chosen, choice = _objective(objective), _paths(paths)
    _write((links, demands), out, lambda: import_links_demands(Path(links), Path(demands), paths=choice, **_if_given(chosen)))


def _objective(name: str | None) -> FlowObjective | None:
    from models.flow.schema import Objective as Named

    return Named(name) if name is not None else None


def _if_given(objective: FlowObjective | None) -> dict[str, FlowObjective]:
    return {} if objective is None else {"objective": objective}


def _paths(text: str) -> FlowPaths:
    from service.importers.network_files import path_choice

    try:
        return path_choice(text)
    except ValueError as error:
        raise BadInputError(f"--paths: {error}") from None


def _write(inputs: tuple[str, ...], out: str, read: Callable[[], Problem | Imported]) -> None:
    """Reads, writes the problem, and says what is in it. Raises BadInputError."""
    from models.garbage import collection_paused
    from service.importers.failures import ImportFileError
    from service.importers.network_files import Imported

    target = Target("--out", out, not_over=inputs)
    try:
        with collection_paused():
            found = read()
    except ImportFileError as error:
        raise BadInputError(str(error)) from None
    problem, empty = (found.problem, found.empty_demands) if isinstance(found, Imported) else (found, 0)
    target.write(as_text(problem) + "\n")
    typer.echo(f"{out}: {_sizes(problem)}" + (f"; {empty:,} demands of 0 left out" if empty else ""))


def as_text(problem: Problem) -> str:
    """The problem as JSON: indented where a person may read it, compact where it has tables."""
    from service.documents.problems import as_object

    if problem.link_table is None and problem.demand_table is None and problem.node_table is None:
        return json.dumps(as_object(problem), indent=1, ensure_ascii=False)
    body = problem.model_dump_json(exclude_defaults=True)
    return f'{{"schema_version":{problem.schema_version},{body[1:]}'


def _sizes(problem: Problem) -> str:
    """``11 nodes, 28 links, 110 demands of 42.1 Gbit/s in all; min_max_utilisation, paths all``."""
    from models.flow.network.arrays import network_of, traffic_of

    network, traffic = network_of(problem), traffic_of(problem)
    carried = float(traffic.size.sum()) if traffic.count else float(network.supply[network.supply > 0].sum())
    what = f"{traffic.count:,} demands of {carried:,.6g} Gbit/s in all" if traffic.count else f"supplies of {carried:,.6g} Gbit/s in all"
    paths = problem.paths.choice.value.replace("_", "-") + (f":{problem.paths.k}" if problem.paths.k is not None else "")
    return f"{network.nodes:,} nodes, {network.links:,} links, {what}; {_aim(problem)}, paths {paths}"


def _aim(problem: Problem) -> str:
    return problem.objective.value if problem.use.value == "route" else problem.use.value
