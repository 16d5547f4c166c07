"""The page of validation says what the committed record says, and says so when there is none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from service.measure.validate_table import between_marks, filled, main, tables

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "models" / "runtime" / "validation.md"
COMMITTED = sorted((ROOT / "benchmarks" / "measured").glob("*-validation/results.json"))


def between(value: float) -> dict[str, float]:
    return {"value": value, "low": value - 0.01, "high": value + 0.01}


def made() -> dict[str, Any]:
    return {
        "sha256": "0123456789abcdef0123",
        "frozen_at": "2026-01-02T03:04:05+00:00",
        "seed": 1,
        "machine": {"name": "made-up"},
        "devices": [{"name": "core:0", "title": "one core"}, {"name": "core:1", "title": "one core"}],
        "runs": {"made": 24, "refused": 1, "batches": 20, "counted": 19},
        "flags": ["1 of 20 batches have no run that counts and are left out"],
        "claims": {
            "makespan_error": between(0.09) | {"at_most": 0.08, "at_least": None, "met": False},
            "saving": between(0.2) | {"at_most": None, "at_least": 0.15, "met": None},
            "saving_even": between(0.1),
        },
        "forecasts": {
            "model": {
                "job_error_median": 0.03,
                "job_error_p90": 0.09,
                "makespan_error": between(0.09),
                "regret": between(0.02),
                "saving": between(0.2),
                "p10_to_p90_cover": 0.79,
            }
        },
        "rules": {
            "fifo": {"replayed": between(0.1)},
            "lpt": {"replayed": between(0.02), "executed": between(0.03), "executed_wall": between(0.04), "batches_executed": 3},
        },
        "noise": {"job_median": 0.01, "job_p90": 0.03, "pairs_of_jobs": 12, "makespan_median": None, "pairs_of_runs": 0},
    }


def test_misses_and_flags_are_told() -> None:
    text = tables(made())
    assert "| makespan (predicted, median of batches) | at most 8% | **9.0%** | [8.0%, 10.0%] | missed |" in text
    assert "| below random assignment (mean) | at least 15% | **20.0%** | [19.0%, 21.0%] | not claimed |" in text
    assert "19 of 20 batches" in text
    assert "Flag: 1 of 20 batches" in text
    assert "| fifo | 10.0% [9.0%, 11.0%] |  |  | 0 |" in text
    assert "differs by 1.0% (median of 12 pairs)." in text


def test_tables_are_put_between_the_marks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record, page = tmp_path / "results.json", tmp_path / "page.md"
    record.write_text(json.dumps(made()), encoding="utf-8")
    page.write_text("before\n<!-- results -->\nold\n<!-- end of results -->\nafter\n", encoding="utf-8")
    assert main([str(record), str(page)]) == 0
    text = page.read_text(encoding="utf-8")
    assert between_marks(text) == tables(made()).strip()
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert filled(text, "old") == "before\n<!-- results -->\nold\n<!-- end of results -->\nafter\n"
    assert main([str(record)]) == 0
    assert "19 of 20 batches" in capsys.readouterr().out
    assert main([]) == 2
    with pytest.raises(ValueError, match="has no"):
        between_marks("nothing here")


def test_the_page_says_what_the_newest_record_says() -> None:
    told = between_marks(PAGE.read_text(encoding="utf-8"))
    if not COMMITTED:
        assert told.startswith("No quiet run is committed yet")
    else:
        assert told == tables(json.loads(COMMITTED[-1].read_text(encoding="utf-8"))).strip()
