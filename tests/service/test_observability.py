"""Dashboard, alert rules and container files name only what there is."""

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import typer
import yaml
from pydantic import BaseModel, ConfigDict, Field

from service.cli import app
from service.runs.database import Database
from service.runs.migrate import migrate
from service.settings import Settings
from service.telemetry import KILL_REASONS, Telemetry
from tests.conformance.documents import ROOT, names_in_code, section, tables

FOLDER = ROOT / "service" / "observability"
CONTAINER = ROOT / "service" / "container"
PAGE = (ROOT / "service" / "README.md").read_text(encoding="utf-8")
SCRAPED = {"job", "instance", "le"}  # labels that Prometheus adds
NAME = re.compile(r"\b(?:quartermaster|process|python)_[a-z_]+")
SELECTOR = re.compile(r"\b((?:quartermaster|process|python)_[a-z_]+)\{([^}]*)\}")
GROUPING = re.compile(r"\b(?:by|without)\s*\(([^)]*)\)")
MATCHER = re.compile(r'([a-z_]+)\s*(?:=~|!~|!=|=)\s*"([^"]*)"')
Text = Annotated[str, Field(min_length=1)]


@pytest.fixture
def series(tmp_path: Path) -> dict[str, set[str]]:
    """Every series name that a process with an API, a worker and a database shows, with its labels."""
    telemetry = Telemetry()
    telemetry.run_ended("placement", "optimal", "gap", 1.0, 10.0, 0.0)
    telemetry.child_killed("crash")
    telemetry.request_ended("/v1/runs", "POST", 202, 0.01)
    telemetry.run_accepted("placement", cached=True)
    database = Database(f"sqlite:///{tmp_path / 'x.db'}", durability="crash")
    try:
        migrate(database)
        telemetry.watch(database)
        return {sample.name: {*sample.labels} for metric in telemetry.registry.collect() for sample in metric.samples}
    finally:
        database.close()


def offences(expression: str, known: dict[str, set[str]]) -> list[str]:
    """What an expression names that no process shows."""
    found = [f"{name} is no metric" for name in NAME.findall(expression) if name not in known]
    named = {name for name in NAME.findall(expression) if name in known}
    for name, matchers in SELECTOR.findall(expression):
        labels = {label for label, _ in MATCHER.findall(matchers)}
        found += [f"{name} has no label {label}" for label in labels - known.get(name, set()) - SCRAPED]
    together = {label for name in named for label in known[name]} | SCRAPED
    for labels in GROUPING.findall(expression):
        found += [f"no metric of it has a label {label.strip()}" for label in labels.split(",") if label.strip() not in together]
    return found


@pytest.mark.parametrize(
    "expression",
    [
        "quartermaster_nothing_total",
        'quartermaster_runs{colour="red"}',
        "sum by (colour) (quartermaster_runs)",
        "quartermaster_deadline_misses",
    ],
)
def test_an_offence_is_found(expression: str, series: dict[str, set[str]]) -> None:
    assert len(offences(expression, series)) == 1


# ---------------------------------------------------------------- alert rules


class Closed(BaseModel):
    """Prometheus refuses a rules file with a key it does not know; so does this."""

    model_config = ConfigDict(extra="forbid")


class Annotations(Closed):
    summary: Text
    description: Text


class Labels(Closed):
    severity: Literal["page", "warn"]


class Rule(Closed):
    alert: Annotated[str, Field(pattern=r"^Quartermaster[A-Za-z]+$")]
    expr: Text
    for_: Annotated[str, Field(alias="for", pattern=r"^\d+[smh]$")] = "0s"
    labels: Labels
    annotations: Annotations


class Group(Closed):
    name: Text
    rules: Annotated[list[Rule], Field(min_length=1)]


class Rules(Closed):
    groups: Annotated[list[Group], Field(min_length=1)]


def rules() -> list[Rule]:
    made = Rules.model_validate(yaml.safe_load((FOLDER / "alerts.yaml").read_text(encoding="utf-8")))
    return [rule for group in made.groups for rule in group.rules]


def test_the_alerts_name_metrics_that_are_there(series: dict[str, set[str]]) -> None:
    assert not [found for rule in rules() for found in offences(rule.expr, series)]


