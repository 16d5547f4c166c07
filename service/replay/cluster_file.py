"""The nodes of a replay: from openb's node list (CSV), from a placement problem (JSON), or in words such as ``36xV100:4,9xP100:2``."""

from __future__ import annotations

import math
import re
from pathlib import Path

from pydantic import ValidationError

from models.placement.online.state import MILLI, Cluster, NodeSpec
from models.placement.schema import MOST_GPUS, Node, Problem
from service.importers.failures import ImportFileError, text_of
from service.replay.jobs import ReplayError
from service.replay.trace_openb import read_openb_nodes

MIB_PER_GIB = 1024
AMPLE = 10**12  # of CPU and memory, where words say nothing of them
MOST_NODES = 100_000
_WORDS = re.compile(r"(\d+)x([^:,\s]+):(\d+)")


def read_cluster(source: str) -> Cluster:
    """The empty cluster. Nodes of a problem that are not ready are left out, and what runs there is not replayed.

    Raises ReplayError.
    """
    path = Path(source)
    try:
        if path.suffix.lower() == ".csv":
            nodes = read_openb_nodes(path)
        elif path.suffix.lower() == ".json" or path.is_file():
            nodes = [_spec(node) for node in _of_problem(path)]
        else:
            nodes = _of_words(source)
    except ImportFileError as error:
        raise ReplayError(str(error)) from None
    if not any(node.gpus for node in nodes):
        raise ReplayError(f"{source}: there is no node with GPUs that is ready; give a cluster with at least one")
    return Cluster(nodes)


def _of_problem(path: Path) -> list[Node]:
    try:
        problem = Problem.model_validate_json(text_of(path))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = "/".join(str(part) for part in first["loc"])
        raise ReplayError(
            f"{path}: is no placement problem: /{where}: {first['msg']}; `quartermaster validate placement` tells more"
        ) from None
    return [node for node in problem.nodes if node.state == "ready"]


def _spec(node: Node) -> NodeSpec:
    """Amounts rounded down to whole thousandths of a core and MiB."""
    cpu, memory = math.floor(node.cpu_cores * MILLI + 1e-6), math.floor(node.memory_gib * MIB_PER_GIB + 1e-6)
    return NodeSpec(node.id, node.gpus, node.gpu_model, cpu, memory)


def _of_words(source: str) -> list[NodeSpec]:
    found: list[NodeSpec] = []
    for part in source.split(","):
        match = _WORDS.fullmatch(part.strip())
        if match is None:
            raise ReplayError(
                f"--nodes {source}: there is no such file, and '{part.strip()[:60]}' is not NODESxMODEL:GPUS; "
                "give a node list (.csv), a placement problem (.json), or words such as 36xV100:4,9xP100:2"
            )
        count, model, gpus = int(match[1]), match[2], int(match[3])
        if not (1 <= gpus <= MOST_GPUS and 1 <= count <= MOST_NODES - len(found)):
            raise ReplayError(
                f"--nodes {source}: '{part.strip()}': a node has 1 to {MOST_GPUS} GPUs, and there are 1 to {MOST_NODES:,} nodes"
            )
        first = len(found)
        found += [NodeSpec(f"{model}-{first + number}", gpus, model, AMPLE, AMPLE) for number in range(count)]
    return found
