"""slurmrestd, with a JSON web token: the other path to the same snapshot and, from 23.02 on, to pins and releases.

The newest data format that both sides know is taken. v0.0.38, of 22.05, refuses to change ``required_nodes``: there only a
snapshot can be had, and jobs can be let go of.
"""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from service.plugins.scheduler import SchedulerError
from service.plugins.slurm.arrays import members
from service.plugins.slurm.changes import Told, plain
from service.plugins.slurm.files import SlurmFiles, SlurmFilesError, parsed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from service.plugins.slurm.changes import Change

VERSIONS = ("v0.0.42", "v0.0.41", "v0.0.40", "v0.0.39", "v0.0.38")  # of 24.11, 24.05, 23.11, 23.02, 22.05
CANNOT_PIN = frozenset({"v0.0.38"})
MOST_BYTES = 512 * 2**20
NOT_FOUND = 404


class Rest:
    """Asks and tells one slurmrestd. Not thread-safe. ``token`` is what ``scontrol token`` prints, with or without ``SLURM_JWT=``."""

    def __init__(
        self, url: str, token: str, *, user: str | None = None, timeout_s: float = 10.0, wall: Callable[[], float] = time.time
    ) -> None:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise SchedulerError(f"'{url}' is no address of a slurmrestd; give one such as http://localhost:6820")
        token = token.strip().removeprefix("SLURM_JWT=")
        if not token:
            raise SchedulerError("slurmrestd needs a token: set SLURM_JWT to what `scontrol token` prints")
        self._url, self._timeout_s, self._wall = url.rstrip("/"), timeout_s, wall
        self._headers = {"X-SLURM-USER-TOKEN": token, "Accept": "application/json", "Content-Type": "application/json"}
        if user is not None:
            self._headers["X-SLURM-USER-NAME"] = user
        self._version: str | None = None

    def version(self) -> str:
        """The data format that is used. Raises SchedulerError when there is none that both sides know."""
        if self._version is None:
            for version in VERSIONS:
                if self._call("GET", f"/slurm/{version}/ping", may_miss=True) is not None:
                    self._version = version
                    break
            else:
                raise SchedulerError(f"{self._url} speaks none of {', '.join(VERSIONS)}; use Slurm's commands")
        return self._version

    def must_pin(self) -> None:
        """Raises SchedulerError where this slurmrestd cannot say on which nodes a job is to start."""
        if self.version() in CANNOT_PIN:
            raise SchedulerError(
                f"slurmrestd with {self.version()} (Slurm 22.05) cannot pin a job to nodes; leave --url out to use scontrol"
            )

    def read(self) -> SlurmFiles:
        """The cluster now, as ``Commands.read``; the topology is not told here. Raises SchedulerError."""
        version = self.version()
        nodes, jobs = self._get(f"/slurm/{version}/nodes"), self._get(f"/slurm/{version}/jobs")
        return SlurmFiles(jobs, nodes, "", self._wall(), {"slurmrestd": version})

    def glance(self) -> bytes:
        """What of the jobs and nodes a plan rests on; slurmrestd has no shorter answer than all of them."""
        files = self.read()
        job_fields = ("job_id", "job_state", "state_reason", "node_count", "cpus", "required_nodes", "partition", "submit_time", "features")
        node_fields = ("name", "state", "state_flags", "gres", "features")
        seen = [[job.get(name) for name in job_fields] for job in files.jobs.get("jobs") or () if isinstance(job, dict)]
        seen += [[node.get(name) for name in node_fields] for node in files.nodes.get("nodes") or () if isinstance(node, dict)]
        return json.dumps(seen).encode()

    def tell(self, changes: Sequence[Change]) -> tuple[Told, ...]:
        """Carry out each change, one request each. What was not answered is unknown."""
        return tuple(self._all_changed(change) for change in changes)

    def close(self) -> None:
        """Nothing is held."""

    def _all_changed(self, change: Change) -> Told:
        """It knows no lists of tasks: each is asked for alone, and the first that is not done is what is told."""
        told = [self._changed(replace(change, job=job)) for job in members(change.job)]
        return next((one for one in told if not one.ok), told[0])

    def _changed(self, change: Change) -> Told:
        version = self.version()
        if change.pin and version in CANNOT_PIN:
            return Told(ok=False, detail=f"slurmrestd with {version} cannot pin a job to nodes")
        body: dict[str, Any] = {}
        if change.pin is not None and version not in CANNOT_PIN:
            body["required_nodes"] = list(change.pin)
        if change.comment is not None:
            body["admin_comment"] = plain(change.comment)
        if change.hold is not None:
            body["hold"] = change.hold
        if change.priority is not None:
            body["priority"] = change.priority if version in CANNOT_PIN else {"set": True, "number": change.priority}
        if not body:
            return Told(ok=True)
        try:
            self._call("POST", f"/slurm/{version}/job/{urllib.parse.quote(change.job)}", body)
        except SchedulerError as error:
            return Told(ok=None if isinstance(error, _UnansweredError) else False, detail=str(error))
        return Told(ok=True)

    def _get(self, path: str) -> Mapping[str, Any]:
        found = self._call("GET", path)
        assert found is not None  # noqa: S101  (only what may be missing can be)
        return found

    def _call(self, method: str, path: str, body: Mapping[str, Any] | None = None, *, may_miss: bool = False) -> Mapping[str, Any] | None:
        """The answer; None for one that may be missing and is. Raises SchedulerError."""
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(self._url + path, data=data, method=method, headers=self._headers)  # noqa: S310  (http or https)
        try:
            with urllib.request.urlopen(request, timeout=self._timeout_s) as response:  # noqa: S310  (as above)
                answer = parsed(response.read(MOST_BYTES), path)
        except urllib.error.HTTPError as error:
            with error:
                if error.code == NOT_FOUND and may_miss:
                    return None
                raise SchedulerError(f"{method} {path}: {error.code}: {_said(error.read(MOST_BYTES)) or error.reason}") from None
        except SlurmFilesError as error:
            raise SchedulerError(str(error)) from None
        except (OSError, TimeoutError) as error:
            raise _UnansweredError(f"{self._url} does not answer ({error}); look at slurmrestd") from None
        complaints = _complaints(answer)
        if complaints:
            raise SchedulerError(f"{method} {path}: {complaints}")
        return answer


class _UnansweredError(SchedulerError):
    """Nobody answered: what was asked may have been done, or not."""


def _said(body: bytes) -> str:
    try:
        return _complaints(parsed(body, "")) or ""
    except SlurmFilesError:
        return body[:200].decode(errors="replace").strip()


def _complaints(answer: Mapping[str, Any]) -> str:
    """What the errors of an answer say; 22.05 answers 200 with errors in it."""
    return "; ".join(_complaint(one) for one in answer.get("errors") or ())[:500]


def _complaint(error: object) -> str:
    if not isinstance(error, dict):
        return str(error)
    return ": ".join(str(error[name]) for name in ("error", "description") if error.get(name))