def test_the_alerts_are_well_formed() -> None:
    for rule in rules():
        assert rule.expr.count("(") == rule.expr.count(")"), rule.alert
        assert rule.expr.count("{") == rule.expr.count("}"), rule.alert
        assert re.search(r"[<>=]|absent", rule.expr), f"{rule.alert} compares nothing"
        shown = rule.annotations.summary + rule.annotations.description
        for label in re.findall(r"\$labels\.(\w+)", shown):
            assert re.search(rf"by \([^)]*\b{label}\b", rule.expr), f"{rule.alert} tells a label that its expression drops"


def test_the_alerts_cover_what_was_promised() -> None:
    named = " ".join(rule.expr for rule in rules())
    for metric in ("queue_oldest_seconds", "deadline_misses_total", "verify_failures_total", "child_kills_total", "database_up", "runs{"):
        assert f"quartermaster_{metric}" in named


def test_the_page_tells_what_to_do_for_each_alert() -> None:
    [table] = tables(section(PAGE, "Alerts"))
    assert [row["alert"] for row in table] == [f"`{rule.alert}`" for rule in rules()]


def test_the_reasons_that_alerts_match_are_those_there_are() -> None:
    matched = {value for rule in rules() for label, text in MATCHER.findall(rule.expr) if label == "reason" for value in text.split("|")}
    assert matched
    assert matched <= set(KILL_REASONS)


# ---------------------------------------------------------------- dashboard and page


def dashboard() -> dict[str, Any]:
    made: dict[str, Any] = json.loads((FOLDER / "dashboard.json").read_text(encoding="utf-8"))
    return made


def targets() -> Iterator[tuple[str, str, str]]:
    """Panel title, expression and legend."""
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"], target["legendFormat"]


def test_the_dashboard_names_metrics_that_are_there(series: dict[str, set[str]]) -> None:
    assert len(list(targets())) > 20
    assert not [(title, found) for title, expression, _ in targets() for found in offences(expression, series)]


def test_the_legends_tell_labels_that_are_left(series: dict[str, set[str]]) -> None:
    for title, expression, legend in targets():
        kept = {label.strip() for labels in GROUPING.findall(expression) for label in labels.split(",")}
        bare = not GROUPING.search(expression) and "(" not in expression
        if bare:
            kept = SCRAPED | {label for name in NAME.findall(expression) for label in series[name]}
        assert not set(re.findall(r"\{\{(\w+)\}\}", legend)) - kept, title


def test_the_dashboard_is_one_that_grafana_can_place() -> None:
    panels = dashboard()["panels"]
    ids = [panel["id"] for panel in panels]
    assert len(ids) == len(set(ids))
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
        assert not taken & cells, panel["title"]
        taken |= cells
        if panel["type"] != "row":
            assert panel["description"]
            assert panel["fieldConfig"]["defaults"]["unit"]
            assert panel["datasource"]["uid"] == "${datasource}"
    assert [one["name"] for one in dashboard()["templating"]["list"]] == ["datasource"]


