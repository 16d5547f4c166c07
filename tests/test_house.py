"""The house rules that no linter holds: what lies where, how long it may be, and who may import whom."""

import ast
import fnmatch
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
CODE = ("models", "optimizer", "service", "tests", "benchmarks")
TOP_LEVEL = {
    *CODE,
    ".ci",
    ".github",
    ".gitignore",
    "CHANGELOG.md",
    "LICENSE",
    "Makefile",
    "README.md",
    "constraints.txt",
    "pyproject.toml",
}
MAX_FILE_LINES = 450
MAX_FUNCTION_LINES = 70
UNFINISHED = re.compile("|".join(("TO" + "DO", "FIX" + "ME", "X" * 3)))
DECISION_SECTIONS = ["Context", "Decision", "Consequences", "Checked by"]

# Who may import a library that only some modules may touch. Tests and benchmarks may import them all.
ONLY_IN = {
    "highspy": ("optimizer.highs",),
    "ortools": ("optimizer.cpsat", "optimizer.networkflow"),
    "pyomo": ("models.*.formulation", "optimizer.compile"),
    "scipy": (),
    "torch": ("models.runtime.trace", "optimizer.batch.iteration", "service.measure", "service.measure.*"),
}
# What each package may import of the others.
BELOW = {"models": set[str](), "optimizer": {"models"}, "service": {"models", "optimizer"}}
SHARED_FOLDERS = {"runtime"}  # folders under models/ that are not a kind of decision
HEAVY = {"ortools", "pyomo", "scipy", "torch"}  # kept off the path of the command line's start


def python_files(*packages: str) -> Iterator[Path]:
    for package in packages:
        yield from sorted((ROOT / package).rglob("*.py"))


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def kinds() -> set[str]:
    return {path.parent.name for path in (ROOT / "models").glob("*/__init__.py")} - SHARED_FOLDERS


