"""The page at /docs: all that the OpenAPI says, readable without a network, a script or colours."""

from __future__ import annotations

import html
import re
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the extra serve is not installed")

from starlette.testclient import TestClient

from serkit.serving.http.app import create_app
from serkit.serving.http.reference import page
from serkit.serving.http.settings import ServiceSettings


@pytest.fixture(scope="module")
def client() -> TestClient:
    """The application without workers: this page needs none, and no page of the service either."""
    return TestClient(create_app(ServiceSettings(model="none", page=None)), base_url="http://here.example:8000")


@pytest.fixture(scope="module")
def openapi(client: TestClient) -> dict[str, Any]:
    found: dict[str, Any] = client.get("/openapi.json").json()
    return found


def test_every_path_parameter_answer_and_type_is_named(client: TestClient, openapi: dict[str, Any]) -> None:
    text = client.get("/docs").text
    for path, rows in openapi["paths"].items():
        for method, row in rows.items():
            wanted = f'<span class="method">{method.upper()}</span> <code>{path}</code></h3>'
            (section,) = [s for s in re.findall(r"<section.*?</section>", text, re.DOTALL) if wanted in s]
            for parameter in row.get("parameters", ()):
                assert f"<code>{parameter['name']}</code></th>" in section
                assert html.escape(parameter.get("description", "").split("'")[0]) in section
            for status, answer in row["responses"].items():
                assert f'<th scope="row"><code>{status}</code></th>' in section
                assert html.escape(answer["description"]) in section
            for kind in row.get("requestBody", {}).get("content", ()):
                assert f"Body as <code>{kind}</code>" in section
            assert f"http://here.example:8000{path.replace('{job}', 'JOB')}" in section
    places = set(re.findall(r' id="([^"]+)"', text))
    for name, schema in openapi["components"]["schemas"].items():
        assert f"schema-{name}" in places
        assert all(f"<code>{field}</code></th>" in text for field in schema.get("properties", ()))
        assert ("example" in schema) == (f"<summary>Example of <code>{name}</code>" in text)
    assert set(re.findall(r'href="#([^"]+)"', text)) <= places, "no link goes nowhere"


def test_it_loads_nothing_and_runs_nothing(client: TestClient) -> None:
    answer = client.get("/docs")
    assert answer.headers["content-type"].startswith("text/html")
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    assert "script" not in answer.text.lower().replace("transcript", "").replace("description", "")
    assert re.findall(r'(?:src|href)="(?!#)([^"]*)"', answer.text) == ["data:,", "openapi.json"]
    assert not re.search(r"@import|url\(", answer.text)
    for gone in ("/redoc", "/docs/oauth2-redirect"):
        assert client.get(gone).status_code == 404


def test_what_the_schema_says_is_text_and_keys_are_told() -> None:
    row = {"description": "a <b> & `c<d`", "responses": {"200": {"description": "<i>"}}}
    schema = {
        "info": {"title": "<t>", "version": "1"},
        "paths": {"/v1/x<y>": {"delete": row}},
        "security": [{"key": []}],
    }
    text = page(schema, 'http://x"<script>')
    assert "<script" not in text
    assert "a &lt;b&gt; &amp; <code>c&lt;d</code>" in text
    assert "<title>&lt;t&gt; 1" in text
    assert "requires a key" in text
    assert "curl -H &#x27;X-API-Key: KEY&#x27; -X DELETE" in text
