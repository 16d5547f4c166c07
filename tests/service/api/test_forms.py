"""Linear programs as files: in a form, as text in JSON, compressed, and every way in which they can be wrong."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from typing import Any

import pytest

from service.api import forms
from service.api.examples import LP, MPS
from service.settings import Settings
from tests.service.api.conftest import MakeHouse
from tests.service.api.house import House

LIMITED = json.dumps({"limits": {"time_limit_s": 5}, "priority": 2})


def form(house: House, file: tuple[str, bytes] | None, headers: Mapping[str, str] | None = None, **fields: Any) -> Any:
    files: dict[str, Any] = {} if file is None else {"file": file}
    files |= {name: (None, text) for name, text in fields.items()}
    return house.ask("POST", "/v1/runs", files=files, headers=headers or {})


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("model.mps", MPS.encode()),
        ("model.MPS", MPS.encode()),
        ("model.mps.gz", gzip.compress(MPS.encode())),
        ("model.lp", LP.encode()),
        ("model.lp.gz", gzip.compress(LP.encode())),
    ],
)
def test_a_file(name: str, data: bytes, house: House) -> None:
    found = form(house, (name, data), request=LIMITED)
    run = found.json()
    assert (found.status_code, run["kind"], run["priority"], run["limits"]["time_limit_s"]) == (202, "program", 2, 5.0), found.text
    kept = house.get(f"/v1/problems/{run['problem_id']}").json()
    assert kept["problem"]["columns"]["names"] == (["x"] if "mps" in name.lower() else ["x", "y"])


def test_the_same_program_in_every_form_is_one_problem(house: House) -> None:
    by_form = form(house, ("anything", MPS.encode()), format="mps").json()["problem_id"]
    by_text = house.run(kind="program", problem={"format": "mps", "text": MPS})["problem_id"]
    kept = house.get(f"/v1/problems/{by_form}").json()["problem"]
    assert by_form == by_text == house.run(kind="program", problem=kept)["problem_id"]


def test_a_form_is_sent_again(house: House) -> None:
    """The parts' boundary, which every client draws anew, is not part of the request."""
    key = {"Idempotency-Key": "one"}
    first, second = (form(house, ("model.mps", MPS.encode()), key) for _ in range(2))
    assert first.json()["id"] == second.json()["id"]
    other = form(house, ("model.mps", MPS.replace("4.0", "5.0").encode()), key)
    assert other.json()["code"] == "idempotency_key_reused"


def test_a_program_is_solved(working: House) -> None:
    run = house_run(working)
    assert (run["state"], run["outcome"], run["objective"], run["verified"]) == ("succeeded", "optimal", 4.0, True)


def house_run(house: House) -> dict[str, Any]:
    found: dict[str, Any] = form(house, ("model.mps", MPS.encode()), {"Prefer": "wait=60"}).json()
    return found


@pytest.mark.parametrize(
    ("file", "fields", "pointer"),
    [
        (None, {"request": "{}"}, "/file"),
        (("model.mps", b""), {}, "/file"),
        (("model.mps", b"lorem ipsum"), {}, "/file"),
        (("model.mps", b"\x00\x01\xff" * 100), {}, "/file"),
        (("model.lp", b"Minimize\n obj: [ x^2 ] / 2\nSubject To\n c: x >= 1\nEnd\n"), {}, "/file"),
        (("model.mps.gz", b"\x1f\x8b plain"), {}, "/file"),
        (("model.mps.gz", gzip.compress(MPS.encode())[:-9]), {}, "/file"),
        (("model.txt", MPS.encode()), {}, "/file"),
        (("model.mps", MPS.encode()), {"format": "nl"}, "/format"),
        (("model.mps", MPS.encode()), {"colour": "red"}, "/file"),
        (("model.mps", MPS.encode()), {"request": '{"colour": 1}'}, "/colour"),
        (("model.mps", MPS.encode()), {"request": '{"kind": "placement"}'}, "/kind"),
        (("model.mps", MPS.encode()), {"request": '{"limits": {"threads": 1000}}'}, "/limits/threads"),
        (("model.mps", MPS.encode()), {"request": '{"problem_id": "prob_00000000000000000000000000000000"}'}, "/problem_id"),
        (("model.mps", MPS.encode()), {"request": '{"kind": "program", "problem": {"format": "mps", "text": "x"}}'}, "/problem"),
    ],
)
def test_a_form_that_cannot_be_used(file: Any, fields: dict[str, Any], pointer: str, house: House) -> None:
    found = form(house, file, **fields)
    assert found.status_code == 422, found.text
    assert found.json()["errors"][0]["pointer"] == pointer, found.text
    assert house.get("/v1/runs").json()["runs"] == []


