"""The importers of networks with demands: two CSV files, REPETITA, GraphML; what they read, what they refuse, and the commands."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.optimize import linprog

from models.flow.network.arrays import network_of, traffic_of
from models.flow.schema import Direction, Objective, PathChoice, Paths, Problem
from service.importers.failures import ImportFileError
from service.importers.graphml import import_graphml
from service.importers.links_demands import import_links_demands
from service.importers.network_files import Imported, path_choice
from service.importers.repetita import import_repetita
from tests.service.test_cli import run

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
LINKS = "source,target,capacity\nx,y,10\ny,x,unlimited\ny,z,2.5\n"
DEMANDS = "source,target,demand\nx,z,1.5\nx,y,0\ny,x,3\n"
GRAPH = """NODES 3
label x y
A 0 0
B 1.5 -2
C 3 3

EDGES 3
label src dest weight bw delay
e0 0 1 2 10000000 1500
e1 1 0 1 10000000 1500
e2 1 2 1 2500000 250
"""
MATRIX = "DEMANDS 3\nlabel src dest bw\nd0 0 2 400000\nd1 0 1 0\nd2 1 0 250000\n"
GRAPHML = """<?xml version="1.0" encoding="utf-8"?>
<graphml xmlns="http://graphml.graphdrawing.org/xmlns">
  <key attr.name="LinkSpeedRaw" attr.type="double" for="edge" id="d0" />
  <key attr.name="label" attr.type="string" for="node" id="d1" />
  <key attr.name="latency_ms" attr.type="double" for="edge" id="d2" />
  <graph edgedefault="undirected">
    <node id="0"><data key="d1">Bern</data></node>
    <node id="1"><data key="d1">Genf</data></node>
    <node id="2"><data key="d1">Basel</data></node>
    <edge source="0" target="1"><data key="d0">1000000000.0</data><data key="d2">0.5</data></edge>
    <edge source="0" target="1" />
    <edge source="1" target="2"><data key="d0">2500000000</data></edge>
  </graph>
