"""Measures a list of operators in this process: ``python -m service.measure.one_operator`` < order; one line of JSON comes back."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

from service.measure.disturbance import Accounts, accounts, load_between
from service.measure.process import answer_order, clock_of, device_memory, failure, settle_order
from service.measure.timing import timed

WINDOW_S = 0.5  # of others' load: the kernel's accounts are in ticks of 10 ms, too coarse for one operator


def main() -> None:
    """Reads the order, measures one operator after the other, answers."""
    answer_order(settle_order, lambda order: {"operators": measured(order)})


def measured(order: dict[str, Any]) -> list[dict[str, Any]]:
    """One answer for each operator; one that fails does not stop the next. The load of others is that of half a second around each."""
    import torch

    from models.runtime.operators import Precision
    from service.measure.one_operator_makers import made
    from service.measure.torch_jobs import STORED, configure

    precision, device = Precision(order["precision"]), str(order["device"])
    configure(precision, order["threads"])
    clock = clock_of(device)
    answers: list[dict[str, Any]] = []
    waiting: list[dict[str, Any]] = []
    before, begun = accounts(), time.monotonic()
    for place, one in enumerate(order["operators"], start=1):
        try:
            with torch.device(device):  # not while timing: it would slow down every call from Python
                run = made(one["kind"], one["part"], STORED[precision], tuple(one["sizes"]))
            answer: dict[str, Any] = {"timing": timed(run, clock, order["seconds"], repeat_s=order["repeat_s"]).timing().model_dump()}
            del run
        except Exception as error:  # noqa: BLE001  (as above)
            answer = failure(error)
        answers.append(answer)
        waiting.append(answer)
        if time.monotonic() - begun > WINDOW_S or place == len(order["operators"]):
            _told_of_others(waiting, before, order)
            waiting, before, begun = [], accounts(), time.monotonic()
    return answers


def _told_of_others(answers: list[dict[str, Any]], before: Accounts, order: dict[str, Any]) -> None:
    """Adds what others did since ``before`` to the answers that have a timing."""
    cores = () if order["core"] is None else (int(order["core"]),)
    load = load_between(before, accounts(), cores)
    foreign = {**asdict(load), "on_device_gib": device_memory(order["device"])["on_device_gib"]}
    for answer in answers:
        if "timing" in answer:
            answer["foreign"] = foreign


if __name__ == "__main__":
    main()
