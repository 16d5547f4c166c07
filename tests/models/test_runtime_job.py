"""Jobs: what contradicts itself is refused with the place and the cure; derived sizes are right."""

from typing import Any

import pytest
from pydantic import ValidationError

from models.runtime.job import Family, JobSpec, Mode, OptimizerName, Parallel


@pytest.mark.parametrize(
    ("fields", "place", "words"),
    [
        ({"family": "cnn", "layers": 18, "mode": "decode"}, "/mode", "give the family cnn the mode prefill"),
        ({"family": "cnn", "layers": 20}, "/layers", "not 20"),
        ({"family": "encoder", "width": 10, "heads": 3}, "/heads", "3 heads do not divide the width 10"),
        ({"family": "decoder", "seq": 8, "positions": 8, "mode": "decode"}, "/positions", "9 tokens need as many"),
        ({"family": "mlp", "checkpointing": True}, "/checkpointing", "mlp has no blocks"),
        ({"family": "lstm", "parallel": {"tp": 2}}, "/parallel", "leave tp and pp at 1"),
        ({"family": "encoder", "layers": 2, "parallel": {"pp": 3}}, "/parallel/pp", "3 stages need as many layers"),
        ({"family": "mlp", "mode": "prefill", "parallel": {"grad_accum": 2}}, "/parallel/grad_accum", "accumulates no gradients"),
    ],
)
def test_a_contradiction_is_refused(fields: dict[str, Any], place: str, words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        JobSpec.model_validate(fields)
    assert place in str(caught.value)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "fields", [{"batch": 0}, {"steps": -1}, {"input_bytes_per_step": float("inf")}, {"batch_size": 3}, {"layers": 2.5}]
)
def test_a_bad_field_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        JobSpec.model_validate({"family": "mlp"} | fields)


def test_sizes_that_follow_from_others() -> None:
    job = JobSpec(family=Family.decoder, width=8, heads=2, seq=5, batch=3, mode=Mode.decode)
    assert (job.hidden, job.position_count, job.training) == (32, 6, False)
    spread = JobSpec(family=Family.mlp, batch=3, parallel=Parallel(dp=4, grad_accum=2))
    assert (spread.samples_per_step, spread.parallel.devices) == (24, 4)


def test_moments_of_optimisers() -> None:
    assert [name.moments for name in OptimizerName] == [0, 1, 2, 2]


def test_a_job_survives_as_a_document_and_is_a_key() -> None:
    job = JobSpec(family=Family.cnn, layers=50, parallel=Parallel(dp=2))
    again = JobSpec.model_validate_json(job.model_dump_json())
    assert {job: 1}[again] == 1
