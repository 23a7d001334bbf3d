"""What the service answers: the same as ``serkit predict``, to whoever asks in whichever way it offers."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="the extra serve is not installed")
pytest.importorskip("httpx")

from serkit.serving.http.schemas import JobAnswer, ModelAnswer, PredictAnswer, result_row
from serkit.serving.predictor import Model

from .service import Service
from .signals import quiet, talk, voice, wav

TALK = wav(talk(3), subtype="PCM_16")


def expected(model: Model, content: bytes, **options: Any) -> dict[str, Any]:
    """The answer of the model itself, in the shape of the service."""
    return json.loads(json.dumps(result_row(model.predict(content, **options), 0, "a.wav", options.get("text"))))


def test_it_says_how_it_is(service: Service, model: Model) -> None:
    assert service.client.get("/healthz").json() == {"status": "ok"}
    assert service.client.get("/readyz").json() == {"status": "ready"}
    about = ModelAnswer.model_validate(service.client.get("/v1/model").json())
    assert about.model == model.id
    assert about.labels == list(model.labels)
    assert about.coverages == [0.8, 0.9, 0.95]
    assert not about.auth
    assert about.limits.max_mb == 100


@pytest.mark.parametrize(
    "options",
    [
        {"by": "clip"},
        {"by": "segment"},
        {"by": "window", "window_s": 2.0, "hop_s": 0.5},
        {"by": "clip", "labels": ("anger", "fear", "sadness")},
        {"by": "segment", "text": "what was said"},
        {"by": "clip", "threshold": 0.3},
        {"by": "segment", "coverage": 0.9, "labels": ("anger", "fear", "sadness")},
    ],
)
def test_the_numbers_are_those_of_predict(service: Service, model: Model, options: dict[str, Any]) -> None:
    asked = {k: ",".join(v) if isinstance(v, tuple) else v for k, v in options.items()}
    found = service.result(TALK, **asked)
    assert found == expected(model, TALK, **options)
    assert ("set" in found) == ("coverage" in found) == ("coverage" in options)
    assert (found["granularity"] == "clip") == (not found["segments"])


def test_timeline_is_by_segment(service: Service, model: Model) -> None:
    answer = service.predict(TALK, timeline="true")
    PredictAnswer.model_validate(answer.json())
    assert answer.json()["model"] == model.id
    assert answer.json()["results"] == [expected(model, TALK, by="segment")]
    assert len(answer.json()["results"][0]["segments"]) == 3


def test_every_way_in_gives_the_same_answer(service: Service) -> None:
    text = base64.b64encode(TALK).decode()
    post = service.client.post
    ways = [
        service.predict(TALK, timeline="true", labels="anger,fear"),
        post("/v1/predict", files={"file": ("a.wav", TALK)}, data={"timeline": "1", "labels": "anger, fear"}),
        post("/v1/predict?labels=anger&labels=fear&timeline=true", files={"whatever": ("a.wav", TALK, "audio/wav")}),
        post("/v1/predict", json={"audio": text, "name": "a.wav", "timeline": True, "labels": ["anger", "fear"]}),
        post("/v1/predict?timeline=true&labels=anger,fear", json={"audio": "data:audio/wav;base64," + text}),
        post("/v1/predict?timeline=true&labels=anger,fear", content=TALK, headers={"content-type": "audio/wav"}),
    ]
    assert [w.status_code for w in ways] == [200] * 6
    rows = [{**w.json()["results"][0], "file": None} for w in ways]
    assert all(row == rows[0] for row in rows)
    assert [w.json()["results"][0]["file"] for w in ways] == ["a.wav"] * 4 + [None, None]


def test_turns_and_sentences_come_with_the_body(service: Service) -> None:
    turns = [{"start_s": 0.5, "end_s": 2.2, "speaker": "Ann"}, {"start_s": 2.2, "end_s": 5, "speaker": "Bob"}]
    words = [{"start_s": 0.8, "end_s": 1.9, "text": "well"}]
    data = {"by": "turn", "turns": json.dumps(turns), "sentences": json.dumps(words)}
    form = service.client.post("/v1/predict", files={"file": ("a.wav", TALK)}, data=data)
    parts = form.json()["results"][0]["segments"]
    assert [(p["speaker"], p["text"]) for p in parts] == [("Ann", "well"), ("Bob", None)]
    body = {"audio": base64.b64encode(TALK).decode(), "by": "turn", "turns": turns, "sentences": words}
    assert service.client.post("/v1/predict", json=body).json()["results"][0]["segments"] == parts


def test_several_files_are_answered_in_order_also_under_one_name(service: Service, model: Model) -> None:
    clips = [wav(voice(1.0 + 0.3 * k, k, 100.0 + 50 * k), subtype="PCM_16") for k in range(3)]
    files = [("file", ("same.wav", c)) for c in clips] + [("file", ("bad.wav", b"no sound"))]
    answer = service.client.post("/v1/predict", files=files)
    assert answer.status_code == 200
    rows = answer.json()["results"]
    PredictAnswer.model_validate(answer.json())
    assert [r["index"] for r in rows] == [0, 1, 2, 3]
    for row, clip in zip(rows, clips, strict=False):
        assert row["file"] == "same.wav"
        assert row["scores"] == pytest.approx(dict(model.predict(clip, by="clip").probabilities), abs=1e-5)
    assert rows[3]["error"]["code"] == "bad_audio"
    assert "label" not in rows[3]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"timelines": "true"}, "no option 'timelines'; did you mean 'timeline'?"),
        ({"labels": "angr,fear"}, "no label 'angr'; did you mean 'anger'?"),
        ({"labels": "anger"}, "two or more"),
        ({"by": "phrase"}, "by: Input should be 'clip', 'segment'"),
        ({"by": "clips"}, "; did you mean 'clip'?"),
        ({"by": "turn"}, "needs the turns"),
        ({"by": "clip", "timeline": "true"}, "timeline is of parts, and by 'clip' makes none"),
        ({"by": "segment", "window_s": "2"}, "by 'segment' has no windows"),
        ({"turns": '[{"start_s": 0, "end_s": 1, "speakers": "A"}]'}, "'turns.0.speakers'; did you mean 'speaker'?"),
        ({"turns": '[{"start_s": 3, "end_s": 2}]'}, "3 to 2 s is not a stretch of time"),
        ({"by": "turn", "turns": json.dumps([{"start_s": 0, "end_s": 1e6}] * 500)}, "are their times in seconds?"),
        ({"threshold": "2"}, "threshold: Input should be less than or equal to 1"),
        ({"threshold": "0.999"}, "no confidence reached that precision"),
        ({"coverage": "90"}, "coverage: Input should be less than 1"),
        ({"coverage": "0.9999"}, "coverage 0.9999 takes 9999 held-out clips or more"),
        ({"coverage": "0.9", "by": "channel"}, "by 'channel' answers for several speakers"),
        ({"timeline": "perhaps"}, "timeline: Input should be a valid boolean"),
        ({"by": "window", "window_s": "1", "hop_s": "2"}, "hop"),
    ],
)
def test_wrong_options_are_one_line(service: Service, options: dict[str, str], said: str) -> None:
    answer = service.predict(TALK, **options)
    assert answer.status_code == 422
    assert answer.json()["error"]["code"] == "bad_option"
    assert said in answer.json()["error"]["message"]
    assert "\n" not in answer.json()["error"]["message"]


def test_what_is_no_request_is_one_line(service: Service) -> None:
    post = service.client.post
    form = {"content-type": "multipart/form-data; boundary=x"}
    cases = [
        (post("/v1/predict"), 415, "unsupported_media_type"),
        (post("/v1/predict", content=b"x", headers={"content-type": "text/plain"}), 415, "unsupported_media_type"),
        (post("/v1/predict", content=b"{", headers={"content-type": "application/json"}), 400, "bad_request"),
        (post("/v1/predict", json={"audio": "###"}), 400, "bad_request"),
        (post("/v1/predict", json={"text": "no audio"}), 422, "bad_option"),
        (post("/v1/predict", json={"audio": "", "colour": 1}), 422, "bad_option"),
        (post("/v1/predict", data={"file": "x"}, files={"a": ("", b"")}), 400, "bad_request"),
        (post("/v1/predict", content=b"no form", headers=form), 400, "bad_request"),
        (post("/v1/predict", content=b"", headers=form), 400, "bad_request"),
        (post("/v1/predict", files=[("file", (f"{k}.wav", b"x")) for k in range(40)]), 400, "bad_request"),
        (service.client.get("/v1/predict"), 405, "method_not_allowed"),
        (service.client.get("/v1/nothing"), 404, "not_found"),
        (post("/predict", content=b"x"), 404, "not_found"),  # where only files of the page might be
        (post("/", content=b"x"), 405, "method_not_allowed"),  # the page itself
        (service.client.get("/v1/stream"), 426, "upgrade_required"),
        (service.client.get("/v1/jobs/none"), 404, "not_found"),
    ]
    for answer, status, code in cases:
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code), answer.text
        assert set(answer.json()) == {"error"}
        assert set(answer.json()["error"]) == {"code", "message"}
    lost, wrong = service.client.get("/v1/nothing").json(), service.client.get("/v1/predict").json()
    assert lost["error"]["message"] == "there is nothing at this address; /docs lists the known ones"
    assert wrong["error"]["message"] == "GET is not allowed for this address, expected POST; see /docs"
    plain = service.client.get("/v1/stream")  # what a proxy makes of a handshake whose headers it does not pass on
    assert plain.headers["upgrade"] == "websocket"
    assert plain.json()["error"]["message"].endswith("a proxy has to pass on Upgrade and Connection")
    several = service.client.put("/v1/jobs/none")
    assert several.headers["allow"] == "DELETE, GET"
    assert several.json()["error"]["message"] == "PUT is not allowed for this address, expected DELETE, GET; see /docs"


def wait_for(service: Service, url: str) -> dict[str, Any]:
    found = service.finished(url)
    JobAnswer.model_validate(found)
    return found


def test_a_job_is_answered_later(service: Service, model: Model) -> None:
    begun = service.client.post("/v1/jobs?timeline=true", files={"file": ("a.wav", TALK)})
    assert begun.status_code == 202
    url = begun.headers["location"]
    assert url == begun.json()["url"]
    done = wait_for(service, url)
    assert done["status"] == "done"
    assert done["results"] == [expected(model, TALK, by="segment")]
    assert done["heard_s"] == pytest.approx(7.25, abs=0.1)
    assert service.client.delete(url).status_code == 204
    assert service.client.get(url).status_code == 404
    assert service.client.delete(url).status_code == 404


def test_a_job_has_sets_only_if_a_coverage_was_asked_for(service: Service, model: Model) -> None:
    begun = service.client.post("/v1/jobs?coverage=0.9", files={"file": ("a.wav", TALK)})
    [found] = wait_for(service, begun.headers["location"])["results"]
    assert found == expected(model, TALK, by="clip", coverage=0.9)
    assert found["set"][0] == found["label"]
    plain = service.client.post("/v1/jobs", files={"file": ("a.wav", TALK)})
    assert not {"set", "coverage"} & set(wait_for(service, plain.headers["location"])["results"][0])


def test_a_job_that_cannot_be_answered_says_why(service: Service) -> None:
    begun = service.client.post("/v1/jobs", files={"file": ("a.wav", b"no sound at all")})
    done = wait_for(service, begun.headers["location"])
    assert done["status"] == "failed"
    assert done["error"]["code"] == "bad_audio"
    assert done["results"] is None
    files = [("file", ("a.wav", TALK)), ("file", ("a.wav", b"x"))]
    both = wait_for(service, service.client.post("/v1/jobs", files=files).headers["location"])
    assert both["status"] == "done"
    assert [bool(r["error"]) for r in both["results"]] == [False, True]


def test_a_job_can_be_stopped_while_it_runs(service: Service) -> None:
    long = wav(np.tile(np.concatenate([voice(3), quiet(1)]), 80), kind="FLAC")
    url = service.client.post("/v1/jobs?timeline=true", files={"file": ("a.flac", long)}).headers["location"]
    end = time.monotonic() + 90
    while service.client.get(url).json()["status"] != "running" and time.monotonic() < end:
        time.sleep(0.05)
    assert service.client.get(url).json()["status"] == "running"
    assert service.client.delete(url).status_code == 204
    after = service.client.post("/v1/jobs", files={"file": ("a.wav", TALK)}).headers["location"]
    assert wait_for(service, after)["status"] == "done"


def test_openapi_has_examples_and_all_endpoints(service: Service) -> None:
    found = service.client.get("/openapi.json").json()
    assert set(found["paths"]) == {
        "/healthz", "/readyz", "/metrics", "/v1/model", "/v1/predict", "/v1/jobs", "/v1/jobs/{job}",
    }  # fmt: skip
    schemas = found["components"]["schemas"]
    for name in ("PredictAnswer", "Result", "SegmentRow", "JobAnswer", "ErrorAnswer", "JsonBody"):
        assert schemas[name]["example"], name
    PredictAnswer.model_validate(schemas["PredictAnswer"]["example"])
    JobAnswer.model_validate(schemas["JobAnswer"]["example"])
    names = {p["name"] for p in found["paths"]["/v1/predict"]["post"]["parameters"]}
    assert names == {"timeline", "by", "labels", "threshold", "coverage", "text", "window_s", "hop_s"}
    assert "0.8, 0.9, 0.95" in schemas["ModelAnswer"]["properties"]["coverages"]["description"]
    assert "coverages" in schemas["ModelAnswer"]["required"]
    assert service.client.get("/docs").status_code == 200


def test_the_page_is_served_beside_the_endpoints(service: Service, tmp_path: Path) -> None:
    from starlette.testclient import TestClient

    from serkit.serving.http.app import create_app
    from serkit.serving.http.settings import PAGE, ServiceSettings

    if (PAGE / "index.html").is_file():
        home = service.client.get("/")
        assert (home.status_code, home.headers["content-type"].split(";")[0]) == (200, "text/html")
    (tmp_path / "page").mkdir()
    (tmp_path / "page" / "index.html").write_text("<title>a page</title>")
    (tmp_path / "secret").write_text("secret")
    client = TestClient(create_app(ServiceSettings(model="none", page=tmp_path / "page")))  # no workers without 'with'
    assert client.get("/").text == "<title>a page</title>"
    assert client.get("/v1/predict").status_code == 405
    for path in ("/nothing", "/../secret", "/%2e%2e/secret", "/..%2fsecret"):
        answer = client.get(path)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")
    without = TestClient(create_app(ServiceSettings(model="none", page=None)))
    assert without.get("/").status_code == 404


def test_other_origins_are_named(tmp_path: Path) -> None:
    from starlette.testclient import TestClient

    from serkit.serving.http.app import create_app
    from serkit.serving.http.settings import ServiceSettings

    client = TestClient(create_app(ServiceSettings(model="none", origins=("https://mine.example",))))
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-api-key"}
    for origin, status in (("https://mine.example", 200), ("https://other.example", 400)):
        answer = client.options("/v1/predict", headers={"Origin": origin, **asked})
        assert answer.status_code == status
        assert (answer.headers.get("access-control-allow-origin") == origin) == (status == 200)


def test_pages_of_other_origins_send_no_recordings(service: Service) -> None:
    """A browser sends a form to any address without asking; only the answer is kept from the page."""
    here = service.url
    for headers, status in (
        ({"Origin": "https://elsewhere.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://[::1", "Sec-Fetch-Site": "cross-site"}, 403),
        ({"Origin": here.replace("127.0.0.1", "localhost")}, 403),
        ({"Origin": here}, 200),
        ({"Origin": "https://behind.a.proxy.example", "Sec-Fetch-Site": "same-origin"}, 200),
    ):
        for path in ("/v1/predict", "/v1/jobs"):
            answer = service.client.post(path, files={"file": ("a.wav", TALK)}, headers=headers)
            assert answer.status_code == (202 if path == "/v1/jobs" and status == 200 else status), headers
            if status == 403:
                assert answer.json()["error"]["code"] == "forbidden"
            elif path == "/v1/jobs":
                assert service.client.delete(answer.json()["url"]).status_code == 204


@pytest.mark.parametrize(
    ("origin", "keys", "allowed"),
    [
        ("http://evil.example.com:8000", (), False),  # its name points here since the page was opened
        ("http://evil.example.com.", (), False),
        ("http://evil.example.com:8000", ("a-long-key",), True),  # who has no key cannot call
        ("http://named.example.com", (), True),  # by --allow-origin
        ("https://behind.a.proxy.example", (), True),  # the browser has seen the certificate of the name
        ("http://localhost:8000", (), True),
        ("http://box:8000", (), True),
        ("http://box.local:8000", (), True),
        ("http://192.168.1.7:8000", (), True),
        ("http://[fe80::7]:8000", (), True),
    ],
)
def test_a_name_that_anybody_may_point_here_is_none_of_the_service_s(
    origin: str, keys: tuple[str, ...], allowed: bool
) -> None:
    from serkit.serving.http.errors import Refused
    from serkit.serving.http.service import Service as Served
    from serkit.serving.http.settings import ServiceSettings

    served = Served(ServiceSettings(model="none", keys=keys, origins=("http://named.example.com",)))
    headers = {"origin": origin, "host": origin.partition("://")[2]}
    if allowed:
        served.refuse_foreign(headers)
        return
    with pytest.raises(Refused, match="see --allow-origin"):
        served.refuse_foreign(headers)


def test_answers_are_kept_by_no_cache_and_the_page_is_in_no_frame(service: Service) -> None:
    answer = service.predict(TALK)
    assert answer.headers["cache-control"] == "no-store"
    for path in ("/", "/main.js", "/v1/model", "/nothing"):
        given = service.client.get(path).headers
        assert given["content-security-policy"] == "frame-ancestors 'none'", path
        assert given["x-content-type-options"] == "nosniff"
    assert "frame-ancestors 'none'" in service.client.get("/docs").headers["content-security-policy"]


def test_metrics_count_what_was_answered(service: Service) -> None:
    before = service.metric("serkit_requests_total", endpoint="/v1/predict", status="200")
    heard = service.metric("serkit_audio_seconds_total", lane="predict")
    service.result(wav(voice(2.0)))
    assert service.metric("serkit_requests_total", endpoint="/v1/predict", status="200") == before + 1
    assert service.metric("serkit_audio_seconds_total", lane="predict") == pytest.approx(heard + 2.0)
    assert service.metric("serkit_requests_held") == 0
    assert service.metric("serkit_held_bytes") == 0
    assert 'serkit_model_info{model="tiny@' in service.client.get("/metrics").text


def test_nothing_of_a_recording_is_logged_or_kept(service: Service) -> None:
    name, words = "a very secret name – geheim.wav", "these words are secret"
    large = wav(np.tile(voice(5), 20), kind="WAV", subtype="FLOAT")
    assert len(large) > 4_000_000
    service.client.post("/v1/predict", files={"file": (name, large)}, params={"text": words}).raise_for_status()
    bad = service.client.post("/v1/predict", files={"file": (name, large[:-1000])}, params={"text": words})
    assert bad.status_code == 422
    assert "/proc" not in bad.text
    assert list(service.folder.iterdir()) == []
    for secret in ("secret", "geheim"):
        assert secret not in service.log
    assert "POST /v1/predict 200" in service.log


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with keys and narrow limits."""
    folder = tmp_path_factory.mktemp("strict")
    keys = folder / "keys"
    keys.write_text("# who may ask\nsecret-of-ann\n\nsecret-of-bob\n")
    temporary = folder / "tmp"
    temporary.mkdir()
    with Service(
        temporary, {"SERKIT_API_KEYS": "secret-of-cleo, "}, workers=1, api_key_file=keys, max_mb=1, job_max_mb=2,
        max_minutes=0.5, job_max_minutes=1, timeout=20, read_timeout=5,
    ) as found:  # fmt: skip
        yield found


