"""The commands ``runtime calibrate``, ``predict`` and ``report``: fit a device to measured rows, ask it, and see how far off it is."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from models.runtime.job import JobSpec
from models.runtime.operators import Work
from models.vocabulary import Document
from service.cli.documents import load
from service.cli.errors import BadInputError
from service.cli.files import Target, read
from service.cli.kinds import as_json as document_text
from service.cli.output import complain, console
from service.documents.reading import Text, parse

if TYPE_CHECKING:
    from models.runtime.calibration.ladder import Calibration
    from models.runtime.calibration.predict import Calibrated
    from models.runtime.prediction.memory import MemoryNeed
    from models.runtime.records import Machine, OperatorRecord, Record

app = typer.Typer(no_args_is_help=True)

Folders = Annotated[
    list[str], typer.Argument(metavar="FOLDER...", help="Folders with rows.jsonl, as runtime measure writes them.", show_default=False)
]
DeviceFile = Annotated[str, typer.Option("--device", metavar="FILE", help="A calibrated device, as runtime calibrate writes it.")]


class Asked(Document):
    """One job to predict; ``work`` is the counted work of a traced job."""

    job: JobSpec
    work: Work | None = None


class AskedJobs(Document):
    """Several jobs to predict."""

    jobs: tuple[JobSpec, ...]


@app.command()
def calibrate(
    folders: Folders,
    out: Annotated[str, typer.Option(metavar="FILE", help="Where the calibrated device is written (JSON).")],
    start: Annotated[
        str | None, typer.Option(metavar="FILE", help="A DeviceSpec to start from; left out: the machine's own.", show_default=False)
    ] = None,
    refine: Annotated[
        str | None, typer.Option(metavar="FILE", help="A calibrated device to refine with these finished runs.", show_default=False)
    ] = None,
) -> None:
    """Fit a device's coefficients to measured operators and jobs: the ladder from the datasheet to finished runs."""
    from models.runtime.calibration import ladder
    from models.runtime.calibration.start import starting_device
    from models.runtime.device import DeviceSpec

    if start is not None and refine is not None:
        raise BadInputError("--start and --refine: a refined device has its start already; give one of them")
    target = Target("--out", out)
    machine, operators, jobs = measured_rows(folders)
    try:
        if refine is not None:
            found = ladder.refined(load(ladder.Calibration, refine), jobs)
        else:
            device = load(DeviceSpec, start) if start is not None else starting_device(machine, operators)
            dates = sorted(row.date[:10] for row in jobs)
            torch = sorted({row.torch for row in jobs})
            found = ladder.calibrate(device, operators, jobs, date=dates[-1] if dates else "", version=f"torch {', '.join(torch)}")
    except ValueError as error:
        raise BadInputError(f"{', '.join(folders)}: {error}") from None
    for warning in found.warnings:
        complain(f"warning: {warning}")
    target.write(document_text(found) + "\n")
    scores = found.scores
    typer.echo(
        f"{out}: {found.device.name} from {found.operators:,} operators and {found.jobs:,} jobs; a left-out job is off by "
        f"{scores.residual_log_sd:.1%}, a repeat of a job by {scores.repeat_log_sd:.1%} (one standard deviation)"
    )


@app.command()
def predict(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="A job (JobSpec), a job with its traced work, or {jobs: [...]}.", show_default=False)
    ],
    device: DeviceFile,
    as_json: Annotated[bool, typer.Option("--json", help="Print the predictions as JSON.")] = False,
    out: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write them to a file, and its SHA-256 beside it: frozen.", show_default=False)
    ] = None,
) -> None:
    """Predict a job's step, its whole run and its memory, with intervals; say where that is an extrapolation."""
    from models.runtime.calibration.ladder import Calibration

    target = Target("--out", out, not_over=(file, device)) if out is not None else None
    known = load(Calibration, device)
    asked = asked_jobs(read(file))
    try:
        found = [_predicted(one, known) for one in asked]
    except ValueError as error:
        raise BadInputError(f"{file}: {error}") from None
    text = json.dumps({"device": known.device.name, "predictions": found}, indent=1, sort_keys=True, allow_nan=False)
    if target is not None and out is not None:
        target.write(text + "\n")
        digest = hashlib.sha256((text + "\n").encode()).hexdigest()
        Target("--out", f"{out}.sha256").write(f"{digest}  {Path(out).name}\n")
        complain(f"{out}: {len(found):,} predictions, SHA-256 {digest}")
    if as_json:
        typer.echo(text)
    elif target is None:
        for row in found:
            _show(row)


@app.command()
def report(
    folders: Folders,
    device: DeviceFile,
    out: Annotated[str, typer.Option(metavar="FILE", help="Where the page is written (HTML).")],
) -> None:
    """Draw predicted against measured: each job left out, and each family left out, on one HTML page that needs nothing else."""
    from models.runtime.calibration.ladder import Calibration, base_of
    from models.runtime.evaluation.evaluate import evaluate
    from service.report.runtime import render

    target = Target("--out", out, not_over=(device,))
    known = load(Calibration, device)
    machine, _, jobs = measured_rows(folders)
    try:
        found = evaluate(base_of(known), jobs)
    except ValueError as error:
        raise BadInputError(f"{', '.join(folders)}: {error}") from None
    target.write(render(known, found, machine))
    one, family = found.leave_one_out, found.leave_one_family_out
    typer.echo(
        f"{out}: {found.jobs} jobs; median error {one.model.median:.1%} each left out, {family.model.median:.1%} each family left out"
    )


