"""Closed forms against torch's own counter, on the very networks that are measured, without computing anything (meta tensors)."""

from functools import partial
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from models.runtime.families.work import work  # noqa: E402
from models.runtime.job import Family, JobSpec  # noqa: E402
from models.runtime.operators import OperatorClass  # noqa: E402

networks = pytest.importorskip("service.measure.networks")
NETWORKS = {
    Family.mlp: networks.Mlp,
    Family.cnn: networks.Cnn,
    Family.encoder: networks.Encoder,
    Family.decoder: networks.Decoder,
    Family.recommender: networks.Recommender,
    Family.lstm: networks.Lstm,
}
LINEAR = ("aten.mm", "aten.addmm")
CONVOLVED = ("aten.convolution", "aten.convolution_backward")
CASES: list[dict[str, Any]] = [
    {"family": "mlp", "layers": 1, "batch": 8},
    {"family": "mlp", "layers": 4, "width": 48, "batch": 8},
    {"family": "cnn", "layers": 18, "width": 16, "batch": 2, "image_px": 64},
    {"family": "cnn", "layers": 34, "width": 8, "batch": 1, "image_px": 49},
    {"family": "cnn", "layers": 50, "width": 8, "batch": 2, "image_px": 50},
    {"family": "encoder", "layers": 2, "width": 32, "heads": 4, "seq": 16, "batch": 3, "vocab": 100},
    {"family": "decoder", "layers": 3, "width": 24, "heads": 2, "seq": 9, "batch": 2, "vocab": 70, "feed_forward": 40},
    {"family": "recommender", "batch": 16, "width": 64, "tables": 5, "lookups": 3},
    {"family": "lstm", "layers": 2, "width": 32, "seq": 5, "batch": 3, "vocab": 100},
]


def inputs(spec: JobSpec) -> tuple[Any, ...]:
    shapes: dict[Family, tuple[int, ...]] = {
        Family.mlp: (spec.batch, spec.inputs),
        Family.cnn: (spec.batch, spec.channels, spec.image_px, spec.image_px),
        Family.recommender: (spec.batch, spec.inputs),
    }
    if spec.family not in shapes:
        return (torch.zeros((spec.batch, spec.seq), dtype=torch.long, device="meta"),)
    rows = torch.zeros((spec.tables, spec.batch, spec.lookups), dtype=torch.long, device="meta")
    return (torch.zeros(shapes[spec.family], device="meta"), *((rows,) if spec.family is Family.recommender else ()))


def counted(spec: JobSpec) -> tuple[dict[str, float], int]:
    with torch.device("meta"):
        network = NETWORKS[spec.family](spec)
    network.train(spec.training)
    with FlopCounterMode(display=False) as counter:
        result = network(*inputs(spec))
        if spec.training:
            result.sum().backward()
    flops = {str(name): float(count) for name, count in counter.get_flop_counts()["Global"].items()}
    return flops, sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize("mode", ["train", "prefill"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['family']}-{case['layers'] if 'layers' in case else case['tables']}")
def test_products_and_parameters_are_those_of_the_network(case: dict[str, Any], mode: str) -> None:
    spec = JobSpec.model_validate(case | {"mode": mode})
    found, (flops, parameters) = work(spec), counted(spec)
    ours = found.flops_by_class()
    assert found.parameters == parameters
    convolved = ours.get(OperatorClass.convolution, 0.0) + ours.get(OperatorClass.pointwise_convolution, 0.0)
    assert convolved == sum(flops.get(name, 0.0) for name in CONVOLVED)
    linear = sum(flops.get(name, 0.0) for name in LINEAR)
    batched = flops.get("aten.bmm", 0.0)
    if spec.family is Family.recommender:
        assert ours[OperatorClass.matmul] == linear + batched
    elif spec.family is Family.lstm:
        gates = spec.layers * spec.seq * spec.batch * 9 * spec.width * (3 if spec.training else 1)
        at_first = spec.layers * spec.batch * 8 * spec.width**2 if spec.training else 0  # the zero state that starts needs no gradient
        assert ours[OperatorClass.matmul] + ours[OperatorClass.recurrent] - gates - at_first == linear
    else:
        assert ours[OperatorClass.matmul] == linear
        attention = ours.get(OperatorClass.attention, 0.0)
        causal = 2.0 if spec.family is Family.decoder else 1.0  # torch does not discount what is masked
        assert attention * causal * (3.0 / 3.5 if spec.training else 1.0) == batched  # unfused: two products backward for one forward


@pytest.mark.parametrize("family", ["encoder", "decoder"])
def test_checkpointing_computes_again_what_torch_computes_again(family: str) -> None:
    sizes = {"layers": 2, "width": 32, "heads": 4, "seq": 16, "batch": 3, "checkpointing": True}
    spec = JobSpec.model_validate({"family": family} | sizes)
    flops, _ = counted(spec)
    assert work(spec).flops_by_class()[OperatorClass.matmul] == sum(flops[name] for name in LINEAR)


TRACEABLE = [case for case in CASES if case["family"] in {"mlp", "cnn", "encoder", "recommender"} and case.get("layers") != 34]


@pytest.mark.parametrize("case", TRACEABLE, ids=lambda case: f"{case['family']}-{case['layers'] if 'layers' in case else case['tables']}")
def test_tracing_the_network_counts_the_same(case: dict[str, Any]) -> None:
    """Two ways to the same work: layer by layer in closed form, and operator by operator as torch dispatches them."""
    trace = pytest.importorskip("models.runtime.trace")
    spec = JobSpec.model_validate(case)
    network = NETWORKS[spec.family](spec)
    network.train()
    given = tuple(torch.zeros(one.shape, dtype=one.dtype) for one in inputs(spec))
    traced = trace.traced(network, given, loss=partial(loss, spec), mode=spec.mode, optimizer=spec.optimizer).work
    found = work(spec)
    assert found.parameters == traced.parameters
    assert found.flops == pytest.approx(traced.flops, rel=0.01)
    assert found.bytes == pytest.approx(traced.bytes, rel=0.05)
    assert found.calls == pytest.approx(traced.calls, rel=0.15)
    for cls in (OperatorClass.matmul, OperatorClass.convolution, OperatorClass.pointwise_convolution, OperatorClass.attention):
        assert found.flops_by_class().get(cls, 0.0) == pytest.approx(traced.flops_by_class().get(cls, 0.0)), cls


def loss(spec: JobSpec, scores: Any) -> Any:
    if spec.family is Family.recommender:
        return torch.nn.functional.binary_cross_entropy_with_logits(scores, torch.zeros_like(scores))
    return torch.nn.functional.cross_entropy(scores, torch.zeros(len(scores), dtype=torch.long, device=scores.device))
