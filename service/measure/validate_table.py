"""The results of a validation as the tables of a page: ``python -m service.measure.validate_table results.json [PAGE.md]``.

Without a page the tables are printed; with one they take the place of what stands there between the two marks.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

BEGIN, END = "<!-- results -->", "<!-- end of results -->"
CLAIMS = {
    "makespan_error": "makespan (predicted, median of batches)",
    "regret": "regret against the oracle (mean)",
    "saving": "below random assignment (mean)",
    "saving_even": "below random assignment with equally many jobs each (mean)",
}


def tables(told: Mapping[str, Any]) -> str:
    """All tables in Markdown, with one line about where and when."""
    runs = told["runs"]
    devices = ", ".join(f"{place['name']} ({place['title']})" for place in told["devices"])
    processor = told["machine"].get("processor") or told["machine"]["name"]
    about = (
        f"{runs['counted']} of {runs['batches']} batches on {devices}; {processor}; frozen {told['frozen_at'][:10]}, seed {told['seed']}, "
        f"SHA-256 `{told['sha256'][:16]}`; {runs['refused']} of {runs['made']} runs refused as disturbed. Intervals: 95%."
    )
    flags = "".join(f"\nFlag: {flag}.\n" for flag in told["flags"])
    return "\n".join([about, flags, _claims(told["claims"]), _forecasts(told["forecasts"]), _rules(told["rules"]), _noise(told["noise"])])


def between_marks(page: str) -> str:
    """What stands between the two marks of a page. Raises ValueError where they are not there."""
    head, mark, rest = page.partition(BEGIN)
    inside, end, _ = rest.partition(END)
    if not mark or not end:
        raise ValueError(f"the page {head[:40]!r} has no {BEGIN} followed by {END}")
    return inside.strip()


def filled(page: str, text: str) -> str:
    """The page with other text between its marks."""
    between_marks(page)
    head, _, rest = page.partition(BEGIN)
    return f"{head}{BEGIN}\n{text.strip()}\n{END}{rest.partition(END)[2]}"


def _claims(claims: Mapping[str, Any]) -> str:
    rows = []
    for name, row in claims.items():
        least, most = row.get("at_least"), row.get("at_most")
        limit = f"at least {least:.0%}" if least is not None else f"at most {most:.0%}" if most is not None else ""
        met = {True: "met", False: "missed", None: "not claimed"}[row["met"]] if "met" in row else ""
        rows.append((CLAIMS.get(name, name), limit, f"**{row['value']:.1%}**", _ends(row), met))
    return _table(("what must hold", "limit", "measured", "interval", ""), rows)


def _forecasts(forecasts: Mapping[str, Any]) -> str:
    rows = [
        (
            "this model" if name == "model" else f"{name} (replayed)",
            f"{row['job_error_median']:.1%} / {row['job_error_p90']:.1%}",
            _both(row["makespan_error"]),
            _both(row["regret"]),
            _both(row["saving"]),
        )
        for name, row in forecasts.items()
    ]
    cover = f"p10 to p90 covers {forecasts['model']['p10_to_p90_cover']:.0%} of the jobs (80% meant).\n"
    return _table(("forecast", "error of a job, median / 90th percentile", "makespan error", "regret", "below random"), rows) + "\n" + cover


def _rules(rules: Mapping[str, Any]) -> str:
    rows = []
    for name, row in rules.items():
        executed = (
            (_both(row["executed"]), _both(row["executed_wall"]), str(row["batches_executed"])) if "executed" in row else ("", "", "0")
        )
        rows.append((name, _both(row["replayed"]), *executed))
    return _table(("rule: longer than ours by", "replayed", "executed", "executed, wall seconds", "batches executed"), rows) if rows else ""


def _noise(noise: Mapping[str, Any]) -> str:
    if noise["job_median"] is None:
        return "Noise floor: nothing was run twice."
    text = f"Noise floor: the same job again differs by {noise['job_median']:.1%} (median of {noise['pairs_of_jobs']} pairs)"
    return text + (f", the same schedule by {noise['makespan_median']:.1%}." if noise["makespan_median"] is not None else ".")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _both(row: Mapping[str, float]) -> str:
    return f"{row['value']:.1%} {_ends(row)}"


def _ends(row: Mapping[str, float]) -> str:
    return f"[{row['low']:.1%}, {row['high']:.1%}]"


def main(arguments: Sequence[str]) -> int:
    """Prints the tables, or puts them into a page; 2 for wrong arguments."""
    if len(arguments) not in {1, 2}:
        sys.stderr.write("usage: python -m service.measure.validate_table results.json [PAGE.md]\n")
        return 2
    text = tables(json.loads(Path(arguments[0]).read_text(encoding="utf-8")))
    if len(arguments) == 1:
        sys.stdout.write(text + "\n")
    else:
        page = Path(arguments[1])
        page.write_text(filled(page.read_text(encoding="utf-8"), text), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
