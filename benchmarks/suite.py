"""What a kind's benchmark is: instances with targets, baselines, and the module that holds them, found by the kind's name.

A new kind adds one file, ``benchmarks/<kind>.py``, with ``SUITE = Suite(...)``; nothing else lists it.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from models import catalogue

# Data whose licence does not allow that it is committed: beside this repository, or where the variable says.
SHARED = Path(os.environ.get("QUARTERMASTER_SHARED_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
KNOWN = Path(__file__).resolve().parent / "known.json"


class UnknownNameError(KeyError):
    """No benchmark, instance or baseline has that name; the message lists those there are."""

    def __str__(self) -> str:
        """The message without the quotes that KeyError adds."""
        return str(self.args[0])


@dataclass(frozen=True, slots=True)
class Target:
    """One promise about a measured row: ``name`` is a number of the row, to be at least or at most ``value``."""

    name: str
    side: Literal["at least", "at most"]
    value: float

    def met(self, row: dict[str, Any]) -> bool | None:
        """Whether the row keeps it; None when the row has no such number."""
        number = row.get(self.name)
        if not isinstance(number, int | float):
            return None
        return number >= self.value - 1e-9 if self.side == "at least" else number <= self.value + 1e-9

    def __str__(self) -> str:
        return f"{self.name} {self.side} {self.value:g}"


@dataclass(frozen=True, slots=True)
class Instance:
    """One benchmark problem: how to read or make it, how long it may take, what must hold, and the rules to beat.

    ``needs`` is a folder of data that cannot be committed; where it is absent the instance is left out. ``then`` measures something
    more, given the problem and our result, and gives further numbers of the row.
    """

    name: str
    summary: str
    read: Callable[[], Any]
    time_limit_s: float
    targets: tuple[Target, ...] = ()
    baselines: tuple[str, ...] = ()
    needs: Path | None = None
    gap: float = 1e-4
    then: Callable[[Any, Any], dict[str, Any]] | None = None

    @property
    def at_hand(self) -> bool:
        """Whether its data is on this machine."""
        return self.needs is None or self.needs.is_dir()


@dataclass(frozen=True, slots=True)
class Suite:
    """All instances and baselines of one kind. A baseline takes (problem, seconds) and returns a plan or None."""

    kind: str
    instances: tuple[Instance, ...]
    baselines: dict[str, Callable[[Any, float], Any]] = field(default_factory=dict)

    def instance(self, name: str) -> Instance:
        """The instance called ``name``; raises UnknownNameError."""
        found = {instance.name: instance for instance in self.instances}
        if name not in found:
            raise UnknownNameError(f"{self.kind} has no instance '{name}'; it has {', '.join(found)}")
        return found[name]

    def baseline(self, name: str) -> Callable[[Any, float], Any]:
        """The baseline called ``name``; raises UnknownNameError."""
        if name not in self.baselines:
            raise UnknownNameError(f"{self.kind} has no baseline '{name}'; it has {', '.join(self.baselines)}")
        return self.baselines[name]


def kinds() -> tuple[str, ...]:
    """The kinds that have a benchmark."""
    return tuple(name for name in sorted(catalogue.kinds()) if importlib.util.find_spec(f"benchmarks.{name}") is not None)


def suite(kind: str) -> Suite:
    """The benchmark of a kind; raises UnknownNameError."""
    if kind not in kinds():
        raise UnknownNameError(f"there is no benchmark of '{kind}'; there is one of {', '.join(kinds())}")
    found = importlib.import_module(f"benchmarks.{kind}").SUITE
    if not isinstance(found, Suite):
        raise TypeError(f"benchmarks.{kind}.SUITE is no Suite")
    return found


def known(kind: str, instance: str) -> dict[str, Any] | None:
    """What ``known.json`` says of the instance: published and measured values, both bounds, their sources; None when nothing."""
    entries = json.loads(KNOWN.read_text(encoding="utf-8"))["instances"]
    return next((entry for entry in entries if (entry["kind"], entry["instance"]) == (kind, instance)), None)
