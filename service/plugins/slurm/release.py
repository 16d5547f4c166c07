"""Lets everything go: what the watchdog calls when there is no plan to wait for. Knows no plan and no optimiser."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from service.plugins.slurm.adapter import SlurmScheduler, Ways
from service.plugins.slurm.commands import Commands
from service.plugins.slurm.reading import MARK, OptIn
from service.plugins.slurm.rest import Rest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from service.plugins.slurm.adapter import Slurm


def freer(config: Mapping[str, Any]) -> Callable[[], Sequence[str]]:
    """A function that releases every held job that opted in and takes back every pin; it gives the ids it let go of.

    ``config``: ``partitions``, ``comment`` (of OptIn), ``environment`` (for Slurm's commands), ``timeout_s``, ``url`` (of a
    slurmrestd, whose token is in SLURM_JWT); all may be left out.
    """
    opt_in = OptIn(frozenset(config.get("partitions", ())), str(config.get("comment", MARK)))
    timeout_s, url = float(config.get("timeout_s", 10.0)), config.get("url")
    slurm: Slurm
    if url is None:
        slurm = Commands(config.get("environment"), timeout_s)
    else:
        slurm = Rest(str(url), os.environ.get("SLURM_JWT", ""), timeout_s=timeout_s)
    scheduler = SlurmScheduler(slurm, Ways(opt_in, enforce=True))

    def let_go() -> Sequence[str]:
        try:
            return scheduler.free_all()
        finally:
            scheduler.close()  # it may be hours before it is needed again

    return let_go