</graphml>
"""


def kept(tmp_path: Path, **texts: str) -> list[Path]:
    paths = []
    for name, text in texts.items():
        path = tmp_path / name.replace("_", ".")
        path.write_text(text, encoding="utf-8")
        paths.append(path)
    return paths


def two_tables(tmp_path: Path, links: str = LINKS, demands: str = DEMANDS, **given: Any) -> Imported:
    return import_links_demands(*kept(tmp_path, links_csv=links, demands_csv=demands), **given)


def repetita(tmp_path: Path, graph: str = GRAPH, matrix: str = MATRIX, **given: Any) -> Imported:
    return import_repetita(*kept(tmp_path, net_graph=graph, net_demands=matrix), **given)


def graphml(tmp_path: Path, text: str = GRAPHML, **given: Any) -> Imported:
    return import_graphml(*kept(tmp_path, net_graphml=text), **{"demand_gbps": 2.0, "capacity_gbps": 40.0} | given)


# ---------------------------------------------------------------- what is read


def test_two_tables(tmp_path: Path) -> None:
    found = two_tables(tmp_path)
    problem = found.problem
    assert (problem.objective, problem.paths, found.empty_demands) == (Objective.max_throughput, Paths(), 1)
    assert [node.id for node in problem.nodes] == ["x", "y", "z"]
    assert [(one.id, one.source, one.target, one.capacity_gbps, one.direction) for one in problem.links] == [
        ("l0", "x", "y", 10, "directed"),
        ("l1", "y", "x", None, "directed"),
        ("l2", "y", "z", 2.5, "directed"),
    ]
    assert [(one.id, one.source, one.target, one.size_gbps) for one in problem.demands] == [("d0", "x", "z", 1.5), ("d1", "y", "x", 3)]


def test_further_columns(tmp_path: Path) -> None:
    links = "id,target,source,colour,capacity_gbps,latency_ms,cost,lower_gbps\na,y,x,red,10,2,1.5,0\nb,x,y,blue,10,3,4,0\n"
    demands = "id,source,target,size_gbps,priority,value,weight,latency_limit_ms\nq,x,y,1,-2,3,4,\nr,y,x,1,0,1,1,9\n"
    problem = two_tables(tmp_path, links, demands, objective=Objective.min_cost, paths=path_choice("edge-disjoint:4")).problem
    assert [(one.id, one.latency_ms, one.cost, one.lower_gbps) for one in problem.links] == [("a", 2, 1.5, 0), ("b", 3, 4, 0)]
    assert [(one.id, one.priority, one.value, one.weight, one.latency_limit_ms) for one in problem.demands] == [
        ("q", -2, 3, 4, None),
        ("r", 0, 1, 1, 9),
    ]
    assert (problem.objective, problem.paths.choice, problem.paths.k) == (Objective.min_cost, PathChoice.edge_disjoint, 4)


def test_lower_bounds_do_not_go_with_demands(tmp_path: Path) -> None:
    with pytest.raises(ImportFileError, match="link 'l0' has a lower bound, which only the flow of node supplies can keep"):
        two_tables(tmp_path, "source,target,capacity,lower_gbps\nx,y,1,0.5\n", "source,target,demand\nx,y,1\n")


def test_packed_demands(tmp_path: Path) -> None:
    links, demands = kept(tmp_path, links_csv=LINKS, demands_csv=DEMANDS)
    packed = tmp_path / "demands.csv.gz"
    packed.write_bytes(gzip.compress(demands.read_bytes()))
    assert import_links_demands(links, packed) == import_links_demands(links, demands)


def test_many_demands_become_a_table(tmp_path: Path) -> None:
    demands = "source,target,demand,priority\n" + "".join(f"x,z,{size + 1},{size % 3}\n" for size in range(2500))
    problem = two_tables(tmp_path, demands=demands).problem
    assert problem.demand_table is not None
    assert (len(problem.demand_table.source), problem.demand_table.size_gbps[7], problem.demand_table.priority) == (
        2500,
        8.0,
        (0, 1, 2) * 833 + (0,),
    )
    assert (len(problem.links), problem.demands) == (3, ())


def test_repetita_has_kbits_and_microseconds(tmp_path: Path) -> None:
    found = repetita(tmp_path)
    problem = found.problem
    assert (problem.objective, found.empty_demands) == (Objective.min_max_utilisation, 1)
    assert [(one.id, one.source, one.target, one.capacity_gbps, one.latency_ms, one.cost) for one in problem.links] == [
        ("e0", "A", "B", 10.0, 1.5, 2),
        ("e1", "B", "A", 10.0, 1.5, 1),
        ("e2", "B", "C", 2.5, 0.25, 1),
    ]
    assert [(one.id, one.source, one.target, one.size_gbps) for one in problem.demands] == [("d0", "A", "C", 0.4), ("d2", "B", "A", 0.25)]


def test_graphml(tmp_path: Path) -> None:
    problem = graphml(tmp_path).problem
    assert (problem.objective, [node.id for node in problem.nodes]) == (Objective.max_concurrent, ["0", "1", "2"])
    assert [(one.id, one.source, one.target, one.capacity_gbps, one.latency_ms) for one in problem.links] == [
        ("e0", "0", "1", 1.0, 0.5),
        ("e1", "0", "1", 40.0, 0.0),
        ("e2", "1", "2", 2.5, 0.0),
    ]
    assert {one.direction for one in problem.links} == {Direction.each}
    assert {(one.source, one.target): one.size_gbps for one in problem.demands} == {(a, b): 2.0 for a in "012" for b in "012" if a != b}


def test_graphml_with_labels_and_demands(tmp_path: Path) -> None:
    demands = kept(tmp_path, demands_csv="source,target,demand\nBern,Basel,3\n")[0]
    problem = graphml(tmp_path, label_names=True, demands_csv=demands).problem
    assert [node.id for node in problem.nodes] == ["Bern", "Genf", "Basel"]
    assert [(one.source, one.target, one.size_gbps) for one in problem.demands] == [("Bern", "Basel", 3)]


def test_directed_graphml(tmp_path: Path) -> None:
    text = GRAPHML.replace("undirected", "directed").replace('edge source="1"', 'edge id="last" source="1"')
    problem = graphml(tmp_path, text).problem
    assert {one.direction for one in problem.links} == {Direction.directed}
    assert [one.id for one in problem.links] == ["e0", "e1", "last"]


@pytest.mark.parametrize(
    ("text", "choice", "k"), [("all", "all", None), ("edge-disjoint:4", "edge_disjoint", 4), ("shortest:12", "shortest", 12)]
)
def test_choices_of_paths(text: str, choice: str, k: int | None) -> None:
    assert path_choice(text) == Paths(choice=PathChoice(choice), k=k)


@pytest.mark.parametrize("text", ["", "any", "shortest", "shortest:0", "edge-disjoint:-1", "edge_disjoint:4", "all:3"])
def test_choices_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="edge-disjoint:K or shortest:K"):
        path_choice(text)


# ---------------------------------------------------------------- what is refused

Make = Callable[..., Imported]


@pytest.mark.parametrize(
    ("make", "part", "old", "new", "words"),
    [
        (two_tables, "links", "x,y,10", "x,x,10", ["links.csv: line 2, column 'target'", "begins and ends at 'x'"]),
        (two_tables, "links", "x,y,10", "x,y,-1", ["line 2, column 'capacity'", "not '-1'", "'unlimited'"]),
        (two_tables, "links", "x,y,10", "x,y,inf", ["line 2, column 'capacity'", "'unlimited'"]),
        (two_tables, "links", "x,y,10", "x,y,nan", ["line 2, column 'capacity'"]),
        (two_tables, "links", "x,y,10", "x,y,", ["line 2, column 'capacity'", "must be a number, not ''"]),
        (two_tables, "links", "x,y,10", "x,y", ["line 2", "has 2 fields and line 1 has 3"]),
        (two_tables, "links", "x,y,10", ",y,10", ["line 2, column 'source'", "is empty"]),
        (two_tables, "links", "capacity", "speed", ["line 1", "the column 'capacity' is not there"]),
        (two_tables, "links", "source,target", "source,source", ["line 1", "the column 'source' is there twice"]),
        (two_tables, "links", LINKS[23:], "", ["lists no link"]),
        (two_tables, "demands", "x,z,1.5", "x,q,1.5", ["demands.csv: line 2, column 'target'", "no node 'q' in the links of"]),
        (two_tables, "demands", "x,z,1.5", "x,x,1.5", ["line 2, column 'target'", "begins and ends at 'x'"]),
        (two_tables, "demands", "x,z,1.5", "x,z,-1", ["line 2, column 'demand'", "not '-1'"]),
        (two_tables, "demands", DEMANDS[21:], "x,y,0\n", ["lists no demand larger than 0"]),
        (repetita, "graph", "e0 0 1", "e0 0 0", ["net.graph: line 9, column 'dest'", "begins and ends at node 0"]),
        (repetita, "graph", "e0 0 1", "e0 0 3", ["line 9, column 'dest'", "no node number '3'", "0 to 2"]),
        (repetita, "graph", "e0 0 1 2 10000000", "e0 0 1 2 -5", ["line 9, column 'bw'", "not '-5'"]),
        (repetita, "graph", "e0 0 1 2 10000000", "e0 0 1 2 inf", ["line 9, column 'bw'"]),
        (repetita, "graph", "e0 0 1 2", "e0 0 1", ["line 9", "must be 'label src dest weight bw delay'"]),
        (repetita, "graph", "e1 1", "e0 1", ["the edge 'e0' is named twice"]),
        (repetita, "graph", "B 1.5", "A 1.5", ["the node 'A' is named twice"]),
        (repetita, "graph", "EDGES 3", "EDGES 4", ["line 12", "ends before line 4 of the 4 that EDGES announces"]),
        (repetita, "graph", "EDGES 3", "LINKS 3", ["line 7", "must be 'EDGES N', not 'LINKS 3'"]),
        (repetita, "graph", "label x y", "label y x", ["line 2", "must be 'label x y'"]),
        (repetita, "matrix", "d0 0 2", "d0 0 9", ["net.demands: line 3, column 'dest'", "no node number '9'"]),
        (repetita, "matrix", "d0 0 2", "d0 2 2", ["line 3, column 'dest'", "the demand begins and ends"]),
        (repetita, "matrix", "400000", "-1", ["line 3, column 'bw'"]),
        (graphml, "text", 'target="2"', 'target="7"', ["net.graphml: line 12, column 'target'", "no node '7'"]),
        (graphml, "text", 'source="1" target="2"', 'source="2" target="2"', ["line 12, column 'target'", "begins and ends at '2'"]),
        (graphml, "text", "2500000000", "-1", ["line 12, column 'LinkSpeedRaw'"]),
        (graphml, "text", "2500000000", "fast", ["line 12, column 'LinkSpeedRaw'", "not 'fast'"]),
        (graphml, "text", "2500000000", "inf", ["line 12, column 'LinkSpeedRaw'"]),
        (graphml, "text", '<node id="1">', '<node id="0">', ["line 8, column 'id'", "the node '0' is there twice"]),
        (graphml, "text", '<edge source="0" target="1" />', '<edge source="0" />', ["line 11, column 'target'", "the edge has none"]),
        (
            graphml,
            "text",
            '<edge source="0" target="1" />',
            '<edge source="0" target="1" directed="true" />',
            ["line 11, column 'directed'"],
        ),
        (graphml, "text", '<edge source="0" target="1" />', "<hyperedge />", ["line 11, column 'hyperedge'"]),
        (graphml, "text", "</graph>", "", ["line 14", "is no XML"]),
        (graphml, "text", "<graphml", '<!DOCTYPE x [<!ENTITY a "b">]><graphml', ["line 2, column 'DOCTYPE'"]),
        (graphml, "text", GRAPHML[GRAPHML.index("    <node") : GRAPHML.index("  </graph>")], "", ["has no node"]),
    ],
)
def test_what_is_refused(tmp_path: Path, make: Make, part: str, old: str, new: str, words: list[str]) -> None:
    usual = {"links": LINKS, "demands": DEMANDS, "graph": GRAPH, "matrix": MATRIX, "text": GRAPHML}[part]
    assert old in usual
    with pytest.raises(ImportFileError) as refused:
        make(tmp_path, **{part: usual.replace(old, new, 1)})
    assert [word for word in words if word not in str(refused.value)] == []


def test_what_graphml_does_not_say(tmp_path: Path) -> None:
    with pytest.raises(ImportFileError, match="line 11, column 'capacity': the edge says none; give --capacity-gbps"):
        graphml(tmp_path, capacity_gbps=None)
    with pytest.raises(ImportFileError, match="GraphML knows no demands"):
        graphml(tmp_path, demand_gbps=None)
    with pytest.raises(ImportFileError, match="the label 'Bern' of node '1' is also that of node '0'"):
        graphml(tmp_path, GRAPHML.replace("Genf", "Bern"), label_names=True)


# ---------------------------------------------------------------- the commands


@pytest.mark.parametrize(
    ("command", "texts", "options", "told"),
    [
        (
            "links-demands",
            {"l_csv": LINKS, "d_csv": DEMANDS},
            ("--paths", "edge-disjoint:2"),
            "max_throughput, paths edge-disjoint:2; 1 demands of 0",
        ),
        ("repetita", {"g_graph": GRAPH, "g_demands": MATRIX}, (), "2 demands of 0.65 Gbit/s in all; min_max_utilisation, paths all"),
        ("repetita", {"g_graph": GRAPH, "g_demands": MATRIX}, ("--objective", "max_min_fair"), "max_min_fair"),
        (
            "graphml",
            {"g_graphml": GRAPHML},
            ("--demand-gbps", 1, "--capacity-gbps", 5, "--labels"),
            "3 nodes, 3 links, 6 demands of 6 Gbit/s",
        ),
    ],
)
def test_commands(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, texts: dict[str, str], options: tuple[object, ...], told: str
) -> None:
    out = tmp_path / "problem.json"
    assert run("import", command, *kept(tmp_path, **texts), *options, "--out", out) == 0
    assert told in capsys.readouterr().out
    problem = Problem.model_validate_json(out.read_bytes())
    assert network_of(problem).nodes == 3
    assert json.loads(out.read_text(encoding="utf-8"))["schema_version"] == 1


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ((), "give one of --demands FILE and --demand-gbps X"),
        (("--demand-gbps", 1, "--demands", "x.csv"), "give one of --demands FILE and --demand-gbps X"),
        (("--demand-gbps", 0), "--demand-gbps: must be a number of Gbit/s above 0"),
        (("--demand-gbps", "nan"), "--demand-gbps: must be a number of Gbit/s above 0"),
        (("--demand-gbps", 1, "--capacity-gbps", "inf"), "--capacity-gbps: must be a number"),
        (("--demand-gbps", 1, "--paths", "some"), "--paths: 'some' is no choice of paths"),
        (("--demand-gbps", 1, "--objective", "best"), "'best' is not one of"),
        (("--demand-gbps", 1), "--capacity-gbps for edges without"),
    ],
)
def test_commands_refuse(tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple[object, ...], told: str) -> None:
    path = kept(tmp_path, g_graphml=GRAPHML)[0]
    assert run("import", "graphml", path, *options, "--out", tmp_path / "problem.json") == 2
    assert told in " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert not (tmp_path / "problem.json").exists()


def test_large_networks_are_written_as_tables(tmp_path: Path) -> None:
    demands = "source,target,demand\n" + "x,z,0.001\n" * 2500
    files = kept(tmp_path, l_csv=LINKS, d_csv=demands)
    out = tmp_path / "problem.json"
    assert run("import", "links-demands", *files, "--out", out) == 0
    assert Problem.model_validate_json(out.read_bytes()) == import_links_demands(*files).problem
    assert out.stat().st_size < 60_000
    assert out.read_text(encoding="utf-8").startswith('{"schema_version":1,"objective":"max_throughput"')


# ---------------------------------------------------------------- the public instances


def shared(name: str) -> Path:
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"the public file {name} is not beside the project (../shared/data): its licence does not allow a copy")
    return path


def test_repetita_has_its_known_optimum() -> None:
    """The authors scaled demands so that the best routing has its busiest link at 0.9; flows of one source are one commodity here."""
    problem = import_repetita(shared("repetita/Abilene.graph"), shared("repetita/Abilene.0000.demands")).problem
    network, traffic = network_of(problem), traffic_of(problem)
    nodes, arcs = network.nodes, network.arcs
    leaves = np.zeros((nodes, arcs))
    np.add.at(leaves, (network.arc_tail, np.arange(arcs)), 1.0)
    np.add.at(leaves, (network.arc_head, np.arange(arcs)), -1.0)
    wanted = np.zeros((nodes, nodes))
    np.add.at(wanted, (traffic.source, traffic.target), -traffic.size)
    np.fill_diagonal(wanted, -wanted.sum(axis=1))
    flows = np.kron(np.eye(nodes), leaves)
    capacity = np.kron(np.ones(nodes), np.eye(arcs))
    found = linprog(
        np.append(np.zeros(nodes * arcs), 1.0),
        A_eq=np.column_stack((flows, np.zeros(nodes * nodes))),
        b_eq=wanted.ravel(),
        A_ub=np.column_stack((capacity, -network.link_capacity)),
        b_ub=np.zeros(arcs),
        method="highs",
    )
    assert found.fun == pytest.approx(0.9, abs=1e-4)


@pytest.mark.parametrize(("stem", "demands"), [("gravity_x32_seed1192263082", 22051), ("uniform_x64_seed1216622520", 22052)])
def test_ncflow(stem: str, demands: int) -> None:
    links, matrix = shared(f"ncflow/GtsCe_{stem}.links.csv"), shared(f"ncflow/GtsCe_{stem}.demands.csv.gz")
    problem = import_links_demands(links, matrix).problem
    network, traffic = network_of(problem), traffic_of(problem)
    assert (network.nodes, network.links, set(network.link_capacity.tolist())) == (149, 386, {1000.0})
    lines = gzip.decompress(matrix.read_bytes()).decode().splitlines()[1:]
    assert traffic.count == len(lines) == demands
    assert traffic.size.sum() == pytest.approx(sum(float(line.split(",")[2]) for line in lines))


def test_the_topology_zoo() -> None:
    """The graph of the same network has each link once, for both ways."""
    problem = import_graphml(shared("ncflow/GtsCe.graphml"), demand_gbps=1.0, capacity_gbps=1000.0).problem
    network = network_of(problem)
    assert (network.nodes, network.links, network.arcs) == (149, 193, 386)
