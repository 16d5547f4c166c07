"""What Slurm's commands print, as one value: read from the commands themselves, or from a folder they were saved to."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

JOBS = "squeue.json"  # squeue --json
NODES = "sinfo.json"  # sinfo --json, from 23.02 on: scontrol show nodes --json
TOPOLOGY = "topology.txt"  # scontrol show topology
TAKEN = "snapshot.json"  # when it was taken, and by which version
MOST_BYTES = 512 * 2**20


class SlurmFilesError(ValueError):
    """A folder or an output that is no snapshot of Slurm; the message names the file and the cure."""


@dataclass(frozen=True, slots=True)
class SlurmFiles:
    """Outputs of one moment. ``taken_at`` is in seconds since the epoch."""

    jobs: Mapping[str, Any]  # of squeue --json
    nodes: Mapping[str, Any]  # of sinfo --json (22.05), of scontrol show nodes --json (23.02 and later)
    topology: str = ""  # of scontrol show topology; empty: none is configured
    taken_at: float = 0.0
    about: Mapping[str, Any] = field(default_factory=dict)


def load(folder: Path) -> SlurmFiles:
    """The files of ``quartermaster slurm snapshot --out``, or the same outputs saved by hand. Raises SlurmFilesError."""
    if not folder.is_dir():
        raise SlurmFilesError(f"{folder}: there is no such folder; give one that `quartermaster slurm snapshot --out` wrote")
    jobs, nodes = _json(folder / JOBS), _json(folder / NODES)
    about = _json(folder / TAKEN) if (folder / TAKEN).exists() else {}
    taken = about.get("taken_at")
    topology = _text(folder / TOPOLOGY) if (folder / TOPOLOGY).exists() else ""
    taken_at = float(taken) if isinstance(taken, int | float) else (folder / JOBS).stat().st_mtime
    return SlurmFiles(jobs, nodes, topology, taken_at, about)


def save(files: SlurmFiles, folder: Path) -> None:
    """Write what ``load`` reads; the folder is made where it is missing. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    contents = {
        JOBS: json.dumps(files.jobs),
        NODES: json.dumps(files.nodes),
        TOPOLOGY: files.topology,
        TAKEN: json.dumps({**files.about, "taken_at": files.taken_at}),
    }
    for name, content in contents.items():
        (folder / name).write_text(content, encoding="utf-8")


def parsed(output: str | bytes, what: str) -> Mapping[str, Any]:
    """The JSON object that a command printed. Raises SlurmFilesError."""
    try:
        found = json.loads(output)
    except ValueError as error:
        raise SlurmFilesError(f"{what}: is no JSON ({error}); Slurm 22.05 or later prints it with --json") from None
    if not isinstance(found, dict):
        raise SlurmFilesError(f"{what}: is JSON but no object; give the output of the command with --json")
    return found


def _json(path: Path) -> Mapping[str, Any]:
    return parsed(_text(path), str(path))


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise SlurmFilesError(f"{path}: is larger than {MOST_BYTES // 2**20} MiB, the most that is read")
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SlurmFilesError(f"{path}: there is no such file; `quartermaster slurm snapshot --out` writes {JOBS}, {NODES}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SlurmFilesError(f"{path}: cannot be read ({error}); check the file") from None
