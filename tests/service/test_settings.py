"""What an operator can set, and whether the operator's page says so."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
from pydantic import SecretStr, ValidationError
from pydantic.fields import FieldInfo

from service.cli import app, main
from service.cli.operation import settings_with
from service.settings import Settings
from tests.conformance.documents import ROOT, commands, section, tables

PAGE = ROOT / "service" / "README.md"
TEXT = PAGE.read_text(encoding="utf-8")
RUN_UNTIL_STOPPED = {"serve", "worker"}


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"QUARTERMASTER_{name.upper()}", raising=False)


def told_default(field: FieldInfo) -> str:
    """A default as the page writes it."""
    value: Any = field.default
    if field.default_factory is not None:
        return "one for each CPU"
    if value is None:
        return "none"
    if isinstance(value, SecretStr):
        return f"`{value.get_secret_value()}`"
    return f"`{str(value).lower() if isinstance(value, bool) else format(value, 'g') if isinstance(value, float) else value}`"


def test_the_page_lists_every_setting_as_it_is() -> None:
    """A new setting, a changed default or a reworded description belongs on the page too; a removed one no longer does."""
    [table] = tables(section(TEXT, "Settings"))
    told = [(row["setting"], row["default"], row["meaning"]) for row in table]
    assert told == [
        (f"`QUARTERMASTER_{name.upper()}`", told_default(field), field.description) for name, field in Settings.model_fields.items()
    ]


def test_every_variable_on_the_page_is_a_setting() -> None:
    known = {f"QUARTERMASTER_{name.upper()}" for name in Settings.model_fields}
    assert not set(re.findall(r"QUARTERMASTER_[A-Z_]+[A-Z]", TEXT)) - known


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUARTERMASTER_SLOTS", "3")
    monkeypatch.setenv("QUARTERMASTER_DATABASE_URL", "postgresql://me:hunter2@host/name")
    monkeypatch.setenv("QUARTERMASTER_RETENTION_DAYS", "1.5")
    settings = Settings()
    assert (settings.slots, settings.retention_days) == (3, 1.5)
    assert "hunter2" not in repr(settings)
    with pytest.raises(ValidationError):
        settings.slots = 4  # type: ignore[misc]


@pytest.mark.parametrize(
    ("name", "value"),
    [("port", "70000"), ("port", "http"), ("slots", "0"), ("lease_s", "inf"), ("lease_s", "-1"), ("log_format", "xml"), ("trace", "maybe")],
)
def test_an_impossible_setting_is_told_by_its_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, value: str
) -> None:
    monkeypatch.setenv(f"QUARTERMASTER_{name.upper()}", value)
    with pytest.raises(SystemExit) as stop:
        main(["keys", "list"])
    assert stop.value.code == 2
    told = capsys.readouterr().err
    assert f"QUARTERMASTER_{name.upper()}: " in told
    assert len(told.splitlines()) == 1


def test_options_come_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUARTERMASTER_PORT", "1")
    assert settings_with(port=2, host=None).port == 2
    assert settings_with(port=None).port == 1


@pytest.mark.parametrize(
    ("given", "required"),
    [
        ({}, False),
        ({"host": "::1"}, False),
        ({"host": "0.0.0.0"}, True),  # noqa: S104  (nothing listens)
        ({"host": "10.1.2.3"}, True),
        ({"host": "solver.example"}, True),
        ({"require_keys": True}, True),
        ({"host": "10.1.2.3", "require_keys": False}, False),
    ],
)
def test_keys_are_required_beyond_loopback(given: dict[str, Any], required: bool) -> None:
    assert Settings(**given).keys_required is required


# ---------------------------------------------------------------- the commands of the page


def test_the_commands_of_the_page_are_there() -> None:
    """Those that run until they are stopped are only parsed here; tests/service/test_serve.py runs them."""
    root = typer.main.get_command(app)
    found = commands(TEXT)
    assert {words[0] for words in found} == {"serve", "worker", "keys", "backup", "restore"}
    for words in found:
        with root.make_context("quartermaster", list(words), resilient_parsing=False) as context:
            name, command, rest = root.resolve_command(context, list(words))  # type: ignore[attr-defined]
            command.make_context(name, rest, parent=context)


def test_the_commands_of_the_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    for words in commands(TEXT):
        if words[0] not in RUN_UNTIL_STOPPED:
            with pytest.raises(SystemExit) as stop:
                main(words)
            assert stop.value.code == 0, (words, capsys.readouterr().err)
    assert {"quartermaster.db", "saved.db", "quartermaster.db.before-restore"} <= {entry.name for entry in tmp_path.iterdir()}


def test_commands_in_sentences_are_there() -> None:
    root = typer.main.get_command(app)
    for quoted in re.findall(r"`(quartermaster [^`]+)`", TEXT):
        name, *rest = shlex.split(quoted)[1:]
        command = root.get_command(None, name)  # type: ignore[attr-defined]
        assert command is not None, quoted
        if rest and not rest[0].startswith("-") and name == "keys":
            assert command.get_command(None, rest[0]) is not None, quoted


def test_the_links_of_the_page_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#\s]+)", TEXT)
    assert links
    assert not [link for link in links if "://" not in link and not (PAGE.parent / link).exists()]
