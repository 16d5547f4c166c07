"""A traced network has the shapes of its closed form: the same measured curves serve both."""

from collections import Counter
from typing import Any

import pytest

from models.runtime.calibration.curves import shape_of
from models.runtime.families.work import work as closed_form
from models.runtime.job import Family, Mode
from models.runtime.operators import Operator, OperatorClass, Phase, Work
from models.runtime.trace import traced, traced_factory

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402

from service.measure.grid import jobs  # noqa: E402
from service.measure.torch_jobs import built  # noqa: E402

EXACT = {
    OperatorClass.matmul,
    OperatorClass.attention,
    OperatorClass.convolution,
    OperatorClass.pointwise_convolution,
    OperatorClass.normalisation,
    OperatorClass.softmax,
    OperatorClass.recurrent,
    OperatorClass.pooling,
}


def shapes(work: Work) -> Counter[tuple[str, ...]]:
    """Calls of each phase and shape."""
    found: Counter[tuple[str, ...]] = Counter()
    for operator in work.operators:
        if operator.cls in EXACT:
            found[key(operator)] += int(operator.calls)
    return found


def key(operator: Operator) -> tuple[str, ...]:
    shape = shape_of(operator, 0.0)
    return operator.phase.value, shape.kind, *(f"{number:.6f}" for number in shape.numbers)


@pytest.mark.parametrize("family", [Family.mlp, Family.cnn, Family.encoder, Family.decoder, Family.lstm])
@pytest.mark.parametrize("mode", [Mode.train, Mode.prefill])
def test_every_shape_of_a_family(family: Family, mode: Mode) -> None:
    spec = next(job for job in jobs("quick") if job.family is family).model_copy(update={"mode": mode, "batch": 2})

    def factory() -> tuple[Any, ...]:
        job = built(spec, "cpu")
        return (job.network, job.inputs, job.loss) if spec.training else (job.network, job.inputs)

    found = traced_factory(factory, mode=mode, optimizer=spec.optimizer).work
    assert shapes(found) == shapes(closed_form(spec))


def test_causal_attention_is_told_from_full() -> None:
    class Attend(nn.Module):
        def __init__(self, *, causal: bool) -> None:
            super().__init__()
            self.causal = causal

        def forward(self, x: Any) -> Any:
            return functional.scaled_dot_product_attention(x, x, x, is_causal=self.causal)

    keys = []
    for causal in (False, True):
        work = traced(Attend(causal=causal), (torch.zeros(2, 4, 16, 8),), mode=Mode.prefill).work
        keys += [row.shape_key for row in work.operators if row.cls is OperatorClass.attention]
    assert keys == ["attention 2x16x16 4 heads of 8", "attention 2x16x16 4 heads of 8 causal"]


def test_what_has_no_closed_form_keeps_its_name() -> None:
    work = traced(nn.Sequential(nn.Linear(4, 4), nn.Softplus()), (torch.zeros(3, 4),), mode=Mode.prefill).work
    assert {row.shape_key for row in work.operators} == {"matmul 1x3x4x4", "softplus 3x4"}
    assert {row.phase for row in work.operators} == {Phase.forward}
