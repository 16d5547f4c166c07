"""Followers of a pretended scheduler, in its time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from service.plugins.follower import Follower
from service.plugins.modes import Mode
from service.plugins.planner import Optimiser
from service.plugins.settings import PluginSettings
from tests.plugins.optimisers import Greedy
from tests.plugins.pretend import Machine, Pretend


def following(pretend: Pretend, optimiser: Optimiser | None = None, mode: Mode = Mode.enforce, **parts: Any) -> Follower:
    facts = {name: parts.pop(name) for name in list(parts) if name in PluginSettings.model_fields}
    now: Callable[[], float] = lambda: pretend.now  # noqa: E731
    return Follower(pretend, optimiser or Greedy(), PluginSettings(mode=mode, **facts), clock=now, monotonic=now, **parts)


def cluster(machines: int = 4, **facts: Any) -> Pretend:
    return Pretend([Machine(f"n{place}", rack=f"r{place // 2}") for place in range(machines)], **facts)


def metric(follower: Follower, name: str, **labels: str) -> float:
    return follower.telemetry.registry.get_sample_value(f"quartermaster_plugin_{name}", labels) or 0.0
