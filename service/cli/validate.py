"""The command ``validate``: predict real torch jobs, decide where they run, freeze both, execute it, and compare."""

from __future__ import annotations

import importlib.util
import json
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from service.cli.documents import load
from service.cli.errors import BadInputError
from service.cli.files import Target
from service.cli.output import complain, console
from service.cli.runtime_model import measured_rows

if TYPE_CHECKING:
    from models.program import Floats, Ints
    from models.runtime.records import Machine
    from service.measure.validate import Asked, Known
    from service.measure.validate_devices import Device
    from service.measure.validate_frozen import Frozen, Policy

RESULTS, PAGE = "results.json", "report.html"
KINDS = ("core", "cores", "cuda")
GRIDS = ("cpu", "gpu", "gpu-tiny")


def validate(  # noqa: PLR0913, PLR0917  (the options of the command)
    out: Annotated[str, typer.Option(metavar="FOLDER", help="Where predictions are frozen, and rows and results are written.")],
    records: Annotated[
        list[str] | None,
        typer.Option(metavar="[KIND=]FOLDER", help="Measured rows to calibrate on; with core=, cores= or cuda= for one kind of device."),
    ] = None,
    device_spec: Annotated[
        list[str] | None,
        typer.Option(metavar="[KIND=]FILE", help="A calibrated device, as runtime calibrate writes it, in place of --records."),
    ] = None,
    jobs: Annotated[int, typer.Option(min=2, max=500, help="Jobs of a batch.")] = 12,
    batches: Annotated[int, typer.Option(min=1, max=1000, help="Batches.")] = 20,
    devices: Annotated[
        str, typer.Option(metavar="LIST", help="core:N, cores:A-B, cuda:0, separated by commas; cuda:0 k times: k slots that share it.")
    ] = "core:0,core:1",
    policies: Annotated[str, typer.Option(metavar="LIST", help="Who decides; the first is always optimal.")] = (
        "optimal,fifo,round-robin,lpt,random"
    ),
    executed_rivals: Annotated[int, typer.Option(min=0, help="On so many batches the other policies are executed, too.")] = 3,
    pilot: Annotated[int, typer.Option(min=0, max=200, help="Other jobs that are run first, to learn what neighbours cost.")] = 18,
    seed: Annotated[int, typer.Option(min=0, max=10**6, help="Of the jobs drawn, of random schedules and of the bootstrap.")] = 1,
    time_limit: Annotated[float, typer.Option(min=0.1, help="Seconds to decide one batch.")] = 10.0,
    robust_budget: Annotated[float, typer.Option(min=0, help="So many jobs of each device may take their p90 at once.")] = 0.0,
    job_seconds: Annotated[str, typer.Option(metavar="LEAST:MOST", help="Seconds that a job's steps shall fill.")] = "0.25:4",
    grid: Annotated[str, typer.Option(metavar="cpu|gpu|gpu-tiny", help="The networks that jobs are drawn near to.")] = "cpu",
    attempts: Annotated[int, typer.Option(min=1, max=10, help="How often a run may be made until one counts.")] = 2,
    serial_replay: Annotated[
        bool, typer.Option("--serial-replay", help="Run device after device, not at once; told in the results.")
    ] = False,
    lenient: Annotated[
        bool, typer.Option("--lenient", help="Count disturbed runs, too, and say so: to try it out, not to claim anything.")
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with what is frozen in the folder.")] = False,
) -> None:
    """Validate a plan by running it: real torch jobs are predicted, placed, frozen (SHA-256), executed and compared."""
    if importlib.util.find_spec("torch") is None:
        raise BadInputError("validating runs torch jobs: install quartermaster[torch]")
    from service.measure.validate_devices import UnknownDeviceError
    from service.measure.validate_frozen import FROZEN, FrozenError, freeze, thawed

    folder = Path(out)
    _writable(folder)
    try:
        if not resume:
            if (folder / FROZEN).exists():
                raise BadInputError(f"--out {out}: predictions are frozen there already; give a new folder, or --resume to go on with them")
            found = _devices(devices, at_once=not serial_replay)
            known, machine = _known(records or [], device_spec or [], {device.kind for device in found})
            asked = _asked(
                found, policies, grid, job_seconds, jobs=jobs, batches=batches, executed_rivals=executed_rivals, pilot=pilot, seed=seed,
                time_limit_s=time_limit, robust_budget=robust_budget, at_once=not serial_replay, attempts=attempts,
            )  # fmt: skip
            complain(f"frozen: SHA-256 {freeze(folder, _prepared(asked, known, machine))}")
        frozen, digest = thawed(folder)
        _execute(folder, frozen, digest)
    except (UnknownDeviceError, FrozenError) as error:
        raise BadInputError(str(error)) from None
    _tell(folder, frozen, digest, lenient=lenient)


def _execute(folder: Path, frozen: Frozen, digest: str) -> None:
    from service.measure.validate_run import execute

    names = ",".join(place.name.partition("#")[0] for place in frozen.places)
    execute(folder, frozen, digest, _devices(names, at_once=frozen.at_once), complain)


def _prepared(asked: Asked, known: dict[str, Known], machine: Machine) -> Frozen:
    from service.measure.validate import prepare

    try:
        return prepare(asked, known, machine, complain)
    except ValueError as error:
        raise BadInputError(str(error)) from None


def _devices(text: str, *, at_once: bool) -> tuple[Device, ...]:
    from service.measure.validate_devices import UnknownDeviceError, devices

    found = devices([part.strip() for part in text.split(",") if part.strip()], at_once=at_once)
    if len(found) < 2:  # noqa: PLR2004  (nothing to decide on one)
        raise UnknownDeviceError(f"--devices {text}: one device leaves nothing to decide; give at least two, such as core:0,core:1")
    return found


def _asked(found: tuple[Device, ...], policies: str, grid: str, job_seconds: str, **rest: Any) -> Asked:  # noqa: ANN401
    from service.measure import gpu_jobs
    from service.measure import grid as cpu_grid
    from service.measure.validate import Asked

    if rest["jobs"] < len(found):
        raise BadInputError(f"--jobs {rest['jobs']}: fewer jobs than the {len(found)} devices; give more jobs, or fewer devices")
    if grid not in GRIDS:
        raise BadInputError(f"--grid {grid}: there is {', '.join(GRIDS)}")
    networks = cpu_grid.jobs("quick") if grid == "cpu" else gpu_jobs.measured_jobs(tiny=grid == "gpu-tiny")
    least_s, most_s = _range(job_seconds)
    rest["executed_rivals"] = min(rest["executed_rivals"], rest["batches"])
    command = shlex.join(["quartermaster", *sys.argv[1:]])
    return Asked(found, networks, policies=_policies(policies), least_s=least_s, most_s=most_s, command=command, **rest)


def _policies(text: str) -> tuple[Policy, ...]:
    from service.measure.validate_frozen import Policy

    names = [part.strip() for part in text.split(",") if part.strip()]
    known = [policy.value for policy in Policy]
    strange = next((name for name in names if name not in known), None)
    if strange is not None:
        raise BadInputError(f"--policies: there is no policy {strange!r}; known are {', '.join(known)}")
    return tuple(dict.fromkeys([Policy.optimal, *map(Policy, names)]))


def _range(text: str) -> tuple[float, float]:
    try:
        least, most = (float(part) for part in text.split(":"))
    except ValueError:
        least, most = 0.0, 0.0
    if not 0 < least <= most < float("inf"):
        raise BadInputError(f"--job-seconds {text}: give two positive numbers, LEAST:MOST, such as 0.25:4")
    return least, most


def _known(records: list[str], specs: list[str], kinds: set[str]) -> tuple[dict[str, Known], Machine]:
    """What is known of each kind of device, and the machine of the rows. Raises BadInputError."""
    from service.measure.machine import machine

    folders, files = _by_kind("--records", records), _by_kind("--device-spec", specs)
    known = {kind: _of_kind(kind, folders, files) for kind in sorted(kinds)}
    return known, machine("cuda" if "cuda" in kinds else "cpu")


def _of_kind(kind: str, folders: dict[str, list[str]], files: dict[str, list[str]]) -> Known:
    from models.runtime.calibration import ladder
    from models.runtime.calibration.start import starting_device
    from models.runtime.records import PairRecord
    from service.measure.store import ROWS, read_rows
    from service.measure.validate import Known

    mine = folders.get(kind, folders.get("", []))
    described = files.get(kind, files.get("", []))
    if not mine and not described:
        raise BadInputError(
            f"nothing is known of {kind} devices: give --records FOLDER, written by `quartermaster runtime measure --micro --grid quick`, "
            f"or --device-spec FILE, written by `quartermaster runtime calibrate`"
        )
    if len(described) > 1:
        raise BadInputError(f"--device-spec: {len(described)} files for {kind} devices; give one")
    if not mine:
        return Known(load(ladder.Calibration, described[0]))
    machine, operators, rows = measured_rows(mine)
    pairs = tuple(row for folder in mine for row in read_rows(Path(folder) / ROWS) if isinstance(row, PairRecord))
    if described:
        return Known(load(ladder.Calibration, described[0]), tuple(rows), pairs)
    dates, torch = sorted(row.date[:10] for row in rows), sorted({row.torch for row in rows})
    try:
        start = starting_device(machine, operators)
        found = ladder.calibrate(start, operators, rows, date=dates[-1] if dates else "", version=f"torch {', '.join(torch)}")
    except ValueError as error:
        raise BadInputError(f"{', '.join(mine)}: {error}") from None
    return Known(found, tuple(rows), pairs)


def _by_kind(option: str, given: list[str]) -> dict[str, list[str]]:
    """What was given by kind of device; "" for all kinds."""
    made: dict[str, list[str]] = {}
    for text in given:
        kind, equals, value = text.partition("=")
        if equals and kind not in KINDS and not Path(text).exists():
            raise BadInputError(f"{option} {text}: there is no kind of device {kind!r}; known are {', '.join(KINDS)}")
        made.setdefault(kind if equals and kind in KINDS else "", []).append(value if equals and kind in KINDS else text)
    return made


def _writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInputError(f"--out {folder}: cannot be written ({(error.strerror or str(error)).lower()}); give another folder") from None
    if not os.access(folder, os.W_OK):
        raise BadInputError(f"--out {folder}: the folder is read-only; give another one")


def _tell(folder: Path, frozen: Frozen, digest: str, *, lenient: bool) -> None:
    """Writes the results and shows the table. Raises BadInputError where no run counts."""
    from models.runtime.schedules.makespan import Jobs
    from service.measure.validate import best_schedule
    from service.measure.validate_results import results
    from service.measure.validate_run import RAN, read_ran
    from service.report.validation import render

    def solved(times: Floats) -> tuple[Ints, float]:
        found, bound, _ = best_schedule(Jobs(times, tuple(place.name for place in frozen.places)), 10.0, frozen.seed)
        return found, bound

    try:
        told = results(frozen, digest, list(read_ran(folder / RAN)), solved, lenient=lenient)
    except ValueError as error:
        raise BadInputError(str(error)) from None
    Target("--out", str(folder / RESULTS)).write(json.dumps(told, indent=1, allow_nan=False) + "\n")
    Target("--out", str(folder / PAGE)).write(render(told))
    show(told)
    complain(f"results: {folder / RESULTS}, picture: {folder / PAGE}")


def show(told: dict[str, Any]) -> None:
    """The tables: what must hold, the forecasts side by side, the other rules, the noise."""
    screen = console()
    for flag in told["flags"]:
        screen.print(f"flag: {flag}", style="bold", markup=False)
    devices = ", ".join(f"{place['name']} ({place['title']}, {place['metric']})" for place in told["devices"])
    screen.print(f"{told['runs']['counted']} of {told['runs']['batches']} batches on {devices}", markup=False, highlight=False)
    screen.print(_claims(told["claims"]), _forecasts(told["forecasts"]), _rules(told["rules"]))
    noise = told["noise"]
    if noise["job_median"] is not None:
        spans = f", the same schedule by {noise['makespan_median']:.1%}" if noise["makespan_median"] is not None else ""
        screen.print(f"noise floor: the same job again differs by {noise['job_median']:.1%} (median){spans}", highlight=False)


def _claims(claims: dict[str, Any]) -> Table:
    table = _table("what must hold (median or mean of batches, 95% interval)", "", "limit", "measured", "")
    for name, row in claims.items():
        limit = f"at least {row['at_least']:.0%}" if row.get("at_least") is not None else ""
        limit = f"at most {row['at_most']:.0%}" if row.get("at_most") is not None else limit
        met = {True: "met", False: "MISSED", None: "not claimed"}[row["met"]] if "met" in row else ""
        table.add_row(name.replace("_", " "), limit, _between(row), met)
    return table


def _forecasts(forecasts: dict[str, Any]) -> Table:
    table = _table("forecasts, the others replayed", "", "job error", "p90", "makespan error", "regret", "below random")
    for name, row in forecasts.items():
        cells = (f"{row['job_error_median']:.1%}", f"{row['job_error_p90']:.1%}", *map(_between, (row["makespan_error"], row["regret"])))
        table.add_row(name, *cells, _between(row["saving"]))
    return table


def _rules(rules: dict[str, Any]) -> Table:
    table = _table("other rules: longer than ours by", "", "replayed", "executed", "executed, wall", "batches")
    for name, row in rules.items():
        executed = (
            (_between(row["executed"]), _between(row["executed_wall"]), str(row["batches_executed"]))
            if "executed" in row
            else ("", "", "0")
        )
        table.add_row(name, _between(row["replayed"]), *executed)
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title)
    for column in columns:
        table.add_column(column)
    return table


def _between(row: dict[str, float]) -> str:
    return f"{row['value']:.1%} [{row['low']:.1%}, {row['high']:.1%}]"
