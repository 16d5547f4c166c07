"""What a measuring process does before it imports torch, and what it tells of itself: core, memory limit, device clock, peak memory."""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from service.measure.timing import DeviceClock, HostOnly

if TYPE_CHECKING:
    from collections.abc import Callable

GIB = 2.0**30
NO_MEMORY = ("can't allocate memory", "cannot allocate memory", "out of memory", "std::bad_alloc", "could not create a primitive")

# glibc gives large arrays back to the kernel at every free and takes them anew: thousands of page faults a step, a quarter of a
# small step's time and most of its noise. Measured jobs keep what they were given, as torch's allocator on a GPU does and as jemalloc does.
KEEP_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**40), "MALLOC_TOP_PAD_": str(2**26)}


def environment(threads: int, device: str) -> dict[str, str]:
    """The environment of a measuring process: as many threads as asked for, libraries that do not talk, memory that is kept."""
    made = dict(os.environ)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        made[name] = str(threads)
    for name in ("MKL_VERBOSE", "ONEDNN_VERBOSE", "DNNL_VERBOSE"):
        made[name] = "0"
    made["PYTHONHASHSEED"] = "0"
    made.update(KEEP_MEMORY)
    if device == "cpu":
        made["CUDA_VISIBLE_DEVICES"] = ""
    return made


def settle(core: int | None, memory_gib: float | None) -> None:
    """Pins this process to ``core`` and limits the memory it may take for data."""
    if core is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})
    if memory_gib is not None:
        resource.setrlimit(resource.RLIMIT_DATA, (int(memory_gib * GIB), resource.RLIM_INFINITY))


def since_start() -> tuple[float, float]:
    """CPU-seconds and wall seconds since this process was started."""
    return time.process_time(), max(0.0, time.time() - psutil.Process().create_time())


def resident_gib() -> float:
    """Memory this process holds now."""
    return float(psutil.Process().memory_info().rss) / GIB


def available_gib() -> float:
    """Memory the machine has left."""
    return float(psutil.virtual_memory().available) / GIB


def peak_gib() -> float:
    """The most memory this process has held: of its own image, not of the parent it was forked from."""
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return float(line.split()[1]) * 1024 / GIB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GIB


class CudaClock:
    """CUDA events on the current stream."""

    def __init__(self) -> None:
        import torch

        self._cuda: Any = torch.cuda
        self._begin, self._end = (torch.cuda.Event(enable_timing=True) for _ in range(2))

    def synchronise(self) -> None:
        """Waits for the device."""
        self._cuda.synchronize()

    def begin(self) -> None:
        """Records the first event."""
        self._begin.record()

    def end_s(self) -> float | None:
        """Records the second event, waits for it, and returns the seconds between both."""
        self._end.record()
        self._end.synchronize()
        return float(self._begin.elapsed_time(self._end)) / 1e3


def clock_of(device: str) -> DeviceClock:
    """The clock of ``cpu`` or ``cuda``."""
    return CudaClock() if device == "cuda" else HostOnly()


def device_memory(device: str) -> dict[str, float | None]:
    """On CUDA the peak that torch allocated and what others hold (with this process's own context), in GiB."""
    if device != "cuda":
        return {"device_peak_gib": None, "on_device_gib": None}
    import torch

    free, total = torch.cuda.mem_get_info()
    others = max(0.0, float(total - free - torch.cuda.memory_reserved()))
    return {"device_peak_gib": float(torch.cuda.max_memory_allocated()) / GIB, "on_device_gib": others / GIB}


def failure(error: BaseException) -> dict[str, str]:
    """Why a job did not run, for its row: ``does_not_fit``, ``unmeasurable`` or ``crashed``, and the message."""
    text = f"{type(error).__name__}: {error}".splitlines()[0][:300]
    reason = "crashed"
    if isinstance(error, MemoryError) or any(sign in str(error).lower() for sign in NO_MEMORY):
        reason = "does_not_fit"
    elif type(error).__name__ == "UnmeasurableError":
        reason = "unmeasurable"
    return {"reason": reason, "message": text}


def answer_order(prepare: Callable[[dict[str, Any]], None], work: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Reads the order from standard input, prepares the process, works, and answers in one line; work that fails is an answer too."""
    order = json.load(sys.stdin)
    prepare(order)
    try:
        answer = work(order)
    except Exception as error:  # noqa: BLE001  (whatever goes wrong in a job is a row with its reason)
        answer = failure(error)
    sys.stdout.write("\n" + json.dumps(answer) + "\n")
    sys.stdout.flush()


def settle_order(order: dict[str, Any]) -> None:
    """Settles the process on the order's ``core`` with its ``memory_gib``."""
    settle(order["core"], order["memory_gib"])
