"""What a child may know of its parent, and what a plain child may send: nothing of the settings, and builtin values alone."""

from __future__ import annotations

import os
import pickle
import struct
import threading
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from optimizer.child import Child

HERE = "tests.optimizer.test_child_plain"
PATIENCE_S = 60.0


class Colour(StrEnum):
    red = "red"


class Trap:
    """Makes a folder where it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.path,)


def environment(*_: object) -> dict[str, str]:
    return dict(os.environ)


def echo(payload: object, send: Callable[[object], None], _: threading.Event) -> object:
    send(payload)
    return payload


def as_large_buffers(payload: int, *_: object) -> list[pickle.PickleBuffer]:
    return [pickle.PickleBuffer(b"x" * payload), pickle.PickleBuffer(bytearray(b"y" * payload))]


def send_then(payload: str, send: Any, _: threading.Event) -> object:
    """Send something plain, and then what the payload names."""
    send("before")
    made: dict[str, Callable[[], object]] = {
        "numpy number": lambda: np.float64(1.0),
        "array": lambda: np.ones(100_000),
        "enumeration": lambda: {"colour": Colour.red},
        "path": lambda: [Path("folder")],
        "trap": lambda: Trap("trap"),
    }
    if payload in made:
        send(made[payload]())
    else:
        frames: dict[str, tuple[int, list[int], bytes]]
        frames = {"no pickle": (1, [3], b"abc"), "too many parts": (1 << 40, [], b""), "too many bytes": (1, [1 << 50], b"")}
        count, sizes, body = frames[payload]
        pipe = vars(send.__self__)["_descriptor"]  # written to by hand
        os.write(pipe, struct.pack("!cQ", b"M", count) + struct.pack(f"!{len(sizes)}Q", *sizes) + body)
    send("after")
    return "done"


@pytest.fixture(scope="module")
def plain() -> Iterator[Child]:
    with Child.start(imports=(HERE,), plain=True) as child:
        yield child


@pytest.mark.parametrize("is_plain", [True, False])
def test_a_child_has_the_environment_without_the_products_settings(monkeypatch: pytest.MonkeyPatch, is_plain: bool) -> None:
    monkeypatch.setenv("QUARTERMASTER_DATABASE_URL", "postgresql://user:password@database/runs")
    monkeypatch.setenv("QUARTERMASTER_ANYTHING_NEW", "secret")
    monkeypatch.setenv("LANGUAGE_OF_THE_USER", "kept")
    with Child.start(plain=is_plain, variables={"TMPDIR": "somewhere"}) as child:
        found = child.run(f"{HERE}:environment", None, deadline_s=PATIENCE_S).value
    assert [name for name in found if name.startswith("QUARTERMASTER_")] == []
    assert (found["LANGUAGE_OF_THE_USER"], found["TMPDIR"], found["PATH"]) == ("kept", "somewhere", os.environ["PATH"])


def test_plain_values_travel(plain: Child) -> None:
    value = {
        "text": "ü",
        "numbers": [1, -(2**80), 0.5, float("inf")],
        "nothing": (None, True),
        "set": {1},
        "bytes": b"b" * 200_000,
        "a": {},
    }
    heard: list[Any] = []
    end = plain.run(f"{HERE}:echo", value, deadline_s=PATIENCE_S, on_message=heard.append)
    assert (end.reason, end.value, heard) == ("finished", value, [value])


@pytest.mark.parametrize("size", [10, 1 << 20])
def test_buffers_of_any_size_travel_as_bytes(plain: Child, size: int) -> None:
    one, other = plain.run(f"{HERE}:as_large_buffers", size, deadline_s=PATIENCE_S).value
    assert (bytes(one), bytes(other)) == (b"x" * size, b"y" * size)


def test_an_exception_of_a_plain_child_is_told_and_costs_no_child(plain: Child) -> None:
    end = plain.run(f"{HERE}:missing", None, deadline_s=PATIENCE_S)
    assert (end.reason, "missing" in end.message, plain.alive) == ("error", True, True)


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("numpy number", "names numpy"),
        ("array", "names numpy"),
        ("enumeration", "names tests.optimizer.test_child_plain.Colour"),
        ("path", "names pathlib"),
        ("trap", "names posix.mkdir"),
        ("no pickle", "cannot be read"),
        ("too many parts", "parts"),
        ("too many bytes", "bytes"),
    ],
)
def test_a_child_that_sends_what_is_not_plain_is_ended(what: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    heard: list[Any] = []
    with Child.start(imports=(HERE,), plain=True) as child:
        end = child.run(f"{HERE}:send_then", what, deadline_s=PATIENCE_S, on_message=heard.append)
        assert (end.reason, end.value, heard, child.alive) == ("crash", None, ["before"], False)
    assert "not plain" in end.message
    assert told in end.message
    assert list(tmp_path.iterdir()) == []


def test_a_child_that_is_not_plain_sends_what_it_likes() -> None:
    with Child.start(imports=(HERE,)) as child:
        assert child.run(f"{HERE}:echo", Colour.red, deadline_s=PATIENCE_S).value is Colour.red
