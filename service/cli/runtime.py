"""The commands ``runtime trace`` and ``runtime measure``: count the work of a torch module, and measure real torch jobs."""

from __future__ import annotations

import importlib.util
import json
import shlex
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from models.runtime.job import Mode, OptimizerName
from service.cli import runtime_model, runtime_speeds
from service.cli.errors import BadInputError
from service.cli.output import complain

if TYPE_CHECKING:
    from models.runtime.trace import Traced
    from service.measure.runner import Bench
    from service.measure.store import Store

app = typer.Typer(help="Predict how long torch jobs take: trace, measure, calibrate.", no_args_is_help=True)
app.registered_commands += [*runtime_model.app.registered_commands, *runtime_speeds.app.registered_commands]


class Device(StrEnum):
    """Where jobs are measured."""

    cpu = "cpu"
    cuda = "cuda"


class Grid(StrEnum):
    """Which jobs are measured."""

    quick = "quick"
    full = "full"


@app.command()
def trace(
    factory: Annotated[
        str,
        typer.Argument(
            metavar="MODULE:FACTORY", help="A function without arguments that returns (module, inputs[, loss]).", show_default=False
        ),
    ],
    mode: Annotated[Mode, typer.Option(help="train counts forward, backward and update; the others one forward pass.")] = Mode.train,
    optimizer: Annotated[OptimizerName, typer.Option(help="The update rule of training.")] = OptimizerName.adamw,
    as_json: Annotated[bool, typer.Option("--json", help="Print the traced job with its whole work as JSON, for runtime predict.")] = False,
) -> None:
    """Count FLOPs, bytes and calls of any torch module, by class of operator. Nothing is computed, and no GPU is needed."""
    from models.runtime.trace import TraceError, factory_called, traced_factory

    try:
        found = traced_factory(factory_called(factory), mode=mode, optimizer=optimizer)
    except TraceError as error:
        raise BadInputError(str(error)) from None
    for warning in found.warnings:
        complain(f"warning: {warning}")
    if as_json:
        typer.echo(json.dumps(_document(found, factory, mode, optimizer), allow_nan=False))
    else:
        _show(found)


def _document(found: Traced, factory: str, mode: Mode, optimizer: OptimizerName) -> dict[str, Any]:
    """The traced job with its work, as ``runtime predict`` takes it."""
    from pydantic import TypeAdapter

    from models.runtime.job import Family, JobSpec
    from models.runtime.operators import Work

    heaviest = max(found.work.operators, key=lambda operator: operator.flops * operator.calls)
    job = JobSpec(id=factory, family=Family.traced, mode=mode, optimizer=optimizer, precision=heaviest.precision)
    return {
        "job": job.model_dump(mode="json", exclude_defaults=True),
        "work": TypeAdapter(Work).dump_python(found.work, mode="json"),
    }


def _show(found: Traced) -> None:
    work = found.work
    flops, moved, calls = work.flops_by_class(), work.bytes_by_class(), work.calls_by_class()
    typer.echo(f"{'class':<24}{'GFLOP':>14}{'MiB moved':>14}{'calls':>10}")
    for cls in sorted(calls, key=lambda one: -flops[one]):
        typer.echo(f"{cls.value:<24}{flops[cls] / 1e9:>14,.4f}{moved[cls] / 2**20:>14,.2f}{calls[cls]:>10,.0f}")
    typer.echo(f"{'all':<24}{work.flops / 1e9:>14,.4f}{work.bytes / 2**20:>14,.2f}{work.calls:>10,.0f}")
    typer.echo(f"{work.parameters:,.0f} parameters, {work.activation_bytes / 2**20:,.2f} MiB of activations")


@app.command()
def measure(
    out: Annotated[str, typer.Option(metavar="FOLDER", help="Where rows.jsonl and machine.json are written; rows there are not repeated.")],
    grid: Annotated[Grid | None, typer.Option(help="Measure the jobs of this grid.", show_default=False)] = None,
    micro: Annotated[bool, typer.Option("--micro", help="Measure single operators.")] = False,
    pairs: Annotated[int, typer.Option(min=0, metavar="N", help="Measure N pairs of jobs that share the core, two cores or the GPU.")] = 0,
    device: Annotated[Device, typer.Option(help="Where jobs run.")] = Device.cpu,
    core: Annotated[int, typer.Option(min=0, help="The core that each job is pinned to.")] = 0,
    seconds: Annotated[float, typer.Option(min=0.05, max=600, help="Steps of each job, warm-up included.")] = 2.5,
    patience: Annotated[float, typer.Option(min=0, max=3600, help="Seconds to wait for a quiet machine before each job.")] = 5.0,
) -> None:
    """Measure real torch jobs, each in a fresh process; nothing chosen: the quick grid. Disturbed rows are kept and marked."""
    if importlib.util.find_spec("torch") is None:
        raise BadInputError("measuring needs torch: install quartermaster[torch]")
    from service.measure.store import Store, StoredRowsError

    bench = _bench(device.value, core, seconds)
    store = Store(Path(out))
    try:
        _measure(store, bench, grid or (None if micro or pairs else Grid.quick), micro=micro, pairs=pairs, patience_s=patience)
    except StoredRowsError as error:
        raise BadInputError(str(error)) from None
    except OSError as error:
        raise BadInputError(f"--out {out}: cannot be written ({error.strerror}); give another folder") from None


def _bench(device: str, core: int, seconds: float) -> Bench:
    import os

    from service.measure.machine import cuda_is_there, machine
    from service.measure.process import available_gib
    from service.measure.runner import Bench

    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    if cores is not None and core not in cores:
        raise BadInputError(f"--core {core}: this process may use the cores {', '.join(map(str, cores))}; give one of them")
    if device == "cuda" and not cuda_is_there():
        raise BadInputError("--device cuda: torch sees no CUDA GPU here; leave it out to measure on the CPU")
    about = machine(device)
    command = shlex.join(["quartermaster", *sys.argv[1:]])
    memory_gib = 0.8 * available_gib()
    return Bench(device, about.name, about.versions["torch"], command, core if cores else None, 1, seconds, memory_gib)


def _measure(store: Store, bench: Bench, grid: Grid | None, *, micro: bool, pairs: int, patience_s: float) -> None:
    from service.measure.campaign import campaign, operators, shared
    from service.measure.grid import jobs
    from service.measure.machine import machine

    store.open(machine(bench.device))
    if micro:
        typer.echo(f"operators: {_counts(operators(bench, store, _tell))}")
    if grid is not None:
        typer.echo(f"jobs: {_counts(campaign(jobs(grid.value), bench, store, patience_s, _tell))}")
    if pairs:
        typer.echo(f"pairs: {_counts(shared(pairs, bench, store, _tell))}")


def _tell(name: str, number: int, many: int) -> None:
    complain(f"{number}/{many} {name}")


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {what}" for what, count in counts.items() if count) or "nothing to do"
