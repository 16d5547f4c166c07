"""Counts the work of any torch module by watching the operators it dispatches; nothing is computed and no GPU is needed.

The step runs on fake tensors, which know shapes and types and hold no numbers. A step of training is run twice and the second one is
counted: the first also makes the optimiser's state. ``quartermaster runtime trace module:factory`` calls a factory without
arguments that returns ``(module, inputs)`` or ``(module, inputs, loss)``: inputs a tuple of tensors (or a dict by name), loss a function
of the module's output that gives one number; without one the sum of the output's floating-point tensors.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.runtime.job import Mode, OptimizerName
from models.runtime.operators import Operator, OperatorClass, Phase, Precision, Work, merged
from models.runtime.trace_formulas import FREE, Call, Counted, counted, stored_bytes
from models.runtime.trace_keys import shape_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

COUNTED_BY = "trace"
LEARNING_RATE = 1e-3


class TraceError(ValueError):
    """A module that cannot be traced: the message names the operator or the line, and the cure."""


@dataclass(frozen=True)
class Traced:
    """The counted work, and what was counted by its bytes alone: operators without a formula."""

    work: Work
    warnings: tuple[str, ...] = ()


def factory_called(name: str) -> Callable[[], Any]:
    """The factory that ``module:factory`` names; modules of the current folder are found too. Raises TraceError."""
    module_name, colon, attribute = name.partition(":")
    if not (module_name and colon and attribute):
        raise TraceError(f"{name!r}: name a factory as module:function, such as my_model:tiny")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise TraceError(f"{name}: {error}; give a module that can be imported from here, or install what it needs") from None
    except Exception as error:
        raise TraceError(f"{name}: importing {module_name} failed: {_said(error)}{_line(error)}; mend the module first") from error
    found = getattr(module, attribute, None)
    if not callable(found):
        offered = ", ".join(sorted(key for key, value in vars(module).items() if callable(value) and not key.startswith("_"))[:8])
        raise TraceError(f"{name}: {module_name} has no function {attribute!r}; it has: {offered or 'none'}")
    factory: Callable[[], Any] = found
    return factory


def traced_factory(
    factory: Callable[[], Any],
    *,
    mode: Mode = Mode.train,
    optimizer: OptimizerName = OptimizerName.adamw,
    precision: Precision | None = None,
) -> Traced:
    """The work of what ``factory`` makes, which is made of fake tensors; raises TraceError."""
    torch = _torch()
    with _fake(torch), _copying(torch):
        with _told("the factory"):
            module, inputs, loss = _parts(factory())
        with _told("the module"):
            return _counted_step(torch, module, inputs, loss, mode=mode, optimizer=optimizer, precision=precision)


def traced(
    module: Any,  # noqa: ANN401  (a torch module; torch is not imported here)
    inputs: Any,  # noqa: ANN401
    *,
    loss: Callable[[Any], Any] | None = None,
    mode: Mode = Mode.train,
    optimizer: OptimizerName = OptimizerName.adamw,
    precision: Precision | None = None,
) -> Traced:
    """The work of one step of ``module`` on ``inputs``; neither is touched: the step runs on fake copies.

    ``precision``: only to tell tf32 from fp32, which have one type. Raises TraceError.
    """
    torch = _torch()
    from torch._subclasses.fake_tensor import FakeCopyMode
    from torch.utils._pytree import tree_map

    fake = _fake(torch)
    with _told("copying the module"), FakeCopyMode(fake):
        import copy

        module = copy.deepcopy(module)
    fakes = tree_map(lambda one: fake.from_tensor(one) if isinstance(one, torch.Tensor) else one, inputs)
    with fake, _told("the module"):
        return _counted_step(torch, module, fakes, loss, mode=mode, optimizer=optimizer, precision=precision)


def _torch() -> Any:  # noqa: ANN401
    try:
        import torch
    except ImportError:
        raise TraceError("tracing needs torch: install quartermaster[torch]") from None
    return torch


def _fake(torch: Any) -> Any:  # noqa: ANN401
    return torch._subclasses.FakeTensorMode()  # noqa: SLF001  (torch's only door to fake tensors; torch is pinned)


def _copying(torch: Any) -> Any:  # noqa: ANN401
    """Lets modules deep-copy their layers, as ``nn.TransformerEncoder`` does: a fake tensor would take its whole mode along."""
    from torch.overrides import TorchFunctionMode

    def called(_mode: Any, function: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        if function is not torch.Tensor.__deepcopy__:
            return function(*args, **(kwargs or {}))
        tensor, memo = args
        if id(tensor) not in memo:
            copied = tensor.detach().clone()
            is_parameter = isinstance(tensor, torch.nn.Parameter)
            made = torch.nn.Parameter(copied, tensor.requires_grad) if is_parameter else copied.requires_grad_(tensor.requires_grad)
            memo[id(tensor)] = made
        return memo[id(tensor)]

    return type("Copying", (TorchFunctionMode,), {"__torch_function__": called})()


@contextlib.contextmanager
def _taken_apart(torch: Any) -> Iterator[None]:  # noqa: ANN401
    """No fused fast path of multi-head attention in inference: it would hide its products. The FLOPs are the same."""
    was = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(was)


def _parts(made: Any) -> tuple[Any, Any, Callable[[Any], Any] | None]:  # noqa: ANN401
    match made:
        case (module, inputs):
            return module, inputs, None
        case (module, inputs, loss) if callable(loss):
            return module, inputs, loss
        case _:
            raise TraceError(f"the factory returned {type(made).__name__}; return (module, inputs) or (module, inputs, loss)")


# ---------------------------------------------------------------- one step


@dataclass
class _Tally:
    """What was counted so far, by phase."""

    known: frozenset[int]  # storages of parameters and buffers
    tf32: bool
    phase: Phase = Phase.forward
    operators: list[Operator] = field(default_factory=list)
    unknown: Counter[str] = field(default_factory=Counter)
    saved: dict[int, Any] = field(default_factory=dict)
    largest_live_bytes: float = 0.0

    def save(self, tensor: Any) -> Any:  # noqa: ANN401
        """Remembers a tensor kept for the backward pass; held, so that its storage is not given to another."""
        storage = _storage(tensor)
        if self.phase is Phase.forward and storage not in self.known:
            self.saved.setdefault(storage, tensor)
        return tensor

    @property
    def saved_bytes(self) -> float:
        """Bytes of all kept storages."""
        return float(sum(tensor.untyped_storage().nbytes() for tensor in self.saved.values()))

    def _live(self, tensors: tuple[Any, ...]) -> None:
        live = {_storage(tensor): stored_bytes(tensor) for tensor in tensors if _storage(tensor) not in self.known}
        self.largest_live_bytes = max(self.largest_live_bytes, sum(live.values()))

    def add(self, call: Call, *, pointwise: bool) -> None:
        """Counts one call in the present phase."""
        found = counted(call, pointwise=pointwise)
        if found is None:
            self.unknown[call.name] += 1
            found = Counted(OperatorClass.copy, 0.0)
        if self.phase is Phase.forward:
            self._live((*call.inputs, *call.outputs))
        update = self.phase is Phase.update and found.cls in {OperatorClass.elementwise, OperatorClass.transcendental, OperatorClass.copy}
        read = sum(map(stored_bytes, call.inputs)) if found.read is None else found.read
        written = sum(map(stored_bytes, call.outputs)) if found.written is None else found.written
        self.operators.append(
            Operator(
                cls=OperatorClass.optimiser if update else found.cls,
                precision=_precision((*call.inputs, *call.outputs), tf32=self.tf32),
                flops=found.flops,
                bytes_read=read,
                bytes_written=written,
                calls=found.calls,
                shape_key=shape_key(call, found.cls, self.phase),
                narrow=found.narrow,
                phase=self.phase,
            )
        )


def _storage(tensor: Any) -> int:  # noqa: ANN401
    return int(tensor.untyped_storage()._cdata)  # noqa: SLF001  (its identity; fake tensors have no address)


def _precision(tensors: tuple[Any, ...], *, tf32: bool) -> Precision:
    """Of the first floating-point tensor: what the arithmetic runs in."""
    for tensor in tensors:
        if tensor.dtype.is_floating_point:
            kept = {2: Precision.bf16, 4: Precision.tf32 if tf32 else Precision.fp32}.get(tensor.element_size(), Precision.fp32)
            return Precision.fp16 if str(tensor.dtype) == "torch.float16" else kept
    return Precision.fp32


def _counted_step(
    torch: Any,  # noqa: ANN401
    module: Any,  # noqa: ANN401
    inputs: Any,  # noqa: ANN401
    loss: Callable[[Any], Any] | None,
    *,
    mode: Mode,
    optimizer: OptimizerName,
    precision: Precision | None,
) -> Traced:
    training = mode is Mode.train
    if not isinstance(module, torch.nn.Module):
        raise TraceError(f"the first part is {type(module).__name__}; return a torch.nn.Module and its inputs")
    module.train(training)
    parameters = [one for one in module.parameters() if one.requires_grad]
    if training and not parameters:
        raise TraceError("the module has no parameter to train; trace it with --mode prefill")
    known = frozenset(_storage(one) for one in (*module.parameters(), *module.buffers()))
    tally = _Tally(known, tf32=precision is Precision.tf32)
    call = _caller(module, inputs)
    if training:
        rule = _optimizer(torch, optimizer, parameters)
        for counting in (False, True):
            _train(torch, call, loss, rule, tally if counting else _Tally(known, tf32=False))
    else:
        with (
            torch.no_grad(),
            _taken_apart(torch),
            _watching(torch, tally),
        ):  # inference mode would hide what composite operators are made of
            call()
    total = sum(one.numel() for one in module.parameters())
    stored = float(sum(one.numel() * one.element_size() for one in module.parameters()))
    gradients = float(sum(one.numel() * one.element_size() for one in parameters)) if training else 0.0
    work = Work(
        operators=merged(tally.operators),
        activation_bytes=tally.saved_bytes + tally.largest_live_bytes,
        parameters=float(total),
        parameter_bytes=stored,
        gradient_bytes=gradients,
        counted_by=COUNTED_BY,
    )
    if not work.operators:
        raise TraceError("the module dispatched no operator on its inputs: nothing can be predicted; give inputs it computes with")
    return Traced(work, tuple(f"{name}: no formula, {times} calls counted by their bytes" for name, times in sorted(tally.unknown.items())))


def _caller(module: Any, inputs: Any) -> Callable[[], Any]:  # noqa: ANN401
    if isinstance(inputs, dict):
        return lambda: module(**inputs)
    arguments = inputs if isinstance(inputs, tuple | list) else (inputs,)
    return lambda: module(*arguments)


def _train(torch: Any, call: Callable[[], Any], loss: Callable[[Any], Any] | None, rule: Any, tally: _Tally) -> None:  # noqa: ANN401
    with _watching(torch, tally), torch.autograd.graph.saved_tensors_hooks(tally.save, lambda tensor: tensor):
        output = call()
        value = loss(output) if loss is not None else _summed(torch, output)
        tally.phase = Phase.backward
        value.backward()
        tally.phase = Phase.update
        rule.step()
    rule.zero_grad(set_to_none=True)


def _summed(torch: Any, output: Any) -> Any:  # noqa: ANN401
    """The sum of all floating-point numbers of an output, whatever holds them."""
    from torch.utils._pytree import tree_leaves

    if hasattr(output, "loss") and isinstance(output.loss, torch.Tensor):
        return output.loss
    leaves = [leaf for leaf in tree_leaves(output) if isinstance(leaf, torch.Tensor) and leaf.is_floating_point() and leaf.requires_grad]
    if not leaves:
        raise TraceError("the output depends on no parameter: give a loss as the factory's third part, or trace with --mode prefill")
    return sum((leaf.sum() for leaf in leaves[1:]), leaves[0].sum())


def _optimizer(torch: Any, name: OptimizerName, parameters: list[Any]) -> Any:  # noqa: ANN401
    rules: Mapping[OptimizerName, Callable[[], Any]] = {
        OptimizerName.sgd: lambda: torch.optim.SGD(parameters, LEARNING_RATE),
        OptimizerName.momentum: lambda: torch.optim.SGD(parameters, LEARNING_RATE, momentum=0.9),
        OptimizerName.adam: lambda: torch.optim.Adam(parameters, LEARNING_RATE),
        OptimizerName.adamw: lambda: torch.optim.AdamW(parameters, LEARNING_RATE),
    }
    return rules[name]()


def _watching(torch: Any, tally: _Tally) -> Any:  # noqa: ANN401
    """The dispatch mode that counts into ``tally``. Its class is made here because its parent is torch's."""
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    def tensors(values: object) -> tuple[Any, ...]:  # each once, though an operator is given it twice
        return tuple({id(leaf): leaf for leaf in tree_leaves(values) if isinstance(leaf, torch.Tensor)}.values())

    def dispatch(_mode: Any, operator: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        result = operator(*args, **(kwargs or {}))
        name = operator._schema.name.partition("::")[2]  # noqa: SLF001  (the schema is the operator's public description)
        outputs = tensors(result)
        if name in FREE or operator.is_view or not outputs:
            return result
        names = [argument.name for argument in operator._schema.arguments]  # noqa: SLF001
        named = {**dict(zip(names, args, strict=False)), **(kwargs or {})}
        defaults = {argument.name: argument.default_value for argument in operator._schema.arguments if argument.has_default_value()}  # noqa: SLF001
        call = Call(name, {**defaults, **named}, tensors((args, kwargs)), outputs)
        tally.add(call, pointwise=torch.Tag.pointwise in operator.tags)
        return result

    return type("Watching", (TorchDispatchMode,), {"__torch_dispatch__": dispatch})()


# ---------------------------------------------------------------- what went wrong


@contextlib.contextmanager
def _told(part: str) -> Iterator[None]:
    """Turns whatever goes wrong inside into a TraceError that names the operator and the user's line, and a cure."""
    try:
        yield
    except TraceError:
        raise
    except Exception as error:
        raise TraceError(f"{part} failed under tracing: {_said(error)}{_line(error)}; {_cure(error)}") from error


def _said(error: Exception) -> str:
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), "no message")
    return f"{type(error).__name__}: {first[:200]}"


def _line(error: Exception) -> str:
    """`` at file:line (its code)``: the last line that is neither torch's nor ours."""
    ours = Path(__file__).parent
    outside = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not (Path(frame.filename).is_relative_to(ours) or "torch" in Path(frame.filename).parts or frame.filename.startswith("<"))
    ]
    outside = [frame for frame in outside if "importlib" not in Path(frame.filename).parts]
    return f" at {Path(outside[-1].filename).name}:{outside[-1].lineno} ({outside[-1].line})" if outside else ""


def _cure(error: Exception) -> str:
    kind = type(error).__name__
    if kind in {"DataDependentOutputException", "DynamicOutputShapeException", "GuardOnDataDependentSymNode"}:
        return "the module looks at numbers, which a trace does not have: take the decision from shapes, or trace the part without it"
    if "non-Fake" in str(error) or "fake tensors" in str(error).lower():
        return "a tensor was made before tracing began: make every tensor inside the factory"
    if "CUDA" in str(error) or "cuda" in str(error):
        return "there is no GPU here: leave the module on the CPU, the count is the same"
    return "see that the module runs on these inputs without tracing"
