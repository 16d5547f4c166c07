"""Linear programs as uploaded files: ``multipart/form-data`` with a ``file`` and, if wanted, the other fields as ``request``."""

from __future__ import annotations

import hashlib
import zlib
from typing import TYPE_CHECKING, Any

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import parse_options_header
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException

from service.api.gunzip import Gunzip, pieces
from service.api.intake import Taken, program, refused
from service.api.requests import take_apart
from service.documents.complaints import InvalidError
from service.errors import BadRequest, Finding, TooLarge

if TYPE_CHECKING:
    from fastapi import Request
    from starlette.datastructures import FormData

    from service.api.state import Service

FORMATS = ("mps", "lp")
MOST_FIELDS = 8
LARGEST_REQUEST = 64 * 1024  # bytes of the field `request`, which is read at once; it holds no problem
CHARSETS = (b"utf-8", b"utf8", b"us-ascii")  # decoding some others takes quadratic time
GZIP = b"\x1f\x8b"


async def read_form(service: Service, request: Request) -> tuple[Taken, str]:
    """The request with its program, and the fingerprint of both. Raises BadRequest, Unprocessable, TooLarge."""
    _, parameters = parse_options_header(request.headers.get("content-type"))
    if parameters.get(b"charset", CHARSETS[0]).lower() not in CHARSETS:
        raise BadRequest("the form's charset is not read here; send the form as UTF-8", code="bad_form")
    try:
        async with request.form(max_files=1, max_fields=MOST_FIELDS) as form:
            return await _taken(service, form)
    except (HTTPException, MultiPartException, MultipartParseError) as error:
        detail = str(getattr(error, "detail", None) or getattr(error, "message", None) or error)
        raise BadRequest(f"the form cannot be read: {detail}", code="bad_form") from None


async def _taken(service: Service, form: FormData) -> tuple[Taken, str]:
    fields = _fields(form.get("request"))
    if fields["kind"] not in (None, "program"):
        raise refused([Finding("/kind", "wrong_kind", f"a file is read as kind program, not {fields['kind']!r}; leave the kind out")])
    fields["kind"] = "program"
    if fields["problem_id"] is not None:
        raise refused([Finding("/problem_id", "two_problems", "the form holds a file; leave one of the two out")])
    unknown = sorted(set(form) - {"file", "request", "format"})
    file, form_name = form.get("file"), form.get("format")
    if unknown or not isinstance(file, UploadFile):
        detail = f"leave out the field {unknown[0][:60]!r}" if unknown else "add the program's file as field 'file', with its file name"
        raise refused([Finding("/file", "missing" if not unknown else "extra_forbidden", detail)])
    written = _format(file.filename or "", form_name)
    data = await file.read()
    print_of = hashlib.sha256(repr(sorted(fields.items())).encode() + b"\n" + written.encode() + b"\n")
    await service.in_thread(lambda: print_of.update(data))
    if data.startswith(GZIP):
        largest = service.settings.largest_body_mib * 2**20
        data = await service.in_thread(lambda: _unzipped(data, largest))
    return Taken(fields, await program(service, data, written, "/file")), print_of.hexdigest()


def _fields(given: object) -> dict[str, Any]:
    """The fields of the request, the usual ones when there is none."""
    if isinstance(given, UploadFile):
        raise refused([Finding("/request", "string_type", "must be a field of text, not a file")])
    text = given.encode() if isinstance(given, str) else b"{}"
    if len(text) > LARGEST_REQUEST:
        detail = (
            f"the field 'request' is longer than {LARGEST_REQUEST} bytes, the most that is read; leave out what is no setting of the run"
        )
        raise TooLarge(detail)
    try:
        found: dict[str, Any] = take_apart("run", text)
    except InvalidError as error:
        raise refused(error.findings) from None
    if "body" in found or "program" in found:
        raise refused([Finding("/problem", "two_problems", "the form holds a file; leave the problem out")])
    fields: dict[str, Any] = found["fields"]
    return fields


def _format(name: str, given: object) -> str:
    """``mps`` or ``lp``, by the field ``format`` or by the file's name."""
    told = given.lower() if isinstance(given, str) else name.lower().removesuffix(".gz").rpartition(".")[2]
    if told not in FORMATS:
        place = "/format" if given is not None else "/file"
        raise refused([Finding(place, "unknown_format", "cannot tell whether it is MPS or LP; add the field 'format': mps or lp")])
    return told


def _unzipped(data: bytes, largest: int) -> bytes:
    """The file itself; raises TooLarge beyond the limit however small the gzip data are."""
    unzip = Gunzip()
    found = bytearray()
    try:
        for piece in pieces(data):
            left = piece
            while left and len(found) <= largest:
                plain, left = unzip.step(left)
                found += plain
    except zlib.error:
        raise refused(
            [Finding("/file", "bad_gzip", "is not gzip data from its begin to its end; compress it anew, or send it plain")]
        ) from None
    if len(found) > largest:
        raise TooLarge(f"the file is larger than {largest // 2**20} MiB when unpacked, the most that is read; send a smaller one")
    if not unzip.complete:
        raise refused([Finding("/file", "bad_gzip", "the gzip data end too soon; compress it anew, or send it plain")])
    return bytes(found)