def measured_rows(folders: list[str]) -> tuple[Machine, list[OperatorRecord], list[Record]]:
    """The machine, the accepted operators and the accepted jobs of all folders. Raises BadInputError."""
    from models.runtime.records import OperatorRecord, Record

    machine, rows = all_rows(folders)
    accepted = [row for row in rows if row.accepted]
    jobs = [row for row in accepted if isinstance(row, Record)]
    if len(jobs) < len([row for row in rows if isinstance(row, Record)]) / 2:
        complain(f"warning: most jobs in {', '.join(folders)} were refused as disturbed; measure again on an idle machine")
    return machine, [row for row in accepted if isinstance(row, OperatorRecord)], jobs


def all_rows(folders: list[str]) -> tuple[Machine, list[Record | OperatorRecord]]:
    """The machine, and its jobs and operators in all folders, accepted or not. Raises BadInputError."""
    from models.runtime.records import Machine, PairRecord
    from service.measure.store import MACHINE, ROWS, StoredRowsError, read_rows

    machines: list[Machine] = []
    rows: list[Record | OperatorRecord] = []
    for folder in folders:
        path = Path(folder)
        if not (path / ROWS).is_file():
            raise BadInputError(f"{folder}: there is no {ROWS} in it; give a folder that `quartermaster runtime measure` wrote")
        if (path / MACHINE).is_file():
            machines.append(load(Machine, str(path / MACHINE)))
        try:
            rows += [row for row in read_rows(path / ROWS) if not isinstance(row, PairRecord)]
        except StoredRowsError as error:
            raise BadInputError(str(error)) from None
    names = sorted({row.machine for row in rows})
    if len(names) > 1:
        raise BadInputError(f"{', '.join(folders)}: rows of {len(names)} machines ({', '.join(names)}); calibrate one at a time")
    return machines[0] if machines else Machine(name=names[0] if names else "unknown"), rows


def asked_jobs(text: Text) -> list[Asked]:
    """The jobs of a file: one JobSpec, one ``{job, work}``, or ``{jobs: [JobSpec, ...]}``. Raises BadInputError."""
    keys = _keys(text)
    if "jobs" in keys:
        return [Asked(job=job) for job in parse(AskedJobs, text).jobs]
    return [parse(Asked, text)] if "job" in keys else [Asked(job=parse(JobSpec, text))]


def _keys(text: Text) -> set[str]:
    """The names at the top of a document, none where it cannot be read: what is wrong with it is told when it is parsed."""
    if text.is_yaml:
        return {name.decode(errors="replace") for name in re.findall(rb"^(\w+)\s*:", text.data, re.MULTILINE)}
    try:
        raw = json.loads(text.data)
    except ValueError:
        return set()
    return set(raw) if isinstance(raw, dict) else set()


def _predicted(asked: Asked, known: Calibration) -> dict[str, Any]:
    from models.runtime.calibration.predict import predicted
    from models.runtime.prediction.memory import memory

    return _told(asked.job, predicted(asked.job, known, asked.work), memory(asked.job, known.device, asked.work))


def _told(job: JobSpec, found: Calibrated, need: MemoryNeed) -> dict[str, Any]:
    plain, step = found.prediction, found.step
    return {
        "id": job.id,
        "job": job.model_dump(mode="json", exclude_defaults=True),
        "step_s": {"p10": step.p10, "p50": step.p50, "p90": step.p90, "low": step.low, "high": step.high},
        "total_s": asdict(plain.total_s),
        "start_up_s": plain.start_up_s,
        "parts_s": plain.parts,
        "memory_gib": need.parts_gib | {"total": need.total_gib, "available": need.available_gib},
        "fits_probability": need.fits_probability,
        "extrapolated": plain.extrapolated,
        "reasons": list(plain.reasons),
        "warnings": list(found.warnings),
    }


def _show(row: dict[str, Any]) -> None:
    screen = console()
    step, total = row["step_s"], row["total_s"]
    screen.print(f"{row['id'] or 'job'}", style="bold", markup=False)
    screen.print(
        f"  a step: {_s(step['p50'])} (p10 {_s(step['p10'])}, p90 {_s(step['p90'])}; 90% in {_s(step['low'])} to {_s(step['high'])})"
    )
    screen.print(f"  the run: {_s(total['p50'])} (p10 {_s(total['p10'])}, p90 {_s(total['p90'])}), start-up {_s(row['start_up_s'])}")
    whole = sum(row["parts_s"].values()) or 1.0
    parts = sorted(row["parts_s"].items(), key=lambda part: -part[1])
    screen.print(
        "  where a step goes: "
        + ", ".join(f"{name.replace('_', ' ')} {seconds / whole:.0%}" for name, seconds in parts if seconds >= 0.01 * whole)
    )
    memory = row["memory_gib"]
    screen.print(f"  memory: {memory['total']:.2f} of {memory['available']:.1f} GiB; fits with probability {row['fits_probability']:.1%}")
    for reason in row["reasons"]:
        screen.print(f"  extrapolated: {reason}", markup=False)
    for warning in row["warnings"]:
        screen.print(f"  warning: {warning}", markup=False)


def _s(seconds: float) -> str:
    """Seconds for people: three figures in s, ms or us."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}" if seconds < 1000 * size else f"{seconds:,.0f} s"
    return f"{seconds / 1e-6:.3g} us"
