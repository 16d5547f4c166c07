"""Measured rows: one finished job, one operator run on its own, or two jobs that shared a core or a device.

Rows are what ``quartermaster runtime measure`` writes (JSON lines) and what calibration reads. A row that does not count is kept
and says why: calibration takes ``accepted`` rows only. Seconds are per step; a median over the repeats, with the interquartile
range over the median as ``spread``. On CPUs the CPU-seconds are the metric, on a GPU the device seconds (CUDA events);
wall time stands beside.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import Field

from models.runtime.device import DeviceKind
from models.runtime.job import JobSpec
from models.runtime.operators import Operator, Work
from models.vocabulary import Count, Document, Id, Quantity

Share = Quantity


class Machine(Document):
    """Hardware and versions a row was measured with; the same for all rows of one run."""

    name: Id = Field(description="A short name of the hardware, such as 'amd-epyc-family-25-model-17'; rows of one name may be pooled.")
    processor: str = ""
    cores: Count = 0
    memory_gib: Quantity = 0.0
    caches_kib: dict[str, float] = Field(
        default_factory=dict, description="Size of each cache level seen by one core, by 'l1d', 'l2', 'l3'."
    )
    gpu: str | None = None
    gpu_memory_gib: Quantity | None = None
    driver: str | None = None
    system: str = ""
    versions: dict[str, str] = Field(default_factory=dict, description="Python, torch, CUDA, cuDNN, oneDNN, MKL.")


class Timing(Document):
    """What the repeats of a step took."""

    repeats: Count
    steps: Count = Field(description="Timed steps, all repeats together.")
    cpu_s: Quantity = Field(description="CPU-seconds of the whole process per step, the median of the repeats.")
    cpu_spread: Share = Field(description="Interquartile range of the CPU-seconds over their median.")
    wall_s: Quantity
    wall_spread: Share
    device_s: Quantity | None = Field(default=None, description="Seconds between CUDA events per step; None on a CPU.")
    device_spread: Share | None = None

    @property
    def seconds(self) -> float:
        """The metric: device seconds where there are any, CPU-seconds otherwise."""
        return self.cpu_s if self.device_s is None else self.device_s

    @property
    def spread(self) -> float:
        """Spread of the metric."""
        return self.cpu_spread if self.device_spread is None else self.device_spread


class StartUpSeconds(Document):
    """Seconds before the second step: loading the libraries, building the network, the first step (which also allocates)."""

    import_cpu_s: Quantity
    import_wall_s: Quantity
    build_cpu_s: Quantity
    build_wall_s: Quantity
    first_step_cpu_s: Quantity
    first_step_wall_s: Quantity

    @property
    def cpu_s(self) -> float:
        """CPU-seconds of the whole start-up."""
        return self.import_cpu_s + self.build_cpu_s + self.first_step_cpu_s

    @property
    def wall_s(self) -> float:
        """Wall seconds of the whole start-up."""
        return self.import_wall_s + self.build_wall_s + self.first_step_wall_s


class ForeignLoad(Document):
    """What others did meanwhile, as shares of the time there was."""

    on_core: Share = 0.0
    elsewhere: Share = 0.0
    steal: Share = 0.0
    on_device_gib: Quantity | None = Field(default=None, description="Memory of the GPU that others held.")


class Memory(Document):
    """Peak memory in GiB: of the process above what the imported libraries take, and of the GPU as torch allocated it."""

    peak_gib: Quantity = Field(description="Resident peak of the process.")
    libraries_gib: Quantity = Field(description="Resident after the import, before the network was built.")
    device_peak_gib: Quantity | None = None


class Row(Document):
    """What all rows have: where, when, by which command, and whether it counts."""

    schema_version: Literal[1] = 1
    device: DeviceKind
    machine: Id = Field(description="Name of the machine: machine.json beside the rows describes it.")
    date: str = Field(description="UTC, ISO 8601.")
    command: str
    torch: str = Field(description="Version of torch.")
    threads: Count = 1
    core: Count | None = Field(default=None, description="The core the process was pinned to.")
    accepted: bool
    reasons: tuple[str, ...] = Field(default=(), description="Rules of disturbance that were broken, or why the job did not run.")
    message: str = Field(default="", description="The last words of a job that failed.")
    foreign: ForeignLoad = ForeignLoad()


class Record(Row):
    """One measured job, run alone in a fresh process. ``timing`` is None where it did not run to its end."""

    row: Literal["job"] = "job"
    job: JobSpec
    work: Work | None = Field(default=None, description="Counted work of a traced job; families have closed forms.")
    timing: Timing | None = None
    start_up: StartUpSeconds | None = None
    memory: Memory | None = None

    @property
    def seconds(self) -> float | None:
        """Seconds per step in the device's metric, None where the job did not run."""
        return None if self.timing is None else self.timing.seconds


class OperatorRecord(Row):
    """One operator run on its own (a micro-benchmark), in a process of its class and precision."""

    row: Literal["operator"] = "operator"
    name: Id
    operator: Operator = Field(description="FLOPs and bytes of one call; `calls` is 1.")
    working_set_bytes: Quantity = Field(description="Bytes of all arrays that one call touches: tells the tier they come from.")
    timing: Timing | None = None


class Sharing(StrEnum):
    """What two jobs shared.

    ``same_core``: one core in turns; slow-down in wall time, so about 2 by time slicing alone.
    ``two_cores``: a core each, the last cache and the memory's bandwidth together; slow-down in CPU-seconds.
    ``same_device``: one GPU, two processes; slow-down in wall time, with the device synchronised after each step.
    """

    same_core = "same_core"
    two_cores = "two_cores"
    same_device = "same_device"


class PairRecord(Row):
    """Two jobs that ran at the same time, each against itself alone in the same process a moment before."""

    row: Literal["pair"] = "pair"
    sharing: Sharing
    first: JobSpec
    second: JobSpec
    first_alone_s: Quantity | None = None
    second_alone_s: Quantity | None = None
    first_together_s: Quantity | None = None
    second_together_s: Quantity | None = None

    @property
    def slow_downs(self) -> tuple[float, float] | None:
        """How many times longer a step of each takes beside the other; None where the pair did not run."""
        times = (self.first_alone_s, self.second_alone_s, self.first_together_s, self.second_together_s)
        if any(time is None or time <= 0 for time in times):
            return None
        first_alone, second_alone, first_together, second_together = (time or 0.0 for time in times)
        return first_together / first_alone, second_together / second_alone


AnyRow = Record | OperatorRecord | PairRecord
