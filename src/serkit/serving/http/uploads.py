"""A body becomes recordings and options, under limits of size and time that hold while it is being read."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import re
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from tempfile import SpooledTemporaryFile
from typing import Any, BinaryIO, cast

from pydantic import ValidationError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from serkit.errors import SerkitError
from serkit.serving.http.errors import Refused
from serkit.serving.http.schemas import JsonBody, Options, first_fault, split_labels
from serkit.serving.http.settings import MIB, ServiceSettings
from serkit.serving.results import division

SPOOL_BYTES = MIB  # a recording up to this stays in memory; a larger one is in a temporary file without a name
JSON_BYTES = 32_000_000
_SLACK_BYTES = 64 * 1024  # of a form around its recordings
_FIELD_BYTES = 4 * MIB
_AUDIO = re.compile(rb'"audio"\s*:\s*"([^"]*)"')  # no base64 has quotes
_RAW = ("audio/", "video/", "application/octet-stream")


class Vanished(Exception):
    """The client is gone; there is nobody to answer."""


class Budget:
    """Bytes of bodies that are held at once.

    Args:
        limit: how many.
    """

    def __init__(self, limit: int) -> None:
        self._limit, self.held = limit, 0

    def take(self, n: int) -> None:
        """Count more bytes.

        Raises:
            Refused: there are too many.
        """
        if self.held + n > self._limit:
            raise Refused("busy", "too much is being uploaded; try again later", 5)
        self.held += n

    def give(self, n: int) -> None:
        """Bytes are held no more."""
        self.held -= n


@dataclass
class Upload:
    """A recording that was sent.

    Attributes:
        name: as the client gave it; shown to the client alone. n_bytes: its size.
        file: where it is: in memory up to :data:`SPOOL_BYTES`, else on disk without a name.
    """

    name: str | None
    file: SpooledTemporaryFile[bytes]
    n_bytes: int

    def content(self) -> bytes | None:
        """Its bytes where it is in memory."""
        if self.n_bytes > SPOOL_BYTES:
            return None
        self.file.seek(0)
        return self.file.read()

    @property
    def descriptor_file(self) -> BinaryIO | None:
        """The file on disk of a large one."""
        return None if self.n_bytes <= SPOOL_BYTES else cast(BinaryIO, self.file)


@dataclass
class Body:
    """What came: recordings, options, and the bytes they count for.

    Attributes:
        uploads: in the order of the request. options: checked. n_bytes: of the body. budget: where these count.
    """

    budget: Budget
    uploads: list[Upload] = field(default_factory=list)
    options: Options = field(default_factory=Options)
    n_bytes: int = 0

    def close(self) -> None:
        """Forget the recordings."""
        for upload in self.uploads:
            upload.file.close()
        self.budget.give(self.n_bytes)
        self.n_bytes = 0


async def read_body(request: Request, settings: ServiceSettings, budget: Budget, max_bytes: int) -> Body:
    """Read a request: a form with files, base64 in JSON, or the bytes of a recording.

    Raises:
        Refused: too large, too slow, not understood, wrong options, no recording.
        Vanished: the client is gone.
    """
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    body = Body(budget)
    try:
        if kind == "multipart/form-data":
            given = await _form(request, settings, body, max_bytes)
        elif kind == "application/json":
            given = await _json(request, settings, body, max_bytes)
        elif kind.startswith(_RAW):
            held = _spooled()
            body.uploads.append(Upload(None, held, 0))
            async for chunk in _chunks(request, settings, body, max_bytes, said=max_bytes):
                await asyncio.to_thread(held.write, chunk) if body.n_bytes > SPOOL_BYTES else held.write(chunk)
            body.uploads[0].n_bytes = held.tell()
            given = {}
        else:
            raise Refused(
                "unsupported_media_type",
                f"content type '{kind[:80]}'; expected multipart/form-data, application/json or audio/*",
            )
        if not body.uploads:
            raise Refused("bad_request", "no recording: send a file as a part with a file name, such as 'file'")
        if len(body.uploads) > settings.max_files:
            raise Refused("bad_request", f"{len(body.uploads)} recordings, expected at most {settings.max_files}")
        for upload in body.uploads:
            upload.file.flush()  # a worker reads a large one from the disk: what is held back here it would not see
        body.options = read_options(request.query_params.multi_items(), given)
        if len(body.uploads) > 1 and (body.options.turns or body.options.sentences):
            raise Refused(
                "bad_option",
                f"turns and sentences belong to one recording, but {len(body.uploads)} came; send a request for each",
            )
    except BaseException:
        body.close()
        raise
    return body


def read_options(query: list[tuple[str, str]], given: Mapping[str, Any]) -> Options:
    """Options from a query and from a body; the body's count, but for its empty fields.

    Raises:
        Refused: an unknown option or a wrong value.
    """
    asked: dict[str, Any] = {}
    for name, value in query:
        if name == "labels" and asked.get(name):
            value = f"{asked[name]},{value}"
        asked[name] = value
    options = _checked(asked)  # also what the body sets anew: a wrong value is told, not hidden
    filled = {k: v for k, v in given.items() if v != ""}  # an empty field of a form was not filled in
    if filled:
        options = _checked(asked | filled)
    try:
        options.by = division(options.by, timeline=options.timeline)
    except SerkitError as error:
        raise Refused("bad_option", str(error)) from None
    return options


def _checked(found: dict[str, Any]) -> Options:
    """Options of a query or a body; texts become the lists they stand for."""
    found = dict(found)
    if "labels" in found:
        found["labels"] = split_labels(found["labels"])
    for name in ("turns", "sentences"):
        if isinstance(found.get(name), str):
            try:
                found[name] = json.loads(found[name])
            except (ValueError, RecursionError):  # not JSON, or a number of thousands of digits
                raise Refused("bad_option", f"{name} is not JSON; expected a list of start_s, end_s, …") from None
    try:
        return Options.model_validate(found)
    except ValidationError as error:
        raise Refused("bad_option", first_fault(error, Options)) from None


async def _form(request: Request, settings: ServiceSettings, body: Body, max_bytes: int) -> dict[str, Any]:
    chunks = _chunks(request, settings, body, max_bytes + _SLACK_BYTES, said=max_bytes)
    parser = MultiPartParser(
        request.headers, chunks, max_files=settings.max_files, max_fields=32, max_part_size=_FIELD_BYTES
    )
    parser.spool_max_size = SPOOL_BYTES
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise Refused("bad_request", f"the form cannot be read: {error.message}") from None
    given: dict[str, Any] = {}
    for name, value in form.multi_items():
        if isinstance(value, UploadFile):
            file = cast("SpooledTemporaryFile[bytes]", value.file)
            body.uploads.append(Upload(value.filename or None, file, value.size or 0))
        elif name == "file":
            raise Refused("bad_request", "'file' came without a file name: send it as a file, not as a field")
        elif name == "labels" and name in given:
            given[name] = f"{given[name]},{value}"
        else:
            given[name] = value
    return given


async def _json(request: Request, settings: ServiceSettings, body: Body, max_bytes: int) -> dict[str, Any]:
    limit = min(JSON_BYTES, max_bytes * 4 // 3 + _SLACK_BYTES)
    raw = bytearray()
    async for chunk in _chunks(request, settings, body, limit, said=JSON_BYTES if limit == JSON_BYTES else max_bytes):
        raw += chunk
    content, name, given = await asyncio.to_thread(_decoded, bytes(raw))
    held = _spooled()
    body.uploads.append(Upload(name, held, len(content)))
    held.write(content)
    return given


def _decoded(raw: bytes) -> tuple[bytes, str | None, dict[str, Any]]:
    """Bytes of the recording, its name, the options."""
    recording = _AUDIO.search(raw)
    rest = len(raw) - (len(recording[1]) if recording else 0)
    if rest > _FIELD_BYTES:
        raise Refused(
            "too_large",
            f"{rest / MIB:.1f} MiB of JSON beside the recording in 'audio' exceed {_FIELD_BYTES // MIB} MiB",
        )
    try:
        found = JsonBody.model_validate_json(raw)
    except ValidationError as error:
        unread = error.error_count() == 1 and error.errors()[0]["type"] == "json_invalid"
        code = "bad_request" if unread else "bad_option"
        raise Refused(code, first_fault(error, Options)) from None
    text = found.audio
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        content = base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise Refused("bad_request", "audio is not base64") from None
    given = found.model_dump(exclude={"audio", "name"}, exclude_unset=True)
    return content, found.name, given


async def _chunks(
    request: Request, settings: ServiceSettings, body: Body, limit: int, *, said: int
) -> AsyncGenerator[bytes, None]:
    """The body, piece by piece, while it is neither too large nor too slow.

    Args:
        limit: bytes of the body, what is around its recordings included. said: the limit that a refusal names.
    """
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > limit:
        raise _too_large(said)
    loop = asyncio.get_running_loop()
    began, received = loop.time(), 0
    stream = request.stream()
    while True:
        left = settings.read_s + received / settings.least_rate - (loop.time() - began)
        try:
            async with asyncio.timeout(min(settings.read_s, left)):
                chunk = await anext(stream)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise Refused("too_slow", "the body came too slowly; send it faster, or in a smaller format") from None
        except ClientDisconnect:
            raise Vanished from None
        if not chunk:
            continue
        received += len(chunk)
        if received > limit:
            raise _too_large(said)
        body.budget.take(len(chunk))
        body.n_bytes += len(chunk)
        yield chunk


def _too_large(limit: int) -> Refused:
    return Refused("too_large", f"what was sent exceeds {limit / 1e6:g} MB, the limit; long recordings go to /v1/jobs")


def _spooled() -> SpooledTemporaryFile[bytes]:
    return SpooledTemporaryFile(SPOOL_BYTES)  # closed with its Body