def test_the_page_lists_every_metric_with_its_labels(series: dict[str, set[str]]) -> None:
    [table] = tables(section(PAGE, "Metrics"))
    told = {row["metric"].strip("`"): names_in_code(row["labels"]) for row in table}
    ours: dict[str, set[str]] = {}
    for name, labels in series.items():
        if name.startswith("quartermaster_"):
            stem = re.sub(r"_(?:bucket|sum|count)$", "", name)
            ours.setdefault(stem, set()).update(labels - {"le"})
    assert told == ours


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool, which comes with Prometheus, is not installed")
def test_prometheus_accepts_every_expression(tmp_path: Path) -> None:
    """Those of the dashboard as rules, since a panel's target is one expression too."""
    recorded = [{"record": f"panel:{number}", "expr": one[1].replace("$__rate_interval", "5m")} for number, one in enumerate(targets())]
    (tmp_path / "dashboard.yaml").write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": recorded}]}), encoding="utf-8")
    files = [str(FOLDER / "alerts.yaml"), str(tmp_path / "dashboard.yaml")]
    done = subprocess.run(["promtool", "check", "rules", *files], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


# ---------------------------------------------------------------- containers


def compose() -> dict[str, Any]:
    made: dict[str, Any] = yaml.safe_load((CONTAINER / "compose.yaml").read_text(encoding="utf-8"))
    return made


def containerfile() -> list[list[str]]:
    """The instructions, each as its words, continued lines joined."""
    text = (CONTAINER / "Containerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    return [shlex.split(line, posix=False) for line in text.splitlines() if line.strip() and not line.startswith("#")]


def parse(words: list[str]) -> None:
    """Raises when the command line does not know the command or an option."""
    root = typer.main.get_command(app)
    with root.make_context("quartermaster", list(words)) as context:
        name, command, rest = root.resolve_command(context, list(words))  # type: ignore[attr-defined]
        command.make_context(name, rest, parent=context)


def settings_among(names: Iterator[str] | list[str]) -> list[str]:
    """Those of our variables that are no settings."""
    known = {f"QUARTERMASTER_{name.upper()}" for name in Settings.model_fields}
    return [name for name in names if name.startswith("QUARTERMASTER_") and name not in known]


def test_the_compose_file_runs_commands_that_are_there() -> None:
    services = compose()["services"]
    assert set(services) == {"api", "worker", "database"}
    for name in ("api", "worker"):
        parse(services[name]["command"])
        assert not settings_among(list(services[name]["environment"]))
    assert services["api"]["command"] == ["serve", "--no-workers"]
    for line in re.findall(r"run --rm api (.+)$", (CONTAINER / "compose.yaml").read_text(encoding="utf-8"), re.MULTILINE):
        parse(shlex.split(line))


def test_the_compose_file_fits_together() -> None:
    found = compose()
    services = found["services"]
    for name, service in services.items():
        assert set(service.get("depends_on", {})) <= set(services), name
        for volume in service.get("volumes", ()):
            assert volume.partition(":")[0] in found["volumes"]
        assert not re.search(r"password\w*: *['\"]?[a-z0-9]+['\"]?$", json.dumps(service), re.IGNORECASE)
    url = services["api"]["environment"]["QUARTERMASTER_DATABASE_URL"]
    assert services["worker"]["environment"]["QUARTERMASTER_DATABASE_URL"] == url
    login = services["database"]["environment"]
    assert url.startswith(f"postgresql://{login['POSTGRES_USER']}:{login['POSTGRES_PASSWORD']}@database/")
    assert url.endswith(f"/{login['POSTGRES_DB']}")
    build = services["api"]["build"]
    assert (CONTAINER / build["context"] / build["dockerfile"]).resolve() == CONTAINER / "Containerfile"


def test_the_containers_have_time_to_stop() -> None:
    for name in ("api", "worker"):
        given = compose()["services"][name]["stop_grace_period"]
        assert int(given.removesuffix("s")) >= Settings().drain_s + 10


def test_the_container_file_copies_what_is_there_and_runs_what_is_there() -> None:
    stages, environment = 0, []
    for words in containerfile():
        match words:
            case ["FROM", image, *_]:
                stages += 1
                assert ":" in image
                assert not image.endswith(":latest")
            case ["COPY", *sources, _target] if not sources[0].startswith("--from"):
                assert not [source for source in sources if not (ROOT / source).exists()]
            case ["ENV", *pairs]:
                environment += [pair.partition("=")[0] for pair in pairs]
            case ["CMD" | "ENTRYPOINT", *_]:
                assert words[1].startswith("[")
    assert stages == 2
    assert not settings_among(environment)
    text = (CONTAINER / "Containerfile").read_text(encoding="utf-8")
    [command] = re.findall(r"^CMD (\[.*\])$", text, re.MULTILINE)
    assert re.findall(r"^ENTRYPOINT (\[.*\])$", text, re.MULTILINE) == ['["quartermaster"]']
    parse(json.loads(command))
    assert text.rindex("\nUSER quartermaster") < text.index("\nENTRYPOINT")  # never as root


def test_the_container_is_built_from_all_packages_and_pinned() -> None:
    text = (CONTAINER / "Containerfile").read_text(encoding="utf-8")
    assert "-c constraints.txt" in text
    for package in ("models", "optimizer", "service", "benchmarks"):
        assert f"COPY {package} {package}" in text
