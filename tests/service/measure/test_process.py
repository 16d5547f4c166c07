"""The environment of a measuring process does what the decision says."""

import subprocess
import sys

import pytest

from service.measure.process import KEEP_MEMORY, environment, failure

FAULTS = """
import resource
def use():
    made = b"x" * 2**26
use()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    use()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(env: dict[str, str]) -> int:
    return int(subprocess.run([sys.executable, "-c", FAULTS], env=env, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="the settings are glibc's")
def test_memory_is_kept() -> None:
    kept = environment(1, "cpu")
    plain = {name: value for name, value in kept.items() if name not in KEEP_MEMORY}
    assert faults(kept) < 200
    assert faults(plain) > 1000


def test_libraries_get_one_thread_and_do_not_talk() -> None:
    made = environment(1, "cpu")
    assert made["OMP_NUM_THREADS"] == made["MKL_NUM_THREADS"] == "1"
    assert made["ONEDNN_VERBOSE"] == made["MKL_VERBOSE"] == "0"
    assert made["CUDA_VISIBLE_DEVICES"] == ""


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (MemoryError(), "does_not_fit"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "does_not_fit"),
        (RuntimeError("shapes cannot be multiplied"), "crashed"),
    ],
)
def test_why_a_job_failed(error: Exception, reason: str) -> None:
    assert failure(error)["reason"] == reason
