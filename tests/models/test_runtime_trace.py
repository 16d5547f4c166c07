"""FLOPs counted by tracing against counts by hand, and against the closed forms of every family."""

import json
import subprocess
import sys
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any

import pytest

from models.runtime.families.work import work as closed_form
from models.runtime.job import JobSpec, Mode, OptimizerName
from models.runtime.operators import Operator, OperatorClass, Phase, Precision, Work
from models.runtime.trace import TraceError, factory_called, traced, traced_factory

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402

from service.measure.grid import jobs  # noqa: E402
from service.measure.torch_jobs import built  # noqa: E402


def flops(work: Work, cls: OperatorClass, phase: Phase) -> float:
    return sum(row.flops * row.calls for row in work.operators if row.cls is cls and row.phase is phase)


def only(work: Work, cls: OperatorClass) -> Operator:
    rows = [row for row in work.operators if row.cls is cls]
    assert len(rows) == 1
    return rows[0]


def test_a_linear_layer() -> None:
    work = traced(nn.Linear(8, 16), (torch.zeros(4, 8),), optimizer=OptimizerName.sgd).work
    assert flops(work, OperatorClass.matmul, Phase.forward) == 2 * 4 * 8 * 16
    assert flops(work, OperatorClass.matmul, Phase.backward) == 2 * 4 * 8 * 16  # the weight's gradient: the input needs none
    assert flops(work, OperatorClass.optimiser, Phase.update) == 2 * (8 * 16 + 16)
    assert (work.parameters, work.parameter_bytes, work.gradient_bytes) == (144, 576, 576)
    assert work.counted_by == "trace"


def test_two_linear_layers_need_the_inner_gradient() -> None:
    work = traced(nn.Sequential(nn.Linear(8, 16), nn.Linear(16, 4)), (torch.zeros(5, 8),)).work
    assert flops(work, OperatorClass.matmul, Phase.backward) == 2 * 5 * (8 * 16 + 2 * 16 * 4)


def test_inference_runs_no_backward_and_no_update() -> None:
    work = traced(nn.Linear(8, 16), (torch.zeros(4, 8),), mode=Mode.prefill).work
    assert {row.phase for row in work.operators} == {Phase.forward}
    product = only(work, OperatorClass.matmul)
    assert product.bytes_read == 4 * (4 * 8 + 8 * 16 + 16)
    assert product.bytes_written == 4 * 4 * 16
    assert product.narrow == 4
    assert work.gradient_bytes == 0


