"""The toy kind in the catalogue, and searches that misbehave in the place of the real one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from models import catalogue
from optimizer import strategy
from optimizer.child import Child, ChildEnd
from tests.optimizer import rogues
from tests.optimizer.toy_kind import KIND


@pytest.fixture
def toy_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    """The toy kind is a kind in this process; the child learns of it from the problem (``Problem.arrive``)."""
    known = {**catalogue.kinds(), KIND.name: KIND}
    monkeypatch.setattr(catalogue, "kinds", lambda: known)


Rogue = Callable[[Callable[..., None]], None]


@pytest.fixture
def rogue(monkeypatch: pytest.MonkeyPatch) -> Rogue:
    """Puts a search of ``rogues`` in the place of the real one, in the child and here."""

    def put(search: Callable[..., None]) -> None:
        run = Child.run

        def run_other(self: Child, target: str, *arguments: Any, **named: Any) -> ChildEnd:
            assert target == "optimizer.strategy:search"
            return run(self, f"{rogues.__name__}:{search.__name__}", *arguments, **named)

        monkeypatch.setattr(Child, "run", run_other)
        monkeypatch.setattr(strategy, "search", search)

    return put
