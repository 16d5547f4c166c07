"""Where the nodes of a Slurm cluster stand, out of ``scontrol show topology``.

Of a tree the switches that connect nodes are racks, those above them rows, those above these sites; higher ones are not
told apart. Blocks (from 23.11 on) are NVLink domains. Names are whole paths, so that a switch name need not be unique.
"""

from __future__ import annotations

from collections import defaultdict

from models.vocabulary import Topology
from service.plugins.slurm.notation import NotationError, hosts

LEVELS = ("rack", "row", "site")


def topologies(shown: str) -> tuple[dict[str, Topology], list[str]]:
    """The place of each node by its name, and a sentence for each line that could not be read."""
    places: dict[str, dict[str, str]] = defaultdict(dict)
    warnings = []
    for line in shown.splitlines():
        fields = dict(part.partition("=")[::2] for part in line.split())
        try:
            _add(places, fields)
        except (NotationError, ValueError):
            warnings.append(f"a line of the topology could not be read and is left out: '{line.strip()[:120]}'")
    return {node: Topology(**path) for node, path in places.items()}, warnings


def _add(places: dict[str, dict[str, str]], fields: dict[str, str]) -> None:
    if "BlockName" in fields and "AggregatedBlock" not in fields:
        level, name = "nvlink_domain", fields["BlockName"]
    elif "SwitchName" in fields and int(fields.get("Level", 0)) < len(LEVELS):
        level, name = LEVELS[int(fields.get("Level", 0))], fields["SwitchName"]
    else:
        return
    for node in hosts(fields.get("Nodes", "")):
        places[node].setdefault(level, name)
