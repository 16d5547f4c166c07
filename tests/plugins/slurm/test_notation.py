"""Slurm's notations, in the spellings of 22.05 to 24.x."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.plugins.slurm.changes import Change, plain, quoted
from service.plugins.slurm.notation import (
    Gres,
    NotationError,
    gres,
    hosts,
    indices,
    mib,
    number,
    satisfies,
    task_ids,
    text,
    tres,
    whole,
    words,
)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (5, 5.0),
        ("5", 5.0),
        (0, 0.0),
        (None, None),
        (True, None),
        ("", None),
        ("many", None),
        ({"set": True, "infinite": False, "number": 7}, 7.0),
        ({"set": False, "infinite": False, "number": 0}, None),
        ({"set": True, "infinite": True, "number": 0}, math.inf),
        ([], None),
    ],
)
def test_numbers_of_every_version(value: object, expected: float | None) -> None:
    assert number(value) == expected


def test_a_whole_number_where_one_is_needed() -> None:
    assert whole({"set": True, "infinite": True, "number": 0}, 3) == 3
    assert whole(None) == 0
    assert whole({"set": True, "number": 4}) == 4


def test_words_and_texts() -> None:
    assert words("h100,r1") == words(["h100", "r1"]) == words(["h100,r1"]) == ("h100", "r1")
    assert words("(null)") == words(None) == words("") == ()
    assert text(["IDLE", "DRAIN"]) == "IDLE,DRAIN"
    assert text("N/A") == text(None) == ""


@pytest.mark.parametrize(
    ("listed", "expected"),
    [
        ("", ()),
        ("gpu1", ("gpu1",)),
        ("gpu[1-3]", ("gpu1", "gpu2", "gpu3")),
        ("gpu[08-10,12]", ("gpu08", "gpu09", "gpu10", "gpu12")),
        ("a1,b[2-3]-ib,c", ("a1", "b2-ib", "b3-ib", "c")),
        ("r[1-2]n[1-2]", ("r1n1", "r1n2", "r2n1", "r2n2")),
    ],
)
def test_hosts(listed: str, expected: tuple[str, ...]) -> None:
    assert hosts(listed) == expected


@given(st.lists(st.integers(0, 300), min_size=1, max_size=20, unique=True))
def test_hosts_are_what_was_listed(numbers: list[int]) -> None:
    runs = [list(group) for _, group in itertools.groupby(enumerate(sorted(numbers)), lambda pair: pair[1] - pair[0])]
    ranges = ",".join(f"{run[0][1]}-{run[-1][1]}" if len(run) > 1 else str(run[0][1]) for run in runs)
    assert hosts(f"n[{ranges}]") == tuple(f"n{at}" for at in sorted(numbers))
    assert indices(ranges) == tuple(sorted(numbers))


@pytest.mark.parametrize("listed", ["gpu[1-", "gpu]1[", "gpu[3-1]", "gpu[a-b]", "gpu[0-99999999]"])
def test_hosts_that_are_none(listed: str) -> None:
    with pytest.raises(NotationError):
        hosts(listed)


@pytest.mark.parametrize(
    ("listed", "expected"),
    [
        ("", ()),
        ("gpu:h100:8", (Gres("gpu", "h100", 8.0),)),
        ("gpu:8(S:0-1)", (Gres("gpu", None, 8.0),)),
        ("gpu:h100:2(IDX:0,3)", (Gres("gpu", "h100", 2.0, (0, 3)),)),
        ("gpu:h100:0(IDX:N/A)", (Gres("gpu", "h100", 0.0),)),
        ("gres:gpu:4", (Gres("gpu", None, 4.0),)),
        ("gres/gpu:h100=4", (Gres("gpu", "h100", 4.0),)),
        ("gres/gpu:h100:4", (Gres("gpu", "h100", 4.0),)),
        ("gres:gpu", (Gres("gpu", None, 1.0),)),
        ("gres:gpu:h100", (Gres("gpu", "h100", 1.0),)),
        ("gpu:a100:2(IDX:0-1),nic:1", (Gres("gpu", "a100", 2.0, (0, 1)), Gres("nic", None, 1.0))),
        (["gpu:1(IDX:0,2)", "nic:1"], (Gres("gpu", None, 1.0, (0, 2)), Gres("nic", None, 1.0))),
        ("bandwidth:lustre:4G", (Gres("bandwidth", "lustre", 4.0 * 1024**3),)),
    ],
)
def test_generic_resources(listed: object, expected: tuple[Gres, ...]) -> None:
    assert gres(listed) == expected


def test_trackable_resources() -> None:
    assert tres("cpu=8,mem=2G,node=2,billing=8,gres/gpu=16") == {"cpu": 8, "mem": 2048, "node": 2, "billing": 8, "gres/gpu": 16}
    assert tres("cpu=x,,mem") == {}
    assert mib("1.5G") == 1536
    assert mib("512") == mib("512M") == 512
    with pytest.raises(NotationError):
        mib("much")


@pytest.mark.parametrize(
    ("constraint", "met"),
    [
        ("h100", True),
        ("a100", False),
        ("h100&r1", True),
        ("h100&r2", False),
        ("a100|h100", True),
        ("h100,r1", True),
        ("h100&(r2|r1)", True),
        ("(a100|b200)&r1", False),
        ("a100|h100&r1", True),
    ],
)
def test_constraints(constraint: str, met: bool) -> None:
    assert satisfies(constraint, {"h100", "r1"}) is met


@given(
    st.recursive(st.sampled_from("abcd"), lambda inner: st.tuples(inner, st.sampled_from("&|"), inner), max_leaves=8),
    st.sets(st.sampled_from("abcd")),
)
def test_constraints_mean_what_python_means(tree: object, features: set[str]) -> None:
    def written(node: Any) -> str:
        return node if isinstance(node, str) else f"({written(node[0])}{node[1]}{written(node[2])})"

    def value(node: Any) -> bool:
        if isinstance(node, str):
            return node in features
        both = value(node[0]), value(node[2])
        return all(both) if node[1] == "&" else any(both)

    assert satisfies(written(tree), features) is value(tree)


@pytest.mark.parametrize("constraint", ["[r1|r2]", "r1*2", "(r1", "r1)", "&r1", "r1&", "r1 r2"])
def test_constraints_that_no_node_can_meet_alone(constraint: str) -> None:
    with pytest.raises(NotationError):
        satisfies(constraint, {"r1"})


def test_tasks_of_arrays() -> None:
    assert task_ids("1-3,7") == ((1, 2, 3, 7), None)
    assert task_ids("0-8:4%2") == ((0, 4, 8), 2)
    assert task_ids("[1-2,...]") == ((1, 2), None)


def test_changes_are_lines_of_scontrol() -> None:
    assert Change("7", pin=("gpu1", "gpu2"), comment="waits").line() == 'update jobid=7 ReqNodeList=gpu1,gpu2 AdminComment="waits"'
    assert Change("7", pin=()).line() == "update jobid=7 ReqNodeList="
    assert Change("7_2", hold=False).line() == "release 7_2"
    assert Change("7", hold=True).line() == "uhold 7"
    assert Change("7", priority=5).line() == "update jobid=7 Priority=5"


@given(st.text(max_size=600))
def test_a_sentence_can_never_end_its_line_or_its_quotes(sentence: str) -> None:
    line = quoted(sentence)
    assert line[0] == line[-1] == '"'
    assert not set('"\\\n\r') & set(line[1:-1])
    assert plain(sentence) == line[1:-1]
    assert len(line) <= 402
