"""The command ``import``: problems from other people's formats."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import Annotated

import typer

from service.cli import importing_clusters, importing_networks, importing_shares
from service.cli.errors import BadInputError
from service.cli.files import Target
from service.cli.kinds import as_json
from service.cli.output import complain

MIB = 2**20
LARGEST_FILE_BYTES = 512 * MIB  # unpacked, as for every other file
MOST = {"most_rows": 2_000_000, "most_columns": 2_000_000, "most_entries": 20_000_000}
READING_S = 600.0
FORMATS = {".mps": "mps", ".lp": "lp"}

app = typer.Typer(help="Make a problem from another format.", no_args_is_help=True)
for _name in ("sndlib", "graphml", "repetita", "dimacs_min", "links_demands"):
    app.command(_name.replace("_", "-"))(getattr(importing_networks, _name))
app.command()(importing_shares.gavel)
app.command()(importing_clusters.slurm)
app.command()(importing_clusters.kubernetes)


@app.command()
def openb(
    nodes: Annotated[str, typer.Option(metavar="FILE", help="Node list (CSV: sn, cpu_milli, memory_mib, gpu, model).")],
    pods: Annotated[str, typer.Option(metavar="FILE", help="Pod list (CSV: name, cpu_milli, memory_mib, num_gpu, gpu_milli, ...).")],
    out: Annotated[str, typer.Option(metavar="FILE", help="Where the problem is written (JSON).")],
    arrivals: Annotated[
        str | None, typer.Option(metavar="FILE", help="Order of arrival (CSV: order, name; a name may repeat). Without: every pod once.")
    ] = None,
) -> None:
    """Make a placement problem from Alibaba's GPU cluster trace (cluster-trace-gpu-v2023, "openb")."""
    from service.importers.openb import ImportFileError, import_openb

    inputs = (nodes, pods) if arrivals is None else (nodes, pods, arrivals)
    target = Target("--out", out, not_over=inputs)
    try:
        problem = import_openb(Path(nodes), Path(pods), Path(arrivals) if arrivals is not None else None)
    except ImportFileError as error:
        raise BadInputError(str(error)) from None
    target.write(as_json(problem) + "\n")
    gpus = sum(node.gpus for node in problem.nodes)
    typer.echo(f"{out}: {len(problem.nodes):,} nodes with {gpus:,} GPUs, {len(problem.jobs):,} jobs")


@app.command()
def program(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="An MPS or LP file (.mps, .lp), also packed (.mps.gz, .lp.gz).", show_default=False)
    ],
    out: Annotated[str, typer.Option(metavar="FILE", help="Where the problem is written (JSON).")],
) -> None:
    """Make a problem of the kind program from an MPS or LP file."""
    from optimizer.child import Child

    path = Path(file)
    packed = path.suffix.lower() == ".gz"
    form = FORMATS.get((path.with_suffix("") if packed else path).suffix.lower())
    if form is None:
        raise BadInputError(f"{file}: an MPS or LP file ends in {', '.join(FORMATS)}, packed in .gz; give it that ending")
    target = Target("--out", out, not_over=(file,))
    with Child.start() as child:  # a solver that crashes on the file must not take this process along
        data = _contents(path, packed=packed)
        end = child.run("service.tasks:read_program", {"data": data, "format": form, **MOST}, deadline_s=READING_S)
    if end.value is None:
        raise BadInputError(f"{file}: cannot be read: the reader stopped at it ({end.reason}); check the file or write it anew")
    if "errors" in end.value:
        raise BadInputError("\n  ".join(f"{file}: {one['detail']}" for one in end.value["errors"]))
    for warning in end.value["warnings"]:
        complain(f"warning: {warning['detail']}")
    target.write(end.value["body"].decode() + "\n")
    size = end.value["size"]
    typer.echo(f"{out}: {size['rows']:,} rows, {size['columns']:,} columns ({size['integers']:,} integer), {size['entries']:,} entries")


def _contents(path: Path, *, packed: bool) -> bytes:
    """The file's bytes, unpacked, up to LARGEST_FILE_BYTES; raises BadInputError."""
    try:
        with path.open("rb") as raw:
            stream = gzip.GzipFile(fileobj=raw) if packed else raw
            data = stream.read(LARGEST_FILE_BYTES + 1)
    except FileNotFoundError:
        raise BadInputError(f"{path}: there is no such file; give the path of an MPS or LP file") from None
    except (OSError, EOFError, zlib.error) as error:
        raise BadInputError(f"{path}: cannot be read ({error}); check the path, and whether the file is whole") from None
    if len(data) > LARGEST_FILE_BYTES:
        raise BadInputError(f"{path}: is larger than {LARGEST_FILE_BYTES // MIB} MiB, the most that is read; send a smaller program")
    return data
