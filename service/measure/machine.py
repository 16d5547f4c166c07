"""What one must know of a machine to read its rows: hardware and versions, no host names and no paths."""

from __future__ import annotations

import os
import platform
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from models.runtime.records import Machine
from service.measure.process import GIB

LIBRARIES = ("torch", "numpy")


def machine(device: str) -> Machine:
    """This machine. On ``cuda`` torch is imported to ask for the GPU."""
    fields = _processor()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    versions = {"python": platform.python_version(), **{library: _version(library) for library in LIBRARIES}}
    title = fields.get("model name", platform.machine())
    name = _slug(f"{title} family {fields['cpu family']} model {fields['model']}" if "cpu family" in fields else title)
    made = Machine(
        name=name,
        processor=title,
        cores=cores,
        memory_gib=round(psutil.virtual_memory().total / GIB, 1),
        caches_kib=caches_kib(),
        system=platform.system(),
        versions=versions,
    )
    return _with_gpu(made) if device == "cuda" else made


def _with_gpu(made: Machine) -> Machine:
    import torch

    properties = torch.cuda.get_device_properties(0)
    more = {"cuda": str(torch.version.cuda), "cudnn": str(torch.backends.cudnn.version())}
    return made.model_copy(
        update={
            "name": _slug(properties.name),
            "gpu": properties.name,
            "gpu_memory_gib": round(properties.total_memory / GIB, 1),
            "versions": {**made.versions, **more},
        }
    )


def cuda_is_there() -> bool:
    """Whether torch sees a CUDA GPU."""
    import torch

    return bool(torch.cuda.is_available())


def caches_kib() -> dict[str, float]:
    """Sizes of the data caches that the first core sees, by level; empty where the system does not tell."""
    found: dict[str, float] = {}
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        kind, level, size = ((index / name).read_text(encoding="ascii").strip() for name in ("type", "level", "size"))
        if kind != "Instruction" and (number := re.fullmatch(r"(\d+)K", size)):
            found[f"l{level}d" if kind == "Data" else f"l{level}"] = float(number.group(1))
    return found


def _processor() -> dict[str, str]:
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return {}
    first = path.read_text(encoding="utf-8", errors="replace").split("\n\n")[0]
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in first.splitlines())}


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return "absent"
