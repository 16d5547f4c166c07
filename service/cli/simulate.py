"""The command ``simulate``: would this job start, when, and what would have to move? Asked of a snapshot; nothing is submitted."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from optimizer.limits import Limits
from service.cli.errors import INTERRUPTED, BadInputError
from service.cli.files import STANDARD_INPUT, read
from service.cli.importing_clusters import TakenAt, Which, moment, warn
from service.cli.output import complain
from service.cli.solve import THREADS, Seed, Threads
from service.cli.stopping import soft_stop

if TYPE_CHECKING:
    from service.plugins.simulation.answers import Answers
    from service.plugins.simulation.asked_job import AskedJob
    from service.plugins.simulation.situation import Situation

SEARCH_S = 20.0
UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}

Job = Annotated[
    str,
    typer.Option(
        "--job", metavar="SPEC", help="gpus=64,per-node=8,model=H100,rack=together,priority=5; or a JSON or YAML file with a job."
    ),
]
Slurm = Annotated[
    str | None, typer.Option("--slurm", metavar="DIR", help="Folder of Slurm's outputs; `live` asks Slurm now.", show_default=False)
]
Kubernetes = Annotated[
    list[str] | None,
    typer.Option(
        "--kubernetes", metavar="FILE", help="`kubectl get nodes,pods -A -o json`, may be repeated; `live` asks now.", show_default=False
    ),
]
ProblemFile = Annotated[str | None, typer.Option("--problem", metavar="FILE", help="A placement problem.", show_default=False)]
Ends = Annotated[
    str | None,
    typer.Option("--ends", metavar="FILE", help="With --problem: JSON object, job id: when it ends at the latest.", show_default=False),
]
At = Annotated[str | None, typer.Option("--at", metavar="TIME", help="Ask for this later time: +90m, +4h, or a time.", show_default=False)]
Jobs = Annotated[Which, typer.Option("--jobs", help="The waiting jobs that count: all, or those that opted in to the plugin.")]
TimeLimit = Annotated[float, typer.Option("--time-limit", metavar="S", help="Wall seconds that each search may take.")]
Out = Annotated[
    str | None, typer.Option("--out", metavar="DIR", help="Folder for each answer's plan with its problem.", show_default=False)
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def simulate(  # noqa: PLR0913, PLR0917  (the options of the command)
    job: Job,
    slurm: Slurm = None,
    kubernetes: Kubernetes = None,
    problem: ProblemFile = None,
    ends: Ends = None,
    at: At = None,
    taken_at: TakenAt = None,
    jobs: Jobs = Which.all,
    time_limit: TimeLimit = SEARCH_S,
    seed: Seed = 0,
    threads: Threads = THREADS,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Say whether a job would start now, when it would else, and the fewest moves or evictions that make room for it.

    Nothing is submitted and nobody is disturbed: the question is asked of a snapshot.
    """
    from service.cli.simulate_output import show_answers, written
    from service.plugins.simulation.asked_job import asked_job
    from service.plugins.simulation.situation import at as at_time

    try:
        limits = Limits(time_limit_s=time_limit, seed=seed, threads=threads)
    except ValueError as error:
        raise BadInputError(f"--{str(error).replace('time_limit_s', 'time-limit')}") from None
    if sum(one is not None for one in (slurm, kubernetes or None, problem)) != 1:
        raise BadInputError("say which cluster: give exactly one of --slurm, --kubernetes and --problem")
    if ends is not None and problem is None:
        raise BadInputError("--ends: a snapshot tells itself when its jobs end; give it with --problem")
    if problem == STANDARD_INPUT == job:
        raise BadInputError("standard input cannot be both --problem and --job; give one of them as a file")
    folder = _folder(out)
    found = _of_problem(problem, ends, moment(taken_at)) if problem is not None else _of_snapshot(slurm, kubernetes, taken_at, jobs)
    if at is not None:
        found = at_time(found, _later(at, found.now))
    asked = asked_job(job, found, read)
    answers = _asked(found, asked, limits)
    files = written(answers, folder) if folder is not None else []
    if as_json:
        typer.echo(json.dumps(answers.as_json(), allow_nan=False))
    else:
        show_answers(answers, files)


def _of_snapshot(slurm: str | None, kubernetes: list[str] | None, taken_at: str | None, jobs: Which) -> Situation:
    from service.plugins.simulation.sources import Source, situation_of

    found = situation_of(Source(slurm=slurm, kubernetes=tuple(kubernetes or ()), taken_at=moment(taken_at)), jobs.value)
    warn(found.warnings)
    return found


def _of_problem(file: str, ends: str | None, now: float | None) -> Situation:
    from models.placement.schema import Problem
    from service.cli.documents import load
    from service.plugins.simulation.situation import OverfullError, Situation, settled

    problem = load(Problem, file)
    known = {job.id for job in problem.jobs if job.running is not None}
    try:
        found = settled(Situation(problem, now, ends=_ends(ends, known) if ends is not None else {}))
    except OverfullError as error:
        raise BadInputError(f"{file}: {error}") from None
    warn(found.warnings)
    return found


def _ends(file: str, known: set[str]) -> dict[str, float]:
    """When jobs end, from a JSON object of times by job. Raises BadInputError."""
    from service.documents.complaints import InvalidError
    from service.documents.json_text import strictly_loaded

    try:
        raw = strictly_loaded(read(file).data)
    except InvalidError as error:
        raise BadInputError(f"{file}: {error}") from None
    if not isinstance(raw, dict):
        raise BadInputError(f'{file}: must hold one JSON object, such as {{"job-1": "2026-03-01T14:10:00Z"}}')
    for name in raw:
        if name not in known:
            raise BadInputError(f"{file}: /{name}: no running job has that id; correct it or leave it out")
    found = {name: moment(str(time)) for name, time in raw.items() if time is not None}
    return {name: time for name, time in found.items() if time is not None}


def _later(text: str, now: float | None) -> float:
    """The time that --at names. Raises BadInputError."""
    if not text.startswith("+"):
        found = moment(text)
        assert found is not None  # noqa: S101  (there is a text)
        if now is not None and found < now:
            raise BadInputError(f"--at {text}: lies before the snapshot; give a later time, or one such as +90m")
        return found
    if now is None:
        raise BadInputError(f"--at {text}: the problem tells no time to count from; give --taken-at TIME too")
    try:
        return now + float(text[1:-1]) * UNITS[text[-1]]
    except (ValueError, KeyError):
        raise BadInputError(f"--at {text}: is no span of time; write it as +90m, +4h or +2d") from None


def _asked(situation: Situation, asked: AskedJob, limits: Limits) -> Answers:
    """All answers, as far as Ctrl-C lets them be found. Raises BadInputError for a job that the cluster could never hold."""
    from service.plugins.simulation.questions import ask
    from service.plugins.simulation.rooms import Rooms, TooLargeError

    cancel = threading.Event()
    try:
        with soft_stop(cancel, "what is answered by then is told"):
            return ask(situation, asked, Rooms(situation.problem, limits, cancel))
    except TooLargeError as error:
        raise BadInputError(f"--job: {error}") from None
    except KeyboardInterrupt:
        complain("stopped at once; nothing was written")
        raise typer.Exit(INTERRUPTED) from None


def _folder(out: str | None) -> Path | None:
    """The folder for the plans, made where it is missing. Raises BadInputError."""
    if out is None:
        return None
    folder = Path(out)
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise BadInputError(f"--out {out}: cannot be made ({(error.strerror or str(error)).lower()}); give another folder") from None
    return folder