def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def imported(package: str, source: str) -> set[str]:
    """Every module a source names in an import, relative ones resolved against ``package``, and those imported by name."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import():
                names.update(alias.name for alias in node.names)
            case ast.ImportFrom():
                parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
                origin = ".".join([*parents, *([node.module] if node.module else [])])
                names.update(f"{origin}.{alias.name}" for alias in node.names)
            case ast.Call(
                func=ast.Name(id="import_module" | "__import__") | ast.Attribute(attr="import_module"),
                args=[ast.Constant(value=str(name)), *_],
            ):
                names.add(name)
            case _:
                pass
    return names


def import_offences(module: str, source: str, all_kinds: set[str], *, is_package: bool = False) -> list[str]:
    """The imports of one module that break a rule of the house, each with the rule it breaks."""
    package, _, rest = module.partition(".")
    own_kind = rest.partition(".")[0]
    offences = []
    for name in sorted(imported(module if is_package else module.rpartition(".")[0], source)):
        top, _, inner = name.partition(".")
        kind = inner.partition(".")[0]
        if top in ONLY_IN and not any(fnmatch.fnmatchcase(module, place) for place in ONLY_IN[top]):
            offences.append(f"{module} imports {name}: {top} only in {', '.join(ONLY_IN[top]) or 'tests'}")
        if top in CODE and top != package and top not in BELOW[package]:
            offences.append(f"{module} imports {name}: {package} stands below {top}")
        if top == package == "models" and own_kind in all_kinds and kind in all_kinds - {own_kind}:
            offences.append(f"{module} imports {name}: kinds never import each other")
    return offences


def long_functions(source: str) -> list[tuple[str, int]]:
    """Name and length of the functions that are too long to read at one go."""
    functions = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    lengths = ((function.name, (function.end_lineno or function.lineno) - function.lineno + 1) for function in functions)
    return [(name, length) for name, length in lengths if length > MAX_FUNCTION_LINES]


def test_nothing_else_at_the_top() -> None:
    made = [line.rstrip("/") for line in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines() if line and line[0] != "#"]
    found = {entry.name for entry in ROOT.iterdir() if not any(fnmatch.fnmatchcase(entry.name, pattern) for pattern in [*made, ".git"])}
    assert found == TOP_LEVEL


def test_files_are_short() -> None:
    lengths = {relative(path): len(path.read_text(encoding="utf-8").splitlines()) for path in python_files(*CODE)}
    assert lengths
    assert not {path: length for path, length in lengths.items() if length > MAX_FILE_LINES}


def test_functions_are_short() -> None:
    found = {relative(path): long_functions(path.read_text(encoding="utf-8")) for path in python_files(*CODE)}
    assert not {path: functions for path, functions in found.items() if functions}


def test_a_long_function_is_found() -> None:
    body = "    x = 1\n" * MAX_FUNCTION_LINES
    assert long_functions(f"class C:\n  async def f(self):\n{body}") == [("f", MAX_FUNCTION_LINES + 1)]
    assert not long_functions(f"def f():\n{body.removesuffix('    x = 1' + chr(10))}")


def test_nothing_is_left_unfinished() -> None:
    texts = [path for folder in CODE for path in sorted((ROOT / folder).rglob("*")) if path.suffix in {".py", ".html", ".css", ".j2"}]
    assert not [relative(path) for path in texts if UNFINISHED.search(path.read_text(encoding="utf-8"))]


def test_imports_follow_the_rules() -> None:
    all_kinds = kinds()
    assert not [
        offence
        for path in python_files(*BELOW)
        for offence in import_offences(module_of(path), path.read_text(encoding="utf-8"), all_kinds, is_package=path.name == "__init__.py")
    ]


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("models.placement.verify", "import highspy"),
        ("models.placement.verify", "from pyomo.environ import Var"),
        ("models.placement.scale", "def f():\n    from scipy import sparse"),
        ("models.placement.schema", "import importlib\nimportlib.import_module('torch')"),
        ("models.placement.heuristic", "from models.tiering.schema import Problem"),
        ("models.placement.heuristic", "from models import tiering"),
        ("models.placement.heuristic", "from ..tiering import schema"),
        ("models.contract", "import optimizer.solve"),
        ("optimizer.solve", "from service import errors"),
        ("optimizer.solve", "import ortools"),
        ("optimizer.highs", "import pyomo.environ"),
        ("service.cli", "from tests import conftest"),
    ],
)
def test_a_forbidden_import_is_found(module: str, source: str) -> None:
    assert len(import_offences(module, source, {"placement", "tiering"})) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("models.placement.formulation", "import pyomo.environ as pyo"),
        ("models.placement.verify", "from .schema import Plan\nfrom models import contract, vocabulary"),
        ("models.placement.schema", "from models.runtime import trace"),
        ("models.runtime.trace", "import torch"),
        ("optimizer.highs", "import highspy\nimport highspy._core"),
        ("service.measure.jobs", "import torch"),
        ("service.importers.openb", "from models.placement.schema import Problem\nimport optimizer"),
    ],
)
def test_an_allowed_import_passes(module: str, source: str) -> None:
    assert not import_offences(module, source, {"placement", "tiering"})


def test_the_contracts_know_every_module_the_kinds_share() -> None:
    independence = next(rule for rule in pyproject()["tool"]["importlinter"]["contracts"] if rule["type"] == "independence")
    listed = {expression.split(" -> models.")[1].removesuffix(".**") for expression in independence["ignore_imports"]}
    assert listed == {path.stem for path in (ROOT / "models").glob("[!_]*.py")} | SHARED_FOLDERS


def test_the_command_line_starts_without_the_heavy_libraries() -> None:
    script = "import json, sys, service.cli; print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert not HEAVY & set(json.loads(done.stdout))


def test_the_lock_pins_every_dependency() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    assert not [line for line in lines if not re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.]*", line)]  # no host, no path, no local build
    pins = dict(line.split("==") for line in lines)
    house = pyproject()
    wanted = [*house["project"]["dependencies"], *house["build-system"]["requires"]]
    wanted += [entry for extra in house["project"]["optional-dependencies"].values() for entry in extra]
    for requirement in map(Requirement, wanted):
        assert requirement.specifier.contains(pins[requirement.name.lower()]), str(requirement)


def test_decisions_are_numbered_and_complete() -> None:
    decisions = sorted((ROOT / ".github" / "decisions").iterdir())
    assert decisions
    assert [path.name[:5] for path in decisions] == [f"{number:04d}-" for number in range(1, len(decisions) + 1)]
    for path in decisions:
        text = path.read_text(encoding="utf-8")
        assert re.findall(r"^## (.+)$", text, flags=re.MULTILINE) == DECISION_SECTIONS, path.name
        checks = re.findall(r"`([\w./-]+\.(?:py|toml|txt))`", text.rpartition("## Checked by")[2])
        assert checks, f"{path.name} is checked by nothing"
        assert not [check for check in checks if not (ROOT / check).is_file()], path.name
