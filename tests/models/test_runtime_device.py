"""Devices: paths to every coefficient, refusals, and the known boards against a public table."""

import csv
import os
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from models.runtime.device import DeviceSpec, Hull, Peak, Source, Tier, Uncertainty
from models.runtime.devices_known import BOARDS, cpu_device, known_devices
from models.runtime.operators import ComputeUnit, Precision
from tests.models.runtime_devices import links, measured, plain_device, tiered_device

SHARED = Path(os.environ.get("QUARTERMASTER_SHARED_DATA") or Path(__file__).resolve().parents[2].parent / "shared" / "data")
UNSORTED = (
    Tier(name="l3", capacity_bytes=2e6, bytes_per_s=measured(2e9)),
    Tier(name="l2", capacity_bytes=1e6, bytes_per_s=measured(3e9)),
    Tier(name="dram", bytes_per_s=measured(1e9)),
)
IN_TABLE = {
    "K80": "Tesla K80",
    "P100-PCIE-16GB": "Tesla P100",
    "V100-PCIE-16GB": "Tesla V100-PCIE-16GB",
    "V100-SXM2-16GB": "Tesla V100-SXM2-16GB",
    "T4": "T4",
    "RTX-2080-Ti": "RTX 2080 Ti",
    "L4": "L4",
}


def test_every_coefficient_has_a_path_and_can_be_replaced() -> None:
    device = tiered_device(links=links(), storage_bytes_per_s=measured(1e9))
    known = device.coefficients()
    for path in ("peak.matrix.fp32", "efficiency.matmul", "narrow.copy", "backward.softmax", "traffic.copy", "overhead_s.optimiser"):
        assert path in known
    for path in ("bandwidth.cache", "start_up_s.train", "alpha_s.rack", "link_bytes_per_s.node", "warm_up_s", "storage_bytes_per_s"):
        assert path in known
    doubled = device.with_values({path: 2 * each.value for path, each in known.items()}, source=Source.transferred, date="2026-02-03")
    for path, each in doubled.coefficients().items():
        assert each.value == 2 * known[path].value, path
        assert (each.source, each.date) == (Source.transferred, "2026-02-03")
    one = device.with_values({"bandwidth.dram": 7.0}).coefficients()
    assert [path for path in known if one[path] != known[path]] == ["bandwidth.dram"]
    assert DeviceSpec.model_validate_json(doubled.model_dump_json()) == doubled


def test_an_unknown_path_is_refused() -> None:
    with pytest.raises(KeyError, match=r"plain has no coefficient 'efficiency\.matmull'"):
        plain_device().with_values({"efficiency.matmull": 0.5})
    with pytest.raises(ValueError, match=r"efficiency\.matmul of plain is 0"):
        plain_device().with_values({"efficiency.matmul": 0.0})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"tiers": (Tier(name="dram", capacity_bytes=1e9, bytes_per_s=measured(1e9)),)}, "the last has none"),
        ({"tiers": UNSORTED}, "from the smallest to the largest"),
        ({"peaks": (Peak(unit=ComputeUnit.matrix, precision=Precision.fp32, flops_per_s=measured(1)),) * 2}, "matrix fp32 is given twice"),
        ({"peaks": (Peak(unit=ComputeUnit.matrix, precision=Precision.fp32, flops_per_s=measured(0)),)}, "nothing would ever end"),
        ({"overlap_gamma": measured(0.5)}, "at least 1"),
        ({"fragmentation": measured(0.9)}, "at least 1"),
        ({"memory_gib": 0}, "greater than 0"),
        ({"uncertainty": Uncertainty(paths=("speed",), covariance=((1.0,),))}, "no coefficient 'speed'"),
        ({"links": (*links(), links()[0])}, "node is given twice"),
    ],
)
def test_a_contradiction_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        plain_device(**changes)


@pytest.mark.parametrize("covariance", [(), ((1.0,),), ((1.0, 0.1), (0.2, 1.0)), ((1.0, 0.0), (0.0, -1.0))])
def test_a_covariance_must_be_one(covariance: tuple[tuple[float, ...], ...]) -> None:
    with pytest.raises(ValidationError, match=r"rows of 2 numbers|symmetric"):
        Uncertainty(paths=("efficiency.matmul", "bandwidth.dram"), covariance=covariance)


def test_an_empty_hull_and_no_uncertainty_are_fine() -> None:
    assert plain_device(hull=Hull(), uncertainty=Uncertainty()).hull == Hull()


def test_known_boards_say_where_their_numbers_come_from() -> None:
    assert set(known_devices()) == {board.name for board in BOARDS}
    for device in known_devices().values():
        for path, each in device.coefficients().items():
            assert each.source in {Source.datasheet, Source.assumed}, path
            if each.source is Source.datasheet:
                assert each.note, path
                assert each.date, path


def test_known_boards_rank_as_they_should() -> None:
    boards = {board.name: board for board in BOARDS}
    ladder = ["K80", "P100-SXM2-16GB", "V100-SXM2-16GB", "A100-SXM4-80GB", "H100-SXM5-80GB", "H200-SXM-141GB"]
    rates = [boards[name].memory_gbytes_per_s for name in ladder]
    assert rates == sorted(rates)
    assert [board.name for board in BOARDS if board.bf16 is not None and board.tf32 is None] == []
    h100, h200 = boards["H100-SXM5-80GB"], boards["H200-SXM-141GB"]
    assert (h100.bf16, h100.fp32) == (h200.bf16, h200.fp32)  # the same processor with more and faster memory


def test_known_boards_against_the_public_table() -> None:
    path = SHARED / "gpu_specs" / "mlco2_gpus.csv"
    if not path.is_file():
        pytest.skip("the public table of mlco2 is not in the shared data (QUARTERMASTER_SHARED_DATA)")
    with path.open(encoding="utf-8") as lines:
        table = {row["name"].strip(): row for row in csv.DictReader(lines, skipinitialspace=True)}
    boards = {board.name: board for board in BOARDS}
    for name, there in IN_TABLE.items():
        assert boards[name].fp32 == pytest.approx(float(table[there]["TFLOPS32"]), rel=0.07), name
        assert boards[name].memory_gib == float(table[there]["memory"]), name
    assert boards["A100-SXM4-80GB"].fp16 == float(table["A100 SXM4 80 GB"]["TFLOPS16"])
    h100 = boards["H100-SXM5-80GB"]
    assert h100.fp16 is not None
    assert float(table["H100 SXM"]["TFLOPS16"]) == pytest.approx(2 * h100.fp16, rel=1e-3)  # the table's figure is with sparsity
    assert h100.tf32 is not None
    assert float(table["H100 SXM"]["TFLOPS32"]) == pytest.approx(2 * h100.tf32, rel=1e-3)  # and this one is not FP32 but TF32


def test_a_cpu_from_its_data_sheet() -> None:
    caches = [("l2", 2.0, 100.0), ("l3", 32.0, 60.0)]
    cpu = cpu_device("cpu", cores=2, ghz=2.5, fp32_flops_per_cycle=32, dram_gbytes_per_s=20, caches=caches, memory_gib=16)
    known = cpu.coefficients()
    assert known["peak.matrix.fp32"].value == 2 * 2.5e9 * 32
    assert known["peak.matrix.bf16"].value == known["peak.matrix.fp32"].value / 2
    assert known["bandwidth.dram"].value == 20e9
    assert [tier.name for tier in cpu.tiers] == ["l2", "l3", "dram"]