def test_keys_are_asked_for(strict: Service) -> None:
    post = strict.client.post
    for headers in ({}, {"x-api-key": "secret-of-dan"}, {"authorization": "Basic secret-of-ann"}, {"x-api-key": ""}):
        answer = post("/v1/predict", files={"file": ("a.wav", TALK)}, headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "unauthorized")
        assert answer.headers["www-authenticate"] == "Bearer"
    for headers in (
        {"x-api-key": "secret-of-ann"},
        {"authorization": "Bearer secret-of-bob"},
        {"authorization": "bearer secret-of-cleo"},
    ):
        assert post("/v1/predict", files={"file": ("a.wav", TALK)}, headers=headers).status_code == 200
    assert strict.client.get("/healthz").status_code == 200
    assert strict.client.get("/v1/model").json()["auth"] is True
    assert strict.client.get("/openapi.json").json()["security"] == [{"key": []}]
    assert "secret" not in strict.log


def test_what_is_open_without_a_key_is_named_here(strict: Service) -> None:
    paths = strict.client.get("/openapi.json").json()["paths"]
    asked = [(method.upper(), path) for path, row in paths.items() for method in row]
    answers = {f"{m} {p}": strict.client.request(m, p.replace("{job}", "x")).status_code for m, p in asked}
    assert {name for name, status in answers.items() if status != 401} == {
        "GET /healthz", "GET /readyz", "GET /metrics", "GET /v1/model",
    }  # fmt: skip


