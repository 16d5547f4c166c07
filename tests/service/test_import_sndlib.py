"""Networks of SNDlib as problems: every letter of a model, the routing without one, and what a broken file is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.flow.schema import Charge, Objective, Problem
from service.importers.failures import ImportFileError
from service.importers.sndlib import import_sndlib

SNDLIB = Path(__file__).parents[3] / "shared" / "data" / "sndlib" / "native"
TEXT = """?SNDlib native format; type: network; version: 1.0
# a comment ( with parentheses
NODES (
  A ( -1.50 2.00 )
  B ( 3.00 4.00 )
  C ( 0.00 0.00 )
)
# LINKS: capacity, its cost, routing cost, setup cost, modules
LINKS (
  L1 ( A B ) 5.00 100.00 1.50 7.00 ( 10.00 50.00 40.00 150.00 )
  L2 ( B C ) 0.00 0.00 2.00 0.00 ( 40.00 150.00 10.00 60.00 10.00 55.00 )
  L3 ( A C ) 8.00 20.00 0.00 3.00 ( )
)
DEMANDS (
  D1 ( A C ) 2 4.50 UNLIMITED
  D2 ( C B ) 1 3.00 2
  D3 ( A B ) 1 0.00 UNLIMITED
)
ADMISSIBLE_PATHS (
  D1 (
    P_0 ( L1 L2 )
  )
)
"""


def written(folder: Path, text: str = TEXT) -> Path:
    path = folder / "net.txt"
    path.write_text(text)
    return path


def test_a_design(tmp_path: Path) -> None:
    problem = import_sndlib(written(tmp_path), model="u-u-m-n-c-a-n-n")
    assert problem.use == "design"
    assert [node.id for node in problem.nodes] == ["A", "B", "C"]
    first, second, third = problem.links
    assert (first.id, first.source, first.target, first.capacity_gbps, first.cost, first.setup_cost) == ("L1", "A", "B", 5.0, 1.5, 0.0)
    assert [(one.id, one.capacity_gbps, one.cost, one.most) for one in first.modules] == [
        ("10", 10.0, 50.0, None),
        ("40", 40.0, 150.0, None),
    ]
    assert [(one.id, one.cost) for one in second.modules] == [("10", 55.0), ("40", 150.0)]  # the cheaper of two alike
    assert third.modules == ()
    assert {link.direction.value for link in problem.links} == {"shared"}
    assert [(one.id, one.source, one.target, one.size_gbps) for one in problem.demands] == [("D1", "A", "C", 9.0), ("D2", "C", "B", 3.0)]
    assert problem.design is not None
    assert problem.design.installed_cost == 120.0
    assert (problem.design.modules_per_link, problem.design.charge, problem.design.survive) == ("any", Charge.larger, None)


def test_every_letter_means_something(tmp_path: Path) -> None:
    path = written(tmp_path)

    def read(model: str, charge: Charge = Charge.larger) -> Problem:
        return import_sndlib(path, model=model, charge=charge)

    for letter, direction in (("U", "shared"), ("B", "each"), ("D", "directed")):
        assert {link.direction.value for link in read(f"D-{letter}-M-N-C-A-N-N").links} == {direction}
    explicit = read("D-B-E-Y-C-A-N-N", charge=Charge.sum)
    assert explicit.design is not None
    assert (explicit.design.modules_per_link, explicit.design.charge) == ("one", Charge.sum)
    assert [link.setup_cost for link in explicit.links] == [7.0, 0.0, 3.0]
    assert [[one.id for one in link.modules] for link in read("D-B-S-N-C-A-N-N").links] == [["10"], ["10"], []]
    survive = read("U-U-M-N-C-A-N-U").design
    assert survive is not None
    assert survive.survive is not None
    assert survive.survive.any_links == 1


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ("U-U-M", "8 letters"),
        ("U-B-M-N-C-A-N-N", "undirected demands need undirected links"),
        ("D-B-L-N-C-A-N-N", "for capacity, 'L' is not taken; choose from M, S, E"),
        ("D-B-M-N-I-A-N-N", "for routing, 'I' is not taken"),
        ("D-B-M-N-C-L-N-N", "for paths, 'L' is not taken"),
        ("D-B-M-N-C-A-Y-N", "for hop limit, 'Y' is not taken"),
        ("D-B-M-N-C-A-N-P", "for survivability, 'P' is not taken"),
    ],
)
def test_a_model_that_is_not_taken(tmp_path: Path, model: str, told: str) -> None:
    with pytest.raises(ImportFileError, match=told):
        import_sndlib(written(tmp_path), model=model)


def test_a_routing_takes_what_is_there_or_the_largest_module(tmp_path: Path) -> None:
    problem = import_sndlib(written(tmp_path), objective=Objective.max_concurrent)
    assert (problem.use, problem.objective, problem.design) == ("route", "max_concurrent", None)
    assert [(link.capacity_gbps, link.direction.value) for link in problem.links] == [(5.0, "each"), (40.0, "each"), (8.0, "each")]


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("  L1 ( A B ) 5.00", "  L1 ( A Z ) 5.00", "no node 'Z'"),
        ("  L1 ( A B ) 5.00", "  L1 ( A A ) 5.00", "starts and ends at 'A'"),
        ("  L1 ( A B ) 5.00", "  L1 ( A B ) five", "line 10: expected a number of 0 or more, found 'five'"),
        ("  L1 ( A B ) 5.00", "  L1 ( A B ) -5.00", "line 10: expected a number of 0 or more, found '-5.00'"),
        ("  L1 ( A B ) 5.00", "  L1 ( A B ) inf", "line 10: expected a number"),
        ("  L1 ( A B ) 5.00", "  L1 A B 5.00", "line 10: expected '\\(', found 'A'"),
        ("  L2 ( B C )", "  L1 ( B C )", "line 11: the name 'L1' stands here for the second time"),
        ("10.00 50.00", "0.00 50.00", "module of capacity 0"),
        ("NODES (", "NUDES (", "line 3: 'NUDES' stands where a section should begin"),
        ("DEMANDS (", "NODES (", "a second section NODES"),
        (TEXT[TEXT.index("DEMANDS (") :], "", "there is no section DEMANDS"),
        (TEXT[TEXT.index("  D2 (") :], "  D2 ( C", "ends in the middle of a section"),
    ],
)
def test_what_a_broken_file_is_told(tmp_path: Path, old: str, new: str, told: str) -> None:
    assert old in TEXT
    with pytest.raises(ImportFileError, match=told):
        import_sndlib(written(tmp_path, TEXT.replace(old, new, 1)), model="U-U-M-N-C-A-N-N")


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ImportFileError, match="there is no such file"):
        import_sndlib(tmp_path / "none.txt", model="U-U-M-N-C-A-N-N")
    binary = tmp_path / "net.txt"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ImportFileError, match="cannot be read"):
        import_sndlib(binary, model="U-U-M-N-C-A-N-N")


@pytest.mark.skipif(not SNDLIB.exists(), reason="the SNDlib networks are not part of this repository")
def test_every_network_is_read() -> None:
    sizes = {}
    for path in sorted(SNDLIB.glob("*.txt")):
        problem = import_sndlib(path, model="D-B-M-N-C-A-N-N")
        sizes[path.stem] = (len(problem.nodes), len(problem.links), len(problem.demands))
    assert len(sizes) == 11
    assert (sizes["pdh"], sizes["polska"], sizes["dfn-gwin"]) == ((11, 34, 24), (12, 18, 66), (11, 47, 110))
    gwin = import_sndlib(SNDLIB / "dfn-gwin.txt", model="U-U-M-N-C-A-N-N").design
    assert gwin is not None
    assert gwin.installed_cost == 2400.0
