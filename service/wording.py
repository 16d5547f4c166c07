"""What the command line and the report say in the same words."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from optimizer.result import Certificate

_AS_WRITTEN = {"gpu": "GPU", "gpus": "GPUs", "cpu": "CPU", "kw": "kW", "gib": "GiB"}
FEW = 12  # names in one line; of more only the first are told


def words(name: str) -> str:
    """A name in code as a reader says it: ``allocated GPUs`` for ``allocated_gpus``."""
    return re.sub(r"[a-z]+", lambda found: _AS_WRITTEN.get(found[0], found[0]), name.replace("_", " "))


def found_by(certificate: Certificate) -> str:
    """What found the plan; a search that is named after a goal is the exact program's."""
    named = certificate.strategy in {goal.name for goal in certificate.goals}
    return "the exact program" if named else words(certificate.strategy)


def by_rule(members: Iterable[tuple[str, tuple[str, ...]]]) -> list[tuple[str, list[str]]]:
    """A conflict's members as one entry for each rule: its name and whom it concerns, ``a, b`` for a rule about two."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for rule, ids in members:
        found[rule].extend([", ".join(ids)] if ids else [])
    return list(found.items())


def few(names: Sequence[str], most: int = FEW) -> str:
    """Names in one line: all of a few, of many the first and how many more."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
