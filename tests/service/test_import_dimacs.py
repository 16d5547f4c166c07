"""The importer of DIMACS files: what it reads, what it refuses, and the public instances."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import linprog
from scipy.sparse import coo_array

from models.flow.network.arrays import network_of
from models.flow.schema import Objective, Problem
from service.importers.dimacs import import_dimacs
from service.importers.failures import ImportFileError
from tests.service.test_cli import run

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
DIAMOND = """c two ways
p min 4 4
n 1 10
n 4 -10
a 1 2 0 10 5
a 1 3 2 -1 2.5
a 2 4 0 10 -3
a 3 4 0 10.5 7
"""
WIDEST = "p max 4 4\nn 1 s\nn 4 t\na 1 2 3\na 1 3 -1\na 2 4 5\na 3 4 6\n"


def imported(tmp_path: Path, text: str = DIAMOND, **given: Objective) -> Problem:
    path = tmp_path / "net.min"
    path.write_text(text, encoding="utf-8")
    return import_dimacs(path, **given)  # type: ignore[arg-type]


def test_minimum_cost(tmp_path: Path) -> None:
    problem = imported(tmp_path)
    assert problem.objective is Objective.min_cost
    assert [(node.id, node.supply_gbps) for node in problem.nodes] == [("1", 10), ("2", 0), ("3", 0), ("4", -10)]
    assert [(one.id, one.source, one.target) for one in problem.links] == [
        ("l0", "1", "2"),
        ("l1", "1", "3"),
        ("l2", "2", "4"),
        ("l3", "3", "4"),
    ]
    assert [(one.lower_gbps, one.capacity_gbps, one.cost) for one in problem.links] == [
        (0, 10, 5),
        (2, None, 2.5),
        (0, 10, -3),
        (0, 10.5, 7),
    ]


def test_maximum_flow(tmp_path: Path) -> None:
    """The source offers all that could leave it or reach the sink: 11 into the sink."""
    problem = imported(tmp_path, WIDEST)
    assert problem.objective is Objective.max_throughput
    assert [node.supply_gbps for node in problem.nodes] == [11, 0, 0, -11]
    with pytest.raises(ImportFileError, match="leave --objective out"):
        imported(tmp_path, WIDEST, objective=Objective.min_cost)


def test_a_maximum_flow_of_nothing_is_told_as_such(tmp_path: Path) -> None:
    with pytest.raises(ImportFileError, match="the largest flow is 0; give them capacities"):
        imported(tmp_path, "p max 3 2\nn 1 s\nn 3 t\na 1 2 0\na 2 3 5\n")


def test_blanks_comments_and_packing_do_not_matter(tmp_path: Path) -> None:
    plain = imported(tmp_path)
    assert imported(tmp_path, "\n  \nc x\n" + DIAMOND.replace("a 1", "  a\t1").replace("\n", "  \r\n")) == plain
    path = tmp_path / "net.min.gz"
    path.write_bytes(gzip.compress(DIAMOND.encode()))
    assert import_dimacs(path) == plain
    assert imported(tmp_path, DIAMOND.rstrip()) == plain


def test_many_arcs_become_a_table(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    ends = rng.integers(1, 2501, 5000)
    arcs = "".join(
        f"a {one} {one % 2500 + 1} 0 {cap} {cost:.3f}\n" for one, cap, cost in zip(ends, ends + 5, rng.random(5000), strict=True)
    )
    problem = imported(tmp_path, f"p min 2500 5000\nn 1 1\nn 2 -1\n{arcs}")
    assert problem.link_table is not None
    assert problem.node_table is not None
    assert (len(problem.link_table.source), len(problem.node_table.id), problem.links, problem.nodes) == (5000, 2500, (), ())
    assert problem.link_table.source[:3] == tuple(str(one) for one in ends[:3])
    assert problem.link_table.capacity_gbps[4] == ends[4] + 5
    assert problem.link_table.lower_gbps is None


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("a 1 2 0 10 5", "a 1 1 0 10 5", ["line 5, column 'TO'", "begins and ends at node 1"]),
        ("a 1 2 0 10 5", "a 1 9 0 10 5", ["line 5, column 'TO'", "no node '9'", "1 to 4"]),
        ("a 1 2 0 10 5", "a 0 2 0 10 5", ["line 5, column 'FROM'", "no node '0'"]),
        ("a 1 2 0 10 5", "a 1.5 2 0 10 5", ["line 5, column 'FROM'", "no node '1.5'"]),
        ("a 1 2 0 10 5", "a 1 2 0 -2 5", ["line 5, column 'CAP'", "-1 for no limit", "not -2"]),
        ("a 1 2 0 10 5", "a 1 2 0 inf 5", ["line 5, column 'CAP'", "write -1 for no limit"]),
        ("a 1 2 0 10 5", "a 1 2 0 nan 5", ["line 5, column 'CAP'", "not nan"]),
        ("a 1 2 0 10 5", "a 1 2 0 1e13 5", ["line 5, column 'CAP'", "at most 1e+12"]),
        ("a 1 2 0 10 5", "a 1 2 -3 10 5", ["line 5, column 'LOW'", "not -3"]),
        ("a 1 2 0 10 5", "a 1 2 11 10 5", ["line 5, column 'LOW'", "more than the capacity"]),
        ("a 1 2 0 10 5", "a 1 2 0 10 inf", ["line 5, column 'COST'", "finite"]),
        ("a 1 2 0 10 5", "a 1 2 0 ten 5", ["line 5, column 'CAP'", "must be a number, not 'ten'"]),
        ("a 1 2 0 10 5", "a 1 2 0 10", ["line 5, column 'a'", "must be 'a FROM TO LOW CAP COST', not 'a 1 2 0 10'"]),
        ("a 1 2 0 10 5\na 1 3 2 -1 2.5", "a 1 2 0 10 5 9\na 1 3 2 -1", ["line 5, column 'a'"]),
        ("a 1 2 0 10 5", "x 1 2 0 10 5", ["line 5", "must be c, p, n or a"]),
        ("a 1 2 0 10 5\n", "", ["line 2, column 'ARCS'", "announces 4 arcs and the file has 3"]),
        ("p min 4 4", "p min 4", ["line 2, column 'p'", "p min NODES ARCS"]),
        ("p min 4 4", "p asn 4 4", ["line 2, column 'p'"]),
        ("p min 4 4", "p min four 4", ["line 2, column 'NODES'", "not 'four'"]),
        ("p min 4 4\n", "", ["there is no line 'p min NODES ARCS'"]),
        ("n 1 10", "p min 4 4", ["line 3", "second line 'p'"]),
        ("n 1 10", "n 1", ["line 3, column 'n'", "n ID SUPPLY"]),
        ("n 1 10", "n 7 10", ["line 3, column 'ID'", "no node '7'"]),
        ("n 1 10", "n 4 10", ["line 4, column 'ID'", "has a line already (line 3)"]),
        ("n 1 10", "n 1 many", ["line 3, column 'SUPPLY'", "not 'many'"]),
        ("n 1 10", "n 1 11", ["does not make a problem", "1"]),
    ],
)
def test_what_is_refused(tmp_path: Path, old: str, new: str, words: list[str]) -> None:
    assert old in DIAMOND
    with pytest.raises(ImportFileError) as refused:
        imported(tmp_path, DIAMOND.replace(old, new))
    assert str(tmp_path / "net.min") in str(refused.value)
    assert [word for word in words if word not in str(refused.value)] == []


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("n 4 t", "n 4 x", "one source 's' and one sink 't'"),
        ("n 4 t", "n 4 s", "one source 's' and one sink 't'"),
        ("n 4 t\n", "", "names no sink"),
        ("n 1 s\n", "", "names no source"),
        ("a 3 4 6", "a 3 4 -1", "has no maximum"),
    ],
)
def test_what_is_refused_of_maximum_flow(tmp_path: Path, old: str, new: str, words: str) -> None:
    with pytest.raises(ImportFileError, match=words):
        imported(tmp_path, WIDEST.replace(old, new))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ImportFileError, match=r"cannot be read .*check the path"):
        import_dimacs(tmp_path / "nothing.min")
    with pytest.raises(ImportFileError, match="is empty"):
        imported(tmp_path, " \n")
    broken = tmp_path / "broken.gz"
    broken.write_bytes(gzip.compress(DIAMOND.encode())[:-12])
    with pytest.raises(ImportFileError, match="packed data is broken"):
        import_dimacs(broken)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = tmp_path / "net.min", tmp_path / "problem.json"
    path.write_text(DIAMOND, encoding="utf-8")
    assert run("import", "dimacs-min", path, "--out", out) == 0
    assert Problem.model_validate_json(out.read_bytes()) == import_dimacs(path)
    assert json.loads(out.read_text(encoding="utf-8"))["schema_version"] == 1
    assert "4 nodes, 4 links, supplies of 10 Gbit/s in all; min_cost, paths all" in capsys.readouterr().out
    assert run("import", "dimacs-min", path, "--objective", "max_min_fair", "--out", out) == 2
    assert "max_min_fair" in capsys.readouterr().err


# ---------------------------------------------------------------- the public instances

NETGEN = {
    "dimacs_netgen/netgen_8_08a.min": 142274536,
    "dimacs_netgen/netgen_8_10a.min": 369269289,
    "dimacs_netgen/small/diamond_graph.min": 80,
    "dimacs_netgen/small/grid_5x5.min": 27000,
    "dimacs_netgen/small/assignment_50x50.min": 50,
    "networkx_flow/netgen-2.txt": 6749969302,
}
MAX_FLOW = {"networkx_flow/gl1.txt": 156545, "networkx_flow/gw1.txt": 1202018, "networkx_flow/wlm3.txt": 11875108}


@pytest.mark.parametrize("name", [*NETGEN, *MAX_FLOW])
def test_public_instances_have_their_known_optimum(name: str) -> None:
    """As a second opinion solves what was imported."""
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"the public instance {name} is not beside the project (../shared/data)")
    network = network_of(import_dimacs(path))
    arcs = np.arange(network.arcs)
    leaves = coo_array(
        (np.repeat([1.0, -1.0], network.arcs), (np.concatenate((network.arc_tail, network.arc_head)), np.tile(arcs, 2))),
        shape=(network.nodes, network.arcs),
    ).tocsr()
    bounds = np.column_stack((network.link_lower, network.link_capacity))
    if name in NETGEN:
        found = linprog(network.arc_cost, A_eq=leaves, b_eq=network.supply, bounds=bounds, method="highs")
        assert found.fun == pytest.approx(NETGEN[name], rel=1e-9)
    else:
        least, most = np.minimum(network.supply, 0), np.maximum(network.supply, 0)
        source = (leaves[[int(network.supply.argmax())]]).toarray()[0]
        fixed = np.flatnonzero(network.supply == 0)
        assert most.sum() >= MAX_FLOW[name] <= -least.sum()
        found = linprog(-source, A_eq=leaves[fixed], b_eq=np.zeros(len(fixed)), bounds=bounds, method="highs")
        assert -found.fun == pytest.approx(MAX_FLOW[name], rel=1e-9)
