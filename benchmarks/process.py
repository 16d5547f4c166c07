"""Runs one measurement in a fresh process, samples the memory of its whole tree, and ends it when it hangs."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from benchmarks.measure import OURS

SAMPLE_S = 0.05
# Reading, building and a solver that overruns in presolve; beyond that the measurement is ended and says so.
GRACE_S = 120.0


def measured(kind: str, instance: str, rule: str, seconds: float, seed: int, threads: int) -> dict[str, Any]:
    """The row that ``benchmarks.measure`` writes, with the peak memory of its process tree in GB.

    A process that fails or hangs gives a row with ``verified`` False and a ``message``.
    """
    arguments = (kind, instance, rule, str(seconds), str(seed), str(threads))
    root = Path(__file__).resolve().parent.parent
    begun = time.monotonic()
    with tempfile.TemporaryFile("w+", encoding="utf-8") as output, tempfile.TemporaryFile("w+", encoding="utf-8") as errors:
        command = [sys.executable, "-m", "benchmarks.measure", *arguments]
        with subprocess.Popen(command, cwd=root, stdout=output, stderr=errors) as process:
            peak, ended = _watched(process, begun + seconds + GRACE_S)
        output.seek(0)
        errors.seek(0)
        lines, last_words = output.read().splitlines(), errors.read().splitlines()
    row: dict[str, Any] = {} if rule == OURS else {"baseline": rule, "seconds": round(time.monotonic() - begun, 3)}
    if process.returncode == 0 and lines:
        row |= json.loads(lines[-1])
    else:
        why = f"ended after {seconds + GRACE_S:g} s" if ended else (last_words[-1] if last_words else f"exit code {process.returncode}")
        row |= {"verified": False, "message": why}
    row["peak_memory_gb"] = round(max(peak / 1e9, row.get("peak_memory_gb", 0.0)), 3)
    return row


def _watched(process: subprocess.Popen[bytes], deadline: float) -> tuple[int, bool]:
    """The most bytes the process and its descendants held together, and whether they had to be ended."""
    top = psutil.Process(process.pid)
    peak = 0
    while process.poll() is None:
        tree = _tree(top)
        held = 0
        for one in tree:
            with contextlib.suppress(psutil.Error):
                held += one.memory_info().rss
        peak = max(peak, held)
        if time.monotonic() > deadline:
            for one in tree:
                with contextlib.suppress(psutil.Error):
                    one.kill()
            process.wait()
            return peak, True
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(SAMPLE_S)
    return peak, False


def _tree(top: psutil.Process) -> list[psutil.Process]:
    try:
        return [top, *top.children(recursive=True)]
    except psutil.Error:
        return []
