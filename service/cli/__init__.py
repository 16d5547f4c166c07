"""The command line: ``quartermaster``. Solvers, Pyomo and Jinja are loaded only by the commands that use them."""

from __future__ import annotations

import sys
import traceback
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from service.cli import (
    backup,
    curve,
    explain,
    importing,
    keys,
    kinds,
    kubernetes,
    kubernetes_extender,
    replay,
    runs,
    runtime,
    serve,
    simulate,
    slurm,
    solve,
    study,
    validate,
    verify,
    view,
)
from service.cli.errors import BadInputError, Exit
from service.cli.output import complain

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["app", "main"]

app = typer.Typer(
    name="quartermaster",
    help="Decides how an AI data centre uses what it has. Every answer is a plan with a certificate.",
    epilog="Exit codes: 0 a plan, 2 bad input, 3 proved infeasible, 4 no plan within the limits, 1 our fault; "
    "of a study also 5 a gate failed, 6 a gate is undecided.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("solve")(solve.solve)
app.command("verify")(verify.verify)
app.command("explain")(explain.explain)
app.command("view")(view.view)
app.command("curve")(curve.curve)
app.command("kinds")(kinds.kinds)
app.command("schema")(kinds.schema)
app.command("example")(kinds.example)
app.add_typer(importing.app, name="import")
app.add_typer(study.app, name="study")
app.add_typer(runs.app, name="runs")
app.add_typer(runtime.app, name="runtime")
app.command("replay")(replay.replay)
app.command("simulate")(simulate.simulate)
app.add_typer(slurm.app, name="slurm")
kubernetes.app.command("extender")(kubernetes_extender.extender)
app.add_typer(kubernetes.app, name="kubernetes")
app.command("validate")(validate.validate)
app.command("serve")(serve.serve)
app.command("worker")(serve.worker)
app.add_typer(keys.app, name="keys")
app.command("backup")(backup.backup)
app.command("restore")(backup.restore)


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"quartermaster {version('quartermaster')}")
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")] = False,
) -> None:
    pass


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs one command, taken from the process's arguments when none are given, and exits with one of the codes of ``Exit``."""
    try:
        app(list(arguments) if arguments is not None else None)
    except BadInputError as error:
        complain(str(error))
        sys.exit(Exit.bad_input)
    except Exception as error:  # noqa: BLE001  (the last resort: what is not the user's fault is ours, and is told as such)
        traceback.print_exc()
        complain(f"this is our fault, not yours: {type(error).__name__}: {error}; please report it with the lines above")
        sys.exit(Exit.our_fault)
    sys.exit(Exit.plan)
