"""The command ``runtime speeds``: a fairshare problem whose speeds are predicted, or measured, with their 10th percentiles."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.documents import load
from service.cli.errors import BadInputError
from service.cli.files import Target, read
from service.cli.importing_shares import MOST_GPUS, PolicyName
from service.cli.kinds import as_json
from service.cli.output import complain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.fairshare.schema import Problem
    from models.runtime.calibration.ladder import Calibration
    from models.runtime.device import DeviceSpec
    from models.runtime.records import PairRecord
    from models.runtime.speeds.predicted import Offer, Speeds

CALIBRATED = re.compile(rb'"factors"\s*:|^factors\s*:', re.MULTILINE)  # what a calibrated device has beside its DeviceSpec
SHOWN = 12  # warnings and places left out that are printed one by one

app = typer.Typer(no_args_is_help=True)


@app.command()
def speeds(  # noqa: PLR0913, PLR0917  (each is an option of the command)
    file: Annotated[
        str,
        typer.Argument(metavar="JOBS", help="Jobs, {jobs: [...]}: each a JobSpec with count, weight, deadline_s, ...", show_default=False),
    ],
    device: Annotated[
        list[str],
        typer.Option(
            metavar="DEVICE:COUNT[:USD]",
            help="A calibrated device (runtime calibrate), a DeviceSpec or the name of a known board, how many, and USD per hour of one.",
        ),
    ],
    out: Annotated[str, typer.Option(metavar="FILE", help="Where the problem is written (JSON).")],
    policy: Annotated[PolicyName, typer.Option(metavar="NAME", help="What the plan is to be best in.")] = "max_min_fair",
    robust_budget: Annotated[
        float | None,
        typer.Option(min=0, metavar="G", help="So many of a job's devices may run it at its 10th percentile.", show_default=False),
    ] = None,
    robust_scenarios: Annotated[
        bool,
        typer.Option("--robust-scenarios", help="In place of a budget: one device at a time may run all jobs at their 10th percentiles."),
    ] = False,
    pairs: Annotated[
        list[str] | None,
        typer.Option(
            metavar="DEVICE=FOLDER",
            help="Pairs measured on a device (runtime measure --pairs); the others are predicted.",
            show_default=False,
        ),
    ] = None,
    pair_medians: Annotated[
        bool, typer.Option("--pair-medians", help="Pairs that were not measured by their medians: to see which to measure, not to run.")
    ] = False,
    least_fit: Annotated[
        float, typer.Option(min=0, max=1, metavar="P", help="Probability of fitting into the memory that is enough.")
    ] = 0.9,
    network_gbps: Annotated[
        float | None,
        typer.Option(metavar="GBPS", help="Gbit/s of each GPU between nodes, for devices that describe no such link.", show_default=False),
    ] = None,
) -> None:
    """Make a fairshare problem from jobs and devices: predicted speeds, where jobs do not fit, and how slow it may get."""
    from models.runtime.speeds import predicted as predicting
    from models.runtime.speeds.jobs import SharedJobs
    from models.runtime.speeds.pairs import paired

    if robust_budget is not None and robust_scenarios:
        raise BadInputError("--robust-budget and --robust-scenarios: give one of the two")
    if network_gbps is not None and not 0 < network_gbps < math.inf:
        raise BadInputError(f"--network-gbps {network_gbps:g}: must be more than 0; give the Gbit/s of each GPU")
    offers = [_offer(text, network_gbps) for text in device]
    target = Target("--out", out, not_over=(file, *(_parts(text)[0] for text in device)))
    asked, known_pairs = load(SharedJobs, file), _measured_pairs(pairs or [])
    try:
        found = predicting.speeds(asked, offers, least_fit=least_fit)
        found = paired(found, known_pairs, least_fit=least_fit, medians=pair_medians)
    except ValueError as error:
        raise BadInputError(f"{file}: {error}") from None
    robust = predicting.robust_budget(robust_budget) if robust_budget is not None else None
    problem = _problem(file, found, policy, found.robust_scenarios() if robust_scenarios else robust)
    target.write(as_json(problem) + "\n")
    _tell(out, found)


def _problem(file: str, found: Speeds, policy: str, robust: dict[str, object] | None) -> Problem:
    from pydantic import ValidationError

    from models.fairshare.schema import Problem
    from service.documents.complaints import InvalidError, invalid

    document = found.problem(policy, robust)
    try:
        return Problem.model_validate(document)
    except ValidationError as error:
        mistakes: InvalidError = invalid(error, Problem, document)
        raise BadInputError(f"{file}: these jobs do not make a problem: {mistakes}") from None


def _parts(text: str) -> tuple[str, str, str | None]:
    """``device.json:8:2.5`` as file, count and price; a colon inside the path is the path's."""
    pieces = text.rsplit(":", 2)
    if len(pieces) == 3 and pieces[1].isascii() and pieces[1].isdigit():  # noqa: PLR2004  (file, count, price)
        return pieces[0], pieces[1], pieces[2]
    name, colon, count = text.rpartition(":")
    return (name, count, None) if colon else (text, "", None)


