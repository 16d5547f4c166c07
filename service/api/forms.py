"""Linear programs as uploaded files: ``multipart/form-data`` with a ``file`` and, if wanted, the other fields as ``request``."""

from __future__ import annotations

import hashlib
import zlib
from typing import TYPE_CHECKING, Any

from python_multipart.exceptions import MultipartParseError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException

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
GZIP = b"\x1f\x8b"
STEP_BYTES = 2**20


async def read_form(service: Service, request: Request) -> tuple[Taken, str]:
    """The request with its program, and the fingerprint of both. Raises BadRequest, Unprocessable, TooLarge."""
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
    text = given if isinstance(given, str) else "{}"
    try:
        found: dict[str, Any] = take_apart("run", text.encode())
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
    unzip = zlib.decompressobj(wbits=31)
    try:
        found = unzip.decompress(data, largest + 1)
    except zlib.error:
        raise refused([Finding("/file", "bad_gzip", "begins like gzip data and is none; compress it anew, or send it plain")]) from None
    if len(found) > largest:
        raise TooLarge(f"the file is larger than {largest // 2**20} MiB when unpacked, the most that is read; send a smaller one")
    if not unzip.eof:
        raise refused([Finding("/file", "bad_gzip", "the gzip data end too soon; compress it anew, or send it plain")])
    return found
