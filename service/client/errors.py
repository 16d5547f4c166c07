"""What can go wrong when a service is asked, as exceptions that mirror its problem documents (RFC 9457).

ClientError
 +-- Invalid 400 406 413 415 422     Unauthorized 401     Forbidden 403     NotFound 404     Conflict 409
 +-- TooMany 429                     Unavailable 502 503 504                (both after trying again for a while)
 +-- ServiceFault 500 and others     the service's own fault
 +-- Unreachable                     no answer at all, after trying again for a while
 +-- BadAnswer                       an answer that is none of a Quartermaster service
"""

from __future__ import annotations

import email.utils
import json
import re
import time
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from service.client.views import FindingView

if TYPE_CHECKING:
    import httpx

SHOWN = 120  # characters of a strange answer
REDIRECTS = range(300, 400)
CUT_OFF = 500


class ClientError(Exception):
    """A request that was not served. ``code`` is stable; ``errors`` name the places in the request; ``status`` is None without one."""

    code = "failed"

    def __init__(
        self,
        detail: str,
        *,
        status: int | None = None,
        code: str | None = None,
        errors: tuple[FindingView, ...] = (),
        retry_after_s: float | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.status = status
        self.code = code or type(self).code
        self.errors = errors
        self.retry_after_s = retry_after_s
        self.request_id = request_id


class Invalid(ClientError):  # noqa: N818  (each class is named for what is wrong, as those of the service)
    """The request is not valid; ``errors`` say where and what to do."""

    code = "invalid"


class Unauthorized(ClientError):  # noqa: N818
    """No API key, or none that the service knows."""

    code = "key_required"


class Forbidden(ClientError):  # noqa: N818
    """The API key's scopes do not allow this."""

    code = "forbidden"


class NotFound(ClientError):  # noqa: N818
    """There is no such thing for this key."""

    code = "not_found"


class Conflict(ClientError):  # noqa: N818
    """The request contradicts what there is, such as the plan of a run that has not ended."""

    code = "conflict"


class TooMany(ClientError):  # noqa: N818
    """A quota or rate is used up; ``retry_after_s`` says when to try again."""

    code = "too_many"


class Unavailable(ClientError):  # noqa: N818
    """The service cannot take this now; ``retry_after_s`` says when to try again, if it is known."""

    code = "unavailable"


class ServiceFault(ClientError):  # noqa: N818
    """The service failed by its own fault; its log knows more under ``request_id``."""

    code = "internal"


class Unreachable(ClientError):  # noqa: N818
    """The service does not answer."""

    code = "unreachable"


class BadAnswer(ClientError):  # noqa: N818
    """What answers is not a Quartermaster service, or a newer one that this client does not understand."""

    code = "bad_answer"


BY_STATUS: dict[int, type[ClientError]] = {
    400: Invalid,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    406: Invalid,
    409: Conflict,
    413: Invalid,
    415: Invalid,
    422: Invalid,
    429: TooMany,
    502: Unavailable,
    503: Unavailable,
    504: Unavailable,
}


def error_of(response: httpx.Response, url: str) -> ClientError:
    """The error that a response tells of; ``url`` names the service in messages. The response's body must have been read."""
    status = response.status_code
    made = BY_STATUS.get(status, ServiceFault)
    retry_after_s = retry_after(response.headers.get("retry-after"))
    told = _problem_document(response)
    if told is None:
        if status in REDIRECTS:
            return BadAnswer(f"{url} redirects to {response.headers.get('location', 'nowhere')[:SHOWN]}; give that address", status=status)
        # A proxy in front of the service speaks for itself. A 500 without a document is none of the service's own faults: it is
        # what the server around it says of a request that a shutdown cut off.
        kind = Unavailable if status == CUT_OFF else made if status in BY_STATUS and made is not Invalid else BadAnswer
        return kind(f"{url} answers {status} with {seen(response)}; {CURE}", status=status, retry_after_s=retry_after_s)
    try:
        errors = tuple(FindingView.model_validate(entry) for entry in told.get("errors", ()))
    except (ValidationError, TypeError):
        errors = ()
    return made(
        str(told["detail"]),
        status=status,
        code=str(told["code"]),
        errors=errors,
        retry_after_s=retry_after_s,
        request_id=response.headers.get("x-request-id"),
    )


CURE = "is that a Quartermaster service, and is a proxy before it?"


def _problem_document(response: httpx.Response) -> dict[str, Any] | None:
    if "json" not in response.headers.get("content-type", ""):
        return None
    try:
        told = json.loads(response.content)
    except (ValueError, RecursionError):
        return None
    return told if isinstance(told, dict) and isinstance(told.get("detail"), str) and isinstance(told.get("code"), str) else None


def seen(response: httpx.Response) -> str:
    """What a strange response holds, in a few words: ``a page of HTML ('Bad Gateway')``."""
    kind = response.headers.get("content-type", "").partition(";")[0].strip() or "no media type"
    text = response.content[: 64 * 1024].decode("utf-8", "replace")
    if "html" in kind or text.lstrip()[:1] == "<":
        title = re.search(r"<title[^>]*>(.*?)</title", text, flags=re.IGNORECASE | re.DOTALL)
        return "a page of HTML" + (f" ('{' '.join(title[1].split())[:SHOWN]}')" if title else "")
    start = " ".join(text.split())[:SHOWN]
    return f"{kind}" + (f" ({start!r})" if start else "")


def retry_after(text: str | None) -> float | None:
    """The seconds of a Retry-After header, which may be a date; None without one that can be read."""
    if text is None:
        return None
    if re.fullmatch(r"[0-9]{1,9}", text.strip()):
        return float(text)
    try:
        return max(email.utils.parsedate_to_datetime(text).timestamp() - time.time(), 0.0)
    except ValueError:
        return None
