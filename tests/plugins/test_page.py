"""The page of the core lists what there is."""

from __future__ import annotations

import re
from pathlib import Path

from service.plugins.modes import Mode
from service.plugins.planner import TROUBLES
from service.plugins.recheck import Refused
from service.plugins.settings import PluginSettings
from service.plugins.telemetry import PluginTelemetry

FOLDER = Path(__file__).resolve().parents[2] / "service" / "plugins"
PAGE = (FOLDER / "README.md").read_text(encoding="utf-8")


def rows(heading: str) -> list[list[str]]:
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in section.splitlines() if line.startswith("| `")]


def test_every_setting_is_listed_with_its_default_and_meaning() -> None:
    def shown(value: object) -> str:
        return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(getattr(value, "value", value))

    expected = [[f"`{name}`", shown(field.default), field.description or ""] for name, field in PluginSettings.model_fields.items()]
    assert rows("Settings") == expected


def test_every_metric_is_listed() -> None:
    families = PluginTelemetry().registry.collect()
    expected = [[f"`{one.name}{'_total' if one.type == 'counter' else ''}`", one.documentation] for one in families]
    assert rows("Metrics") == expected


def test_every_reason_and_mode_is_named() -> None:
    named = set(re.findall(r"`(\w+)`", PAGE))
    assert {refused.value for refused in Refused} <= named
    assert {mode.value for mode in Mode} <= named
    assert set(TROUBLES) - {"no_plan", "fault"} <= named


def test_the_files_it_names_exist() -> None:
    for name in re.findall(r"\| `?(?:[a-z ]+)`? \| ((?:`\w+\.py`(?:, )?)+) \|", PAGE):
        for file in re.findall(r"`(\w+\.py)`", name):
            assert (FOLDER / file).is_file(), file
