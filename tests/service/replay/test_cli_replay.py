"""The command ``replay``: its files, its report, what it says of bad input; and every example of the page."""

import csv
import json
import re
import shlex
from pathlib import Path

import pytest

from service.replay import filling
from service.replay.measures import MEASURES
from service.replay.policies import POLICIES, RULES
from service.replay.queues import DISCIPLINES
from tests.service.test_cli import loads_strictly, run

PAGE = Path(__file__).resolve().parents[3] / "service" / "replay" / "README.md"
TEXT = PAGE.read_text(encoding="utf-8")
SMALL = ("replay", "60", "--format", "synthetic", "--nodes", "4xV100:8", "--skip-never-fits")
DRAWN = ("--arrivals", "poisson", "--load", "0.9")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, flags=re.MULTILINE | re.DOTALL)


def test_shell_examples_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    first, second = blocks("sh")[0].splitlines()
    name, *arguments = shlex.split(first)
    assert name == "quartermaster"
    assert run(*arguments) == 0
    shown = capsys.readouterr().out
    assert "400 jobs on 8 nodes with 64 GPUs, offered load 0.9, 3 seeds" in shown
    assert {path.name for path in Path("replayed").iterdir()} == {"replay.html", "replays.csv", "comparison.csv", "replay.json"}
    assert run(*shlex.split(second)[1:]) == 0
    told = loads_strictly(capsys.readouterr().out)
    assert {one["policy"] for one in told["replays"]} == {"backfill", "easy+fgd"}
    assert run(*shlex.split(blocks("sh")[1])[1:]) == 0
    assert {path.name for path in Path("filled").iterdir()} == {"fills.csv", "comparison.csv", "fill.json"}
    assert "None can allocate more than" in capsys.readouterr().out


def test_python_example_of_the_page(capsys: pytest.CaptureFixture[str]) -> None:
    [code] = blocks("python")
    exec(compile(code, "README.md", "exec"), {"__name__": "example"})  # noqa: S102  (our own page)
    lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"backfill \d+ first", lines[0])
    assert re.fullmatch(r"quartermaster \d+ (better|worse|open)", lines[1])


def test_the_page_names_everything_there_is() -> None:
    for name in (*POLICIES, *filling.POLICIES, *DISCIPLINES, *RULES, *(one.name for one in MEASURES)):
        assert f"`{name}`" in TEXT, name


def test_files_agree_with_each_other(tmp_path: Path) -> None:
    assert run(*SMALL, *DRAWN, "--seeds", 3, "--policies", "fifo,quartermaster", "--out", tmp_path / "made") == 0
    told = loads_strictly((tmp_path / "made" / "replay.json").read_text(encoding="utf-8"))
    with (tmp_path / "made" / "replays.csv").open(encoding="utf-8") as stream:
        replays = list(csv.DictReader(stream))
    with (tmp_path / "made" / "comparison.csv").open(encoding="utf-8") as stream:
        compared = list(csv.DictReader(stream))
    assert len(replays) == len(told["replays"]) == 6
    assert len(compared) == len(told["compared"]) == 2 * len(MEASURES)
    mean = sum(float(line["jct_mean_s"]) for line in replays if line["policy"] == "fifo") / 3
    line = next(one for one in compared if (one["policy"], one["measure"]) == ("fifo", "jct_mean_s"))
    assert float(line["mean"]) == pytest.approx(mean)
    assert all(len(one["time_s"]) == len(one["allocated_percent"]) for one in told["over_time"])
    assert max(max(one["allocated_percent"]) for one in told["over_time"]) <= 100 + 1e-9


def test_the_report_needs_no_other_file(tmp_path: Path) -> None:
    assert run(*SMALL, *DRAWN, "--seeds", 2, "--out", tmp_path) == 0
    page = (tmp_path / "replay.html").read_text(encoding="utf-8")
    assert not re.search(r"""(src|href)=["'](?!data:)|https?://|<script|@import|url\(""", page)
    assert page.count("<svg") == 3
    for policy in ("fifo", "best_fit", "fgd", "backfill", "quartermaster"):
        assert f">{policy}<" in page
    assert "while jobs come" in page


def test_names_from_the_user_stay_text(tmp_path: Path) -> None:
    trace = tmp_path / "<b>&.csv"
    trace.write_text("job_id,submit_s,gpus,duration_s\na,0,1,5\nb,1,1,5\n", encoding="utf-8")
    assert run("replay", trace, "--format", "philly", "--nodes", "1xV100:1", "--out", tmp_path / "made") == 0
    page = (tmp_path / "made" / "replay.html").read_text(encoding="utf-8")
    assert "<b>&.csv" not in page
    assert "&lt;b&gt;&amp;.csv" in page


def test_where_nothing_is_drawn_one_replay_tells_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text("job_id,submit_s,gpus,duration_s\na,0,1,5\nb,1,1,5\n", encoding="utf-8")
    assert run("replay", trace, "--format", "philly", "--nodes", "1xV100:1", "--policies", "fifo,backfill", "--json") == 0
    told = loads_strictly(capsys.readouterr().out)
    assert [one["seed"] for one in told["replays"]] == [0, 0]
    assert "nothing is drawn" in told["notes"][0]
    assert [one["measures"]["jct_mean_s"] for one in told["replays"]] == [7.0, 7.0]


def test_outages_from_a_file_evict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace, outages = tmp_path / "trace.csv", tmp_path / "outages.csv"
    trace.write_text("job_id,submit_s,gpus,duration_s\na,0,1,50\n", encoding="utf-8")
    outages.write_text("node,down_s,up_s\nV100-0,30,40\n", encoding="utf-8")
    assert run("replay", trace, "--format", "philly", "--nodes", "1xV100:1", "--policies", "fifo", "--outages", outages, "--json") == 0
    [one] = loads_strictly(capsys.readouterr().out)["replays"]
    assert (one["measures"]["evictions"], one["measures"]["jct_mean_s"]) == (1.0, 90.0)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--policies", "fifo,magic"), "there is no policy 'magic'"),
        (("--policies", "fifo,fifo"), "names a policy twice"),
        (("--format", "xml"), "there is no such format; take one of openb"),
        (("--arrivals", "never"), "take one of recorded, poisson"),
        (("--estimates", "good"), "take one of exact, noisy, limit"),
        (("--load", "0"), "--load: must be a number above 0"),
        (("--mean-up-h", "nan"), "--mean-up-h: must be a number above 0"),
        (("--move-s", "-1"), "--move-s: must be a number of 0 or more"),
        (("--nodes", "nothing"), "is not NODESxMODEL:GPUS"),
        (("--jobs", "61"), "has 60 jobs and 61 are asked for"),
        (("--outages", "nowhere.csv"), "nowhere.csv: cannot be read"),
    ],
)
def test_bad_input_is_one_clear_error(arguments: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("replay", "60", "--format", "synthetic", "--nodes", "8xV100:8", *arguments) == 2
    shown = capsys.readouterr().err.strip().splitlines()
    assert len(shown) == 1
    assert said in shown[0]


def test_a_folder_that_cannot_be_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    assert run(*SMALL, "--out", tmp_path / "file") == 2
    assert "the folder cannot be made" in capsys.readouterr().err


def test_json_is_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*SMALL, *DRAWN, "--seeds", 2, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["settings"]["load"] == 0.9
    assert told["settings"]["cluster_gpus"] == 32