@pytest.mark.parametrize(
    ("groups", "kernel", "cls"), [(1, 3, "convolution"), (1, 1, "pointwise_convolution"), (4, 3, "depthwise_convolution")]
)
def test_a_convolution(groups: int, kernel: int, cls: str) -> None:
    layer = nn.Conv2d(4, 8, kernel, stride=2, padding=kernel // 2, groups=groups, bias=False)
    work = traced(nn.Sequential(nn.Identity(), layer), (torch.zeros(2, 4, 10, 10, requires_grad=True),)).work
    once = 2 * (2 * 8 * 5 * 5) * (4 // groups) * kernel**2
    assert flops(work, OperatorClass(cls), Phase.forward) == once
    assert flops(work, OperatorClass(cls), Phase.backward) == 2 * once


def test_a_transposed_convolution() -> None:
    work = traced(nn.ConvTranspose2d(4, 6, 3, stride=2, bias=False), (torch.zeros(2, 4, 5, 5),), mode=Mode.prefill).work
    assert work.flops == 2 * (2 * 4 * 5 * 5) * 6 * 9


class Attends(nn.Module):
    def __init__(self, *, causal: bool) -> None:
        super().__init__()
        self.causal, self.scale = causal, nn.Parameter(torch.ones(()))

    def forward(self, query: Any, key: Any) -> Any:
        return functional.scaled_dot_product_attention(query * self.scale, key, key, is_causal=self.causal)


@pytest.mark.parametrize(("queries", "keys"), [(16, 16), (5, 9), (9, 5), (1, 7)])
@pytest.mark.parametrize("causal", [False, True])
def test_attention(queries: int, keys: int, causal: bool) -> None:
    inputs = (torch.zeros(2, 4, queries, 8), torch.zeros(2, 4, keys, 8))
    work = traced(Attends(causal=causal), inputs).work
    seen = sum(min(i + 1, keys) for i in range(queries)) if causal else queries * keys
    forward = 2 * 4 * seen * (2 * 8 + 2 * 8)  # samples, heads, pairs, two products over a depth of 8
    assert flops(work, OperatorClass.attention, Phase.forward) == forward
    assert flops(work, OperatorClass.attention, Phase.backward) == 2.5 * forward


@pytest.mark.parametrize("layers", [1, 2])
def test_an_lstm(layers: int) -> None:
    batch, steps, width, hidden = 3, 7, 5, 6
    work = traced(nn.LSTM(width, hidden, layers), (torch.zeros(steps, batch, width),)).work
    inputs = [width, *[hidden] * (layers - 1)]
    forward = sum(steps * (2 * batch * 4 * hidden * (inward + hidden) + 9 * batch * hidden) for inward in inputs)
    assert flops(work, OperatorClass.recurrent, Phase.forward) == forward
    assert flops(work, OperatorClass.recurrent, Phase.backward) == 2 * forward
    assert sum(row.calls for row in work.operators if row.cls is OperatorClass.recurrent) == 2 * steps * layers


def test_normalisations_gathers_and_functions() -> None:
    module = nn.Sequential(nn.Embedding(100, 8), nn.LayerNorm(8), nn.GELU(), nn.Softmax(-1))
    work = traced(module, (torch.zeros(3, 4, dtype=torch.long),), mode=Mode.prefill).work
    assert {row.cls for row in work.operators} == {
        OperatorClass.embedding,
        OperatorClass.normalisation,
        OperatorClass.transcendental,
        OperatorClass.softmax,
    }
    assert only(work, OperatorClass.embedding).bytes_read == 12 * 8 * 4 + 12 * 8  # twelve rows and their indices, not the table


@pytest.mark.parametrize("mode", [Mode.train, Mode.prefill])
def test_layers_that_copy_themselves(mode: Mode) -> None:
    """nn.TransformerEncoder deep-copies its layer, and in inference has a fused path of its own."""

    def made() -> Any:
        return nn.TransformerEncoder(nn.TransformerEncoderLayer(64, 4, 128, batch_first=True), 2), (torch.zeros(4, 16, 64),)

    found = traced_factory(made, mode=mode)
    assert found.warnings == ()
    assert found.work.parameters == sum(one.numel() for one in made()[0].parameters())
    products = 2 * 2 * 4 * 16 * 64 * (4 * 64 + 2 * 128)  # layers, FLOPs of a multiply-add, tokens, weights
    scores = 2 * 4 * 4 * 16 * 16 * 64
    forward = flops(found.work, OperatorClass.matmul, Phase.forward) + flops(found.work, OperatorClass.attention, Phase.forward)
    assert forward == products + scores


def test_a_gru_is_taken_apart() -> None:
    found = traced(nn.GRU(16, 32, 1), (torch.zeros(5, 3, 16),), mode=Mode.prefill)
    assert found.warnings == ()
    assert flops(found.work, OperatorClass.matmul, Phase.forward) == 2 * 5 * 3 * 3 * 32 * (16 + 32)


def test_autocast_is_seen() -> None:
    class Cast(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(8, 8)

        def forward(self, x: Any) -> Any:
            with torch.autocast("cpu", torch.bfloat16):
                return self.linear(x)

    work = traced(Cast(), (torch.zeros(2, 8),), mode=Mode.prefill).work
    assert only(work, OperatorClass.matmul).precision is Precision.bf16


def test_saved_tensors_are_the_activations() -> None:
    small, large = (traced(nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4)), (torch.zeros(n, 8),)).work for n in (10, 20))
    kept = 4 * 10 * (8 + 16)  # input of each linear layer; ReLU keeps its output, which is the second's input
    largest = 4 * 10 * (16 + 16)  # ReLU's input and output are alive together
    assert small.activation_bytes == kept + largest
    assert large.activation_bytes == 2 * small.activation_bytes


def test_the_module_is_left_as_it_was() -> None:
    module = nn.Linear(4, 4)
    before = module.weight.detach().clone()
    traced(module, (torch.zeros(2, 4),))
    assert torch.equal(module.weight, before)
    assert module.weight.grad is None


def test_an_unknown_operator_is_counted_by_bytes_and_named() -> None:
    class Odd(nn.Module):
        def forward(self, x: Any) -> Any:
            return torch.linalg.qr(x).R

    found = traced(Odd(), (torch.zeros(6, 6),), mode=Mode.prefill)
    assert found.warnings == ("linalg_qr: no formula, 1 calls counted by their bytes",)
    assert found.work.bytes == 3 * 6 * 6 * 4


def wrapped(spec: JobSpec) -> Callable[[], Any]:
    def made() -> Any:
        job = built(spec, "cpu")

        class Whole(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.network = job.network

            def forward(self, *inputs: Any) -> Any:
                with job.cast():
                    return job.forward(*inputs)

        return Whole(), job.inputs, job.loss

    return made


@pytest.mark.parametrize("spec", jobs("quick")[::4], ids=lambda spec: spec.id)
def test_closed_forms_agree_with_the_real_networks(spec: JobSpec) -> None:
    counted, formula = traced_factory(wrapped(spec), mode=spec.mode, optimizer=spec.optimizer).work, closed_form(spec)
    assert counted.parameters == formula.parameters
    heavy = (OperatorClass.matmul, OperatorClass.attention, OperatorClass.convolution, OperatorClass.recurrent)
    for cls in heavy:
        assert counted.flops_by_class().get(cls, 0.0) == pytest.approx(formula.flops_by_class().get(cls, 0.0), rel=0.02)
    assert counted.bytes == pytest.approx(formula.bytes, rel=0.25)


# ---------------------------------------------------------------- what goes wrong

USERS = """
import torch
from torch import nn

class Looks(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x):
        y = self.linear(x)
        return y * 2 if y.sum() > 0 else y

def good():
    return nn.Linear(8, 16), (torch.zeros(4, 8),), lambda out: out.mean()

def by_name():
    return nn.Linear(8, 16), {"input": torch.zeros(4, 8)}

def looks():
    return Looks(), (torch.zeros(2, 4),)

def wrong_size():
    return nn.Linear(8, 16), (torch.zeros(4, 9),)

def nothing():
    return 7

def idle():
    return nn.Identity(), (torch.zeros(4, 9),)
"""


@pytest.fixture
def users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "users_model.py").write_text(USERS, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop("users_model", None)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("users_model", "name a factory as module:function"),
        ("no_such_model:good", "No module named 'no_such_model'"),
        ("users_model:godo", "has no function 'godo'; it has: Looks, by_name, good"),
    ],
)
def test_a_factory_that_is_not_there(users: Path, name: str, said: str) -> None:
    assert users.exists()
    with pytest.raises(TraceError, match="(?s)" + said.replace("(", r"\(")):
        factory_called(name)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("looks", r"users_model.py:12 \(return y \* 2 if y.sum\(\) > 0 else y\); the module looks at numbers"),
        ("wrong_size", r"see that the module runs on these inputs without tracing"),
        ("nothing", r"the factory returned int; return \(module, inputs\)"),
        ("idle", r"no parameter to train; trace it with --mode prefill"),
    ],
)
def test_a_module_that_cannot_be_traced(users: Path, name: str, said: str) -> None:
    assert users.exists()
    with pytest.raises(TraceError, match=said):
        traced_factory(factory_called(f"users_model:{name}"))


def test_inputs_by_name(users: Path) -> None:
    assert users.exists()
    assert prod((2, 4, 8, 16)) == flops(traced_factory(factory_called("users_model:by_name")).work, OperatorClass.matmul, Phase.forward)


def test_the_command_line(users: Path) -> None:
    command = [sys.executable, "-m", "service.cli", "runtime", "trace"]
    environment = {"PYTHONPATH": f"{Path(__file__).resolve().parents[2]}", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [*command, "users_model:good", "--json", "--mode", "prefill"],
        capture_output=True,
        text=True,
        cwd=users,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["job"] == {"id": "users_model:good", "family": "traced", "mode": "prefill"}
    assert sum(row["flops"] * row["calls"] for row in document["work"]["operators"] if row["cls"] == "matmul") == 2 * 4 * 8 * 16
    failed = subprocess.run([*command, "users_model:looks"], capture_output=True, text=True, cwd=users, env=environment, check=False)
    assert failed.returncode == 2
    assert "users_model.py:12" in failed.stderr
    assert "Traceback" not in failed.stderr
