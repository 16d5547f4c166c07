"""The two optimisers there are: a child process of this one, and a Quartermaster service that is asked over HTTP."""

from __future__ import annotations

import dataclasses
import threading
import time
from typing import TYPE_CHECKING, Any

from optimizer.child import ChildGoneError
from service.plugins.planner import Answer, NoPlanError

if TYPE_CHECKING:
    from models.placement.schema import Plan, Problem
    from optimizer.limits import Limits
    from service.children import ChildPool
    from service.client import Client

SOLVE = "service.tasks:solve"
LATE_S = 1.0  # for reading the problem, verifying and explaining, beyond the time limit
GRACE_S = 1.0  # between being asked to stop and being killed
ENDED = ("finished", "deadline", "cancelled")


class LocalOptimiser:
    """Solves in warm child processes of a pool, which it owns. A child that is frozen, has crashed or overruns is killed and replaced.

    What it had found by then still counts: the best plan that it had sent.
    """

    def __init__(self, pool: ChildPool | None = None) -> None:
        from service.children import ChildPool as Pool

        self._pool = pool if pool is not None else Pool(idle=1)
        self._pool.start()
        self._cancel = threading.Event()

    def solve(self, problem: Problem, limits: Limits, warm_start: Plan | None = None) -> Answer:
        """As ``planner.Optimiser``."""
        payload = {
            "kind": "placement",
            "problem": problem.model_dump_json(exclude_defaults=True),
            "changes": None,
            "limits": dataclasses.asdict(limits),
            "warm_start": warm_start.model_dump_json() if warm_start is not None else None,
        }
        heard = _Heard()
        try:
            end = self._pool.run(
                SOLVE,
                payload,
                deadline_s=limits.time_limit_s + LATE_S,
                memory_gib=limits.memory_gib,
                cancel=self._cancel,
                on_message=heard.take,
                grace_s=GRACE_S,
            )
        except (ChildGoneError, OSError) as error:
            raise NoPlanError("gone", f"no child process to solve in: {error}") from error
        if end.reason in ENDED and end.value is not None:
            return _answer(end.value)
        if heard.plan is not None:
            return Answer(heard.plan, heard.objective, heard.bound)
        if end.reason in ENDED:
            raise NoPlanError("late", f"no plan within {end.seconds:.1f} s; the child process was ended")
        raise NoPlanError("gone", f"the child process that was solving ended ({end.reason}): {end.message[:500]}")

    def close(self) -> None:
        """End the child processes."""
        self._cancel.set()
        self._pool.close()

    def pids(self) -> list[int]:
        """Process ids of the children."""
        return self._pool.pids()


class _Heard:
    """The best plan and bound that a child had sent."""

    def __init__(self) -> None:
        self.plan: bytes | None = None
        self.objective: float | None = None
        self.bound: float | None = None

    def take(self, message: Any) -> None:  # noqa: ANN401  (whatever a child sends)
        """Note one message of ``service.tasks.solve``."""
        if not isinstance(message, dict):
            return
        if message.get("type") == "incumbent" and isinstance(message.get("plan"), bytes):
            self.plan, self.objective = message["plan"], None  # recomputed from the plan
        elif message.get("type") == "bound" and message.get("first") is True:
            self.bound = message.get("value")


def _answer(value: Any) -> Answer:  # noqa: ANN401  (whatever a child returns)
    try:
        figures, parts = value["figures"], value["parts"]
        if "plan" not in parts:
            what = figures.get("failure") or figures.get("message") or figures.get("outcome")
            raise NoPlanError("no_plan", f"the optimiser has no plan: {str(what)[:500]}")
        optimal = figures.get("outcome") == "optimal"
        return Answer(parts["plan"], figures.get("objective"), figures.get("bound"), parts.get("explanations", b""), optimal=optimal)
    except (TypeError, KeyError, AttributeError) as error:
        raise NoPlanError("rubbish", f"the optimiser's answer is none: {type(error).__name__}: {error}") from error


class ServerOptimiser:
    """Has a Quartermaster service solve. ``client`` has little patience: a service that is away costs a round its plan, not more."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._last: str | None = None

    @classmethod
    def at(cls, url: str, api_key: str | None = None) -> ServerOptimiser:
        """Of the service at ``url``. Raises ValueError for an address or a key that is none."""
        from service.client import Client

        return cls(Client(url, api_key, timeout_s=3.0, patience_s=1.0))

    def solve(self, problem: Problem, limits: Limits, warm_start: Plan | None = None) -> Answer:
        """As ``planner.Optimiser``; starts from the plan of the run before, because a service takes no other."""
        del warm_start
        from service.client.errors import ClientError, Unavailable, Unreachable

        began = time.monotonic()
        asked: dict[str, Any] = {"limits": dataclasses.asdict(limits), "cache": False}
        if self._last is not None:
            asked["warm_start_run"] = self._last
        try:
            run = self._client.submit("placement", problem, **asked)
            run = self._client.wait(run.id, timeout_s=max(limits.time_limit_s + LATE_S - (time.monotonic() - began), 0.1))
            if not run.ended:
                self._client.cancel(run.id)
                run = self._client.wait(run.id, timeout_s=GRACE_S)
            if not run.ended:
                raise NoPlanError("late", f"run {run.id} of {self._client.base_url} has not ended in time")
            if not run.has_plan:
                raise NoPlanError("no_plan", f"run {run.id} has no plan: {run.failure or run.message or run.outcome}"[:500])
            self._last = run.id
            plan = self._client.plan(run.id)
            certificate = self._client.certificate(run.id)
            reasons = self._client.explanations(run.id)
        except (Unreachable, Unavailable) as error:
            raise NoPlanError("gone", f"the service {self._client.base_url} does not serve: {error}") from error
        except ClientError as error:
            self._last = None
            raise NoPlanError("rubbish", f"the service {self._client.base_url} answered {error.code}: {error}"[:500]) from error
        return Answer(
            _json(plan),
            certificate.objective,
            certificate.bound,
            _json({"explanations": [one.model_dump() for one in reasons]}),
            optimal=run.outcome == "optimal",
        )

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


def _json(found: object) -> str:
    import json

    return json.dumps(found)