def test_a_job_is_shown_to_its_owner_alone(strict: Service) -> None:
    ann, bob = {"x-api-key": "secret-of-ann"}, {"x-api-key": "secret-of-bob"}
    url = strict.client.post("/v1/jobs", files={"file": ("a.wav", TALK)}, headers=ann).headers["location"]
    assert strict.client.get(url, headers=bob).status_code == 404
    assert strict.client.delete(url, headers=bob).status_code == 404
    assert strict.client.get(url).status_code == 401
    assert strict.client.get(url, headers=ann).status_code == 200
    assert strict.client.delete(url, headers=ann).status_code == 204


def test_limits_hold_while_a_body_comes_in(strict: Service) -> None:
    headers = {"x-api-key": "secret-of-ann", "content-type": "audio/wav"}

    def endless() -> Iterator[bytes]:
        for _ in range(50):
            yield bytes(100_000)

    said = strict.client.post("/v1/predict", content=bytes(1_100_000), headers=headers)
    drip = strict.client.post("/v1/predict", content=endless(), headers=headers)
    form = strict.client.post("/v1/predict", files={"file": ("a", bytes(1_200_000))}, headers=headers | {
        "content-type": "multipart/form-data; boundary=b"})  # fmt: skip
    text = base64.b64encode(bytes(1_200_000)).decode()
    coded = strict.client.post("/v1/predict", json={"audio": text}, headers={"x-api-key": "secret-of-ann"})
    for answer in (said, drip, form, coded):
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large"), answer.text
        assert answer.json()["error"]["message"].startswith("what was sent exceeds 1 MB, the limit"), "as it was set"
        assert "/v1/jobs" in answer.json()["error"]["message"]
    end = time.monotonic() + 60
    while strict.metric("serkit_held_bytes") and time.monotonic() < end:
        time.sleep(0.05)
    assert strict.metric("serkit_held_bytes") == 0
    assert list(strict.folder.iterdir()) == []


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG"])
def test_what_is_too_long_is_refused(strict: Service, kind: str) -> None:
    headers = {"x-api-key": "secret-of-ann"}
    long = wav(np.zeros(31 * 8_000, np.float32), 8_000, kind, "PCM_U8" if kind == "WAV" else None)
    answer = strict.client.post("/v1/predict", files={"file": ("a", long)}, headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_long"), answer.text
    url = strict.client.post("/v1/jobs", files={"file": ("a", long)}, headers=headers).headers["location"]
    end = time.monotonic() + 90
    while (found := strict.client.get(url, headers=headers).json())["status"] in ("queued", "running"):
        assert time.monotonic() < end
        time.sleep(0.05)
    assert found["status"] == "done"


def test_a_wrong_model_ends_the_command_in_one_line(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from serkit.cli import app
    from serkit.errors import SerkitError

    found = CliRunner().invoke(app, ["serve", "--model", str(tmp_path / "none.zip")])
    assert isinstance(found.exception, SerkitError)
    assert "no bundle" in str(found.exception)
    found = CliRunner().invoke(app, ["serve", "--model", "tests", "--api-key-file", str(tmp_path / "none")])
    assert isinstance(found.exception, SerkitError)


def test_a_wrong_value_of_the_query_is_told_though_the_body_has_another() -> None:
    from serkit.serving.http.errors import Refused
    from serkit.serving.http.uploads import read_options

    assert read_options([("hop_s", "2"), ("labels", "a,b")], {"hop_s": 0.5}).hop_s == 0.5
    assert read_options([("labels", "a,b")], {"hop_s": 0.5}).labels == ["a", "b"]
    with pytest.raises(Refused, match="hop_s"):
        read_options([("hop_s", "-561")], {"hop_s": 0.5})


def test_an_empty_value_is_wrong_in_a_query_and_not_filled_in_in_a_form() -> None:
    from serkit.serving.http.errors import Refused
    from serkit.serving.http.uploads import read_options

    assert read_options([], {"by": "", "labels": ""}).by == "clip"
    with pytest.raises(Refused, match="by"):
        read_options([("by", "")], {})


@pytest.mark.parametrize("kind", ["audio/wav", "multipart/form-data; boundary=cut"])
def test_a_large_body_is_on_the_disk_to_its_last_byte(kind: str) -> None:
    """A worker reads it there: of bytes that came last and few, the service's own file had kept some in memory."""
    from starlette.requests import Request

    from serkit.serving.http.settings import ServiceSettings
    from serkit.serving.http.uploads import Budget, read_body

    content = random.Random(3).randbytes(17 * 65_536 + 3000)
    sent = content
    if kind.startswith("multipart"):
        head = b'--cut\r\ncontent-disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
        sent = head + content + b"\r\n--cut--\r\n"
    pieces = [sent[at : at + 65_536] for at in range(0, len(sent), 65_536)]

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": pieces.pop(0), "more_body": bool(pieces)}

    async def scene() -> None:
        scope = {"type": "http", "headers": [(b"content-type", kind.encode())], "query_string": b""}
        body = await read_body(Request(scope, receive), ServiceSettings(), Budget(1 << 30), 1 << 30)
        file = body.uploads[0].descriptor_file
        assert file is not None
        assert os.pread(file.fileno(), 1 << 30, 0) == content
        body.close()

    asyncio.run(scene())
