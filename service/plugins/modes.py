"""How far the plugin goes."""

from __future__ import annotations

from enum import StrEnum


class Mode(StrEnum):
    """What is done with a plan."""

    shadow = "shadow"  # nothing is touched: only what would be gained is reported
    advise = "advise"  # the scheduler is told which nodes are best, and decides
    enforce = "enforce"  # jobs that opted in are held until the plan says where they run
