"""What can be wrong with a request, as exceptions that carry their HTTP status (RFC 9457 ``application/problem+json``).

    ServiceError
     +-- BadRequest 400      MissingKey 401      Forbidden 403      NotFound 404      NotAcceptable 406
     +-- Conflict 409        TooLarge 413        WrongMediaType 415  Unprocessable 422
     |   (408 and 431 stand where they are found: service.api.middleware, service.protocol)
     +-- TooMany 429         Unavailable 503     (both say when to try again)
     +-- LeaseLost           inside the service only: another worker has the run

``code`` is stable and snake_case: programs may compare it. ``errors`` name the places in the request.
"""

from __future__ import annotations

from dataclasses import dataclass

TYPE_PREFIX = "urn:quartermaster:error:"


@dataclass(frozen=True, slots=True)
class Finding:
    """One mistake or warning: the JSON pointer of its place, a stable code, and a sentence that names the cure."""

    pointer: str
    code: str
    detail: str


class ServiceError(Exception):
    """A request that cannot be served, or a step that must not be taken. Raised before anything is written."""

    status = 500
    code = "internal"
    title = "Internal error"

    def __init__(
        self, detail: str, *, code: str | None = None, errors: tuple[Finding, ...] = (), retry_after_s: float | None = None
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.code = code or type(self).code
        self.errors = errors
        self.retry_after_s = retry_after_s

    def body(self) -> dict[str, object]:
        """The problem document."""
        made: dict[str, object] = {
            "type": f"{TYPE_PREFIX}{self.code}",
            "title": self.title,
            "status": self.status,
            "code": self.code,
            "detail": self.detail,
            "errors": [{"pointer": finding.pointer, "code": finding.code, "detail": finding.detail} for finding in self.errors],
        }
        if self.retry_after_s is not None:
            made["retry_after_s"] = self.retry_after_s
        return made


class BadRequest(ServiceError):  # noqa: N818  (each class is named for what is wrong, as in the tree above)
    """The request is not what it claims to be: broken JSON, an impossible header or query."""

    status, code, title = 400, "bad_request", "Bad request"


class MissingKey(ServiceError):  # noqa: N818
    """No API key, or none that is valid."""

    status, code, title = 401, "key_required", "API key required"


class Forbidden(ServiceError):  # noqa: N818
    """The API key's scopes do not allow this."""

    status, code, title = 403, "forbidden", "Forbidden"


class NotFound(ServiceError):  # noqa: N818
    """There is no such thing for this tenant."""

    status, code, title = 404, "not_found", "Not found"


class MethodNotAllowed(ServiceError):  # noqa: N818
    """The resource does not know this method."""

    status, code, title = 405, "method_not_allowed", "Method not allowed"


class NotAcceptable(ServiceError):  # noqa: N818
    """Nothing of the media types that the client accepts can be given."""

    status, code, title = 406, "not_acceptable", "Not acceptable"


class Conflict(ServiceError):  # noqa: N818
    """The request contradicts what there is: another body under the same key, a plan of a run that has none."""

    status, code, title = 409, "conflict", "Conflict"


class TooLarge(ServiceError):  # noqa: N818
    """The body is larger than the service takes."""

    status, code, title = 413, "too_large", "Body too large"


class WrongMediaType(ServiceError):  # noqa: N818
    """The body's media type or encoding is not one that is read here."""

    status, code, title = 415, "wrong_media_type", "Unsupported media type"


class Unprocessable(ServiceError):  # noqa: N818
    """The body is well-formed and means nothing that can be solved; ``errors`` say where and what to do."""

    status, code, title = 422, "invalid", "The request is not valid"


class TooMany(ServiceError):  # noqa: N818
    """A tenant's quota or a key's rate is used up; ``retry_after_s`` says when to try again."""

    status, code, title = 429, "too_many", "Too many requests"


class Unavailable(ServiceError):  # noqa: N818
    """The service cannot take this now: a full queue, a database that does not answer, a shutdown."""

    status, code, title = 503, "unavailable", "Not available now"


class LeaseLost(ServiceError):  # noqa: N818
    """A worker's run was given to another worker: whatever it found is not written."""

    code, title = "lease_lost", "Lease lost"
