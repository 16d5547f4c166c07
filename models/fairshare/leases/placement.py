"""A slot's leases as a problem of the kind ``placement``: the same jobs on nodes, which another scheduler or solver may place anew.

Kinds do not import each other, so this is a plain document; it validates as ``models.placement.schema.Problem``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from models.fairshare.leases.book import Lease, Slot
    from models.fairshare.schema import Accelerator, Problem


def placement_document(problem: Problem, slot: Slot) -> dict[str, Any]:
    """A repack of the slot's jobs with few moves: nodes ``<accelerator>-<number>`` whose GPU model is the accelerator.

    Two jobs on the same GPUs are one job ``first+second``. A gang that fits a node is one worker; a larger one has a worker on each whole
    node, and a gang that is spread has one for each GPU. Where a unit ran in the slot before, its job says so.
    """
    accelerators = {one.id: one for one in problem.accelerators}
    return {
        "schema_version": 1,
        "use": "repack",
        "nodes": [node for one in problem.accelerators for node in _nodes(one)],
        "jobs": [_job(lease, accelerators[lease.accelerator]) for lease in slot.leases],
    }


def _nodes(accelerator: Accelerator) -> Iterator[dict[str, Any]]:
    for number, begin in enumerate(range(0, accelerator.count, accelerator.gpus_per_node)):
        gpus = min(accelerator.gpus_per_node, accelerator.count - begin)
        yield {"id": f"{accelerator.id}-{number}", "gpu_model": accelerator.id, "gpus": gpus, "cpu_cores": 0.0, "memory_gib": 0.0}


def _job(lease: Lease, accelerator: Accelerator) -> dict[str, Any]:
    each = _worker_gpus(lease, accelerator)
    job: dict[str, Any] = {
        "id": "+".join(lease.jobs),
        "workers": len(lease.gpus) // each,
        "gpus_per_worker": float(each),
        "model_speeds": {lease.accelerator: 1.0},
    }
    places = _places(lease.had, each, accelerator)
    return job | ({"running": {"workers": places}} if places else {})


def _worker_gpus(lease: Lease, accelerator: Accelerator) -> int:
    """GPUs of each worker: as many as every one of them finds on one node."""
    gpus, per_node = len(lease.gpus), accelerator.gpus_per_node
    if lease.spread or len(_by_node(lease.gpus, per_node)) > -(-gpus // per_node):
        return 1
    if gpus <= per_node:
        return gpus
    return per_node if gpus % per_node == 0 else 1


def _places(gpus: tuple[int, ...], each: int, accelerator: Accelerator) -> list[dict[str, Any]]:
    """Workers on the GPUs they had; none where those do not divide into workers any more."""
    found = []
    for node, indices in _by_node(gpus, accelerator.gpus_per_node).items():
        if len(indices) % each:
            return []
        found += [{"node": f"{accelerator.id}-{node}", "gpus": indices[k : k + each]} for k in range(0, len(indices), each)]
    return found


def _by_node(gpus: tuple[int, ...], per_node: int) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for gpu in gpus:
        found.setdefault(gpu // per_node, []).append(gpu % per_node)
    return found