@pytest.mark.parametrize(
    ("problem", "pointer"),
    [
        ({"format": "mps", "text": "lorem ipsum"}, "/problem/text"),
        ({"format": "mps", "text": ""}, "/problem/text"),
        ({"format": "nl", "text": MPS}, "/problem/format"),
        ({"text": MPS}, "/problem/format"),
        ({"format": "mps", "text": MPS, "name": "x"}, "/problem/name"),
    ],
)
def test_a_text_that_cannot_be_used(problem: dict[str, Any], pointer: str, house: House) -> None:
    found = house.post("/v1/runs", {"kind": "program", "problem": problem})
    assert (found.status_code, found.json()["errors"][0]["pointer"]) == (422, pointer), found.text


@pytest.mark.parametrize("content", [b"", b"lorem ipsum", b"--x\r\n\r\n", b'--x\r\nContent-Disposition: form-data; name="file"'])
@pytest.mark.parametrize("boundary", ["; boundary=x", "", "; boundary="])
def test_a_broken_form(content: bytes, boundary: str, house: House) -> None:
    found = house.ask("POST", "/v1/runs", content=content, headers={"Content-Type": f"multipart/form-data{boundary}"})
    assert found.status_code in {400, 422}, found.text
    assert found.headers["content-type"] == "application/problem+json"


def test_limits_of_programs(make_house: MakeHouse) -> None:
    house = make_house(most_program_columns=1)
    assert form(house, ("model.mps", MPS.encode())).status_code == 202
    assert form(house, ("model.lp", LP.encode())).json()["errors"][0]["pointer"] == "/file"


def test_a_file_that_unfolds(make_house: MakeHouse) -> None:
    bomb = gzip.compress(b" " * 2**24)
    found = form(make_house(largest_body_mib=1), ("model.mps.gz", bomb))
    assert (found.status_code, found.json()["code"]) == (413, "too_large")


def test_a_file_of_several_members(house: House) -> None:
    data = MPS.encode()
    members = gzip.compress(data[:40]) + gzip.compress(data[40:])
    whole = form(house, ("model.mps", data)).json()["problem_id"]
    assert form(house, ("model.mps.gz", members)).json()["problem_id"] == whole
    found = form(house, ("model.mps.gz", members + b"more"))
    assert (found.status_code, found.json()["errors"][0]["code"]) == (422, "bad_gzip")


def test_a_request_that_is_too_long_for_a_field(house: House) -> None:
    """It is read at once, while all others wait."""
    found = form(house, ("model.mps", MPS.encode()), request='{"cache": true' + " " * forms.LARGEST_REQUEST + "}")
    assert (found.status_code, found.json()["code"]) == (413, "too_large")
    assert form(house, ("model.mps", MPS.encode()), request='{"cache": true' + " " * 1_000 + "}").status_code == 202


@pytest.mark.parametrize(("charset", "status"), [("utf-8", 202), ("punycode", 400), ("unicode_escape", 400), ("idna", 400)])
def test_a_form_in_another_charset(charset: str, status: int, house: House) -> None:
    body = f'--x\r\nContent-Disposition: form-data; name="file"; filename="a.mps"\r\n\r\n{MPS}\r\n--x--\r\n'
    headers = {"Content-Type": f"multipart/form-data; boundary=x; charset={charset}"}
    assert house.ask("POST", "/v1/runs", content=body.encode(), headers=headers).status_code == status


def test_a_file_that_kills_its_reader(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was the file: the request is at fault, not the service."""
    run = house.pool.run
    killer = "tests.service.api.rogue:crash"
    monkeypatch.setattr(house.pool, "run", lambda _target, payload, **limits: run(killer, payload, **limits))
    found = form(house, ("model.mps", MPS.encode()))
    assert (found.status_code, found.json()["errors"][0]["code"]) == (422, "unreadable_program")


def test_the_settings_have_limits_of_programs() -> None:
    assert Settings().most_program_rows > 1_000
