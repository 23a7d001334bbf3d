"""The service's description of itself: parameters, bodies and errors that are read by hand, and examples."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from serkit.serving.http.schemas import ErrorAnswer, JsonBody, Options

_CODES = {
    400: "The request cannot be understood.",
    401: "An API key is needed.",
    403: "A page of another origin.",
    408: "The body came too slowly.",
    413: "Too large or too long.",
    415: "Unsupported kind of body.",
    422: "Not audio, damaged, or a wrong option.",
    429: "Busy: try again after Retry-After seconds.",
    500: "Internal error of the service.",
    503: "Shutting down, or not ready yet.",
    504: "Not answered in time.",
}
ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorAnswer, "description": text} for status, text in _CODES.items()
}
JOB_ERRORS: dict[int | str, dict[str, Any]] = {
    401: ERRORS[401],
    404: {"model": ErrorAnswer, "description": "No such job."},
    422: ERRORS[422],
    503: ERRORS[503],
}
_FORM = {
    "type": "object",
    "required": ["file"],
    "properties": {
        "file": {
            "type": "array",
            "items": {"type": "string", "contentMediaType": "application/octet-stream"},
            "description": "Recordings, each with a file name.",
        },
        **{
            name: {"type": "string", **({"description": field.description} if field.description else {})}
            for name, field in Options.model_fields.items()
        },
    },
}


def _parameters() -> list[dict[str, Any]]:
    """The options as parameters of a query; lists of turns are for bodies alone."""
    schema = Options.model_json_schema()["properties"]
    found = []
    for name, row in schema.items():
        if name in ("turns", "sentences"):
            continue
        row = dict(row)
        text = row.pop("description", None)
        row.pop("title", None)
        entry: dict[str, Any] = {"name": name, "in": "query", "required": False, "schema": row}
        if name == "labels":
            entry["schema"] = {"type": "string", "example": "anger,neutral,sadness"}
        found.append({**entry, "description": text} if text else entry)
    return found


BODY: dict[str, Any] = {
    "parameters": _parameters(),
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {"schema": _FORM},
            "application/json": {"schema": {"$ref": "#/components/schemas/JsonBody"}},
            "audio/wav": {"schema": {"type": "string", "contentMediaType": "audio/wav"}},
        },
    },
}
_STREAM = """
`WS /v1/stream` is not part of OpenAPI. The first message is text, such as
`{"type": "start", "encoding": "pcm16", "rate_hz": 16000}`; then come samples as binary messages, then
`{"type": "finish"}`. Answers are `ready`, `partial`, `final`, `result` and `error`, as docs/serve.md shows.
"""


def described(app: FastAPI, *, keys: bool) -> None:
    """Complete what FastAPI says of an app: the body in JSON, the stream, and the key where one is asked for."""

    def schema() -> dict[str, Any]:
        if app.openapi_schema is None:
            found = get_openapi(
                title="serkit", version=app.version, routes=app.routes,
                description="Emotions of recorded speech, with calibrated probabilities.\n" + _STREAM,
            )  # fmt: skip
            parts = found.setdefault("components", {})
            body = JsonBody.model_json_schema(ref_template="#/components/schemas/{model}")
            parts.setdefault("schemas", {}).update({**body.pop("$defs", {}), "JsonBody": body})
            if keys:
                parts["securitySchemes"] = {"key": {"type": "apiKey", "in": "header", "name": "X-API-Key"}}
                found["security"] = [{"key": []}]
            app.openapi_schema = found
        return app.openapi_schema

    app.openapi = schema  # type: ignore[method-assign]  # how FastAPI documents it