def _offer(text: str, network_gbps: float | None) -> Offer:
    """One ``--device``. Raises BadInputError."""
    from models.runtime.speeds.predicted import Offer
    from models.runtime.speeds.spread import with_network

    name, count, price = _parts(text)
    if not name or not (count.isascii() and count.isdigit()) or not 1 <= int(count) <= MOST_GPUS:
        raise BadInputError(f"--device {text}: must read DEVICE:COUNT or DEVICE:COUNT:USD, such as device.json:8:2.50; correct it")
    try:
        usd = float(price) if price is not None else 0.0
    except ValueError:
        usd = math.nan
    if not 0 <= usd < math.inf:
        raise BadInputError(f"--device {text}: '{price}' is no price; give USD per hour of one, 0 or more")
    offer = Offer(_known(name), int(count), usd)
    if network_gbps is None:
        return offer
    wired = with_network(offer.device, network_gbps)
    return replace(offer, known=wired if offer.known is offer.device else offer.known.model_copy(update={"device": wired}))


def _known(name: str) -> Calibration | DeviceSpec:
    """A calibrated device, a DeviceSpec, or a known board by its name. Raises BadInputError."""
    from models.runtime.calibration.ladder import Calibration
    from models.runtime.device import DeviceSpec
    from models.runtime.devices_known import known_devices
    from service.documents.reading import parse

    boards = known_devices()
    if name in boards and not Path(name).exists():
        return boards[name]
    if not Path(name).exists() and not Path(name).suffix:
        raise BadInputError(f"--device {name}: is neither a file nor a known board; the boards are {', '.join(boards)}")
    text = read(name)
    return parse(Calibration, text) if CALIBRATED.search(text.data) else parse(DeviceSpec, text)


def _measured_pairs(texts: Sequence[str]) -> dict[str, list[PairRecord]]:
    """``DEVICE=FOLDER`` as the pairs in the folder's rows, by device. Raises BadInputError."""
    from models.runtime.records import PairRecord
    from service.measure.store import ROWS, StoredRowsError, read_rows

    found: dict[str, list[PairRecord]] = {}
    for text in texts:
        name, equals, folder = text.partition("=")
        if not name or not equals or not folder:
            raise BadInputError(f"--pairs {text}: must read DEVICE=FOLDER, such as H200=rows; correct it")
        if not (Path(folder) / ROWS).is_file():
            raise BadInputError(f"--pairs {text}: there is no {ROWS} in {folder}; give a folder that `quartermaster runtime measure` wrote")
        try:
            rows = read_rows(Path(folder) / ROWS)
        except StoredRowsError as error:
            raise BadInputError(str(error)) from None
        found.setdefault(name, []).extend(row for row in rows if isinstance(row, PairRecord))
    return found


def _tell(out: str, found: Speeds) -> None:
    left = [f"{one.workload} cannot run on {one.accelerator}: {one.why}" for one in found.left_out]
    for kind, lines in (("left out", left), ("warning", list(found.warnings))):
        for line in lines[:SHOWN]:
            complain(f"{kind}: {line}")
        if len(lines) > SHOWN:
            complain(f"{kind}: ... and {len(lines) - SHOWN:,} more")
    extrapolated, measured = sum(one.extrapolated for one in found.found), sum(one.measured for one in found.found)
    parts = [
        f"{out}: {len(found.jobs):,} jobs of {len(found.specs):,} workloads on {len(found.offers)} types of device",
        f"{len(found.found) - measured:,} speeds predicted ({extrapolated:,} extrapolated), {measured:,} measured",
        f"{len(found.left_out):,} left out",
    ]
    typer.echo("; ".join([*parts, f"{len(found.pairs):,} pairs"] if found.pairs else parts))
