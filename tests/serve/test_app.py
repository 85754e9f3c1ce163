"""The application around the jobs: who is let in, facts, the page, the interface's document."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import schemathesis
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from schemathesis import checks
from starlette.responses import PlainTextResponse
from tests.serve.service import BASE, Running, settings_of, upload

from dualstream.errors import InputError
from dualstream.serve.guard import POLICY, Guard
from dualstream.serve.observe import Metrics
from dualstream.serve.page_files import PAGE_FILES
from dualstream.serve.settings import Limits, NetworkSettings, Settings, is_loopback

PAGE = tuple(PAGE_FILES)


def test_facts(client: TestClient) -> None:
    health = client.get("/healthz").json()
    assert health["status"] == "ok"
    models = client.get("/v1/models").json()
    assert models["classes"] == ["right", "down"]
    assert models["networks"] == [
        {"name": "rgb", "streams": [{"name": "rgb", "modality": "rgb", "frames": 1}]}
    ]
    assert models["accepts"] == ["upload", "path"]
    assert models["explains"] is True


def test_numbers_for_prometheus(client: TestClient, videos: Path) -> None:
    def value(name: str) -> float:
        text = client.get("/metrics").text
        found = re.search(rf"^{re.escape(name)} (\S+)$", text, flags=re.MULTILINE)
        return float(found[1]) if found else 0.0

    done, seconds = 'dualstream_jobs_total{state="done"}', "dualstream_video_seconds_total"
    before = value(done), value(seconds), value("dualstream_uploaded_bytes_total")
    upload(client, videos / "short.mp4")
    assert value(done) == before[0] + 1
    assert value(seconds) == pytest.approx(before[1] + 0.48)
    assert value("dualstream_uploaded_bytes_total") > before[2]
    assert value("dualstream_batch_windows_count") > 0


@pytest.mark.parametrize("address", PAGE)
def test_the_page_has_nothing_from_elsewhere(client: TestClient, address: str) -> None:
    answer = client.get(address)
    assert answer.status_code == 200
    assert answer.headers["content-security-policy"] == POLICY
    assert "unsafe" not in POLICY
    assert answer.headers["x-content-type-options"] == "nosniff"
    links = set(re.findall(r"https?://[^\s\"'<>)]+", answer.text))
    assert links <= {"http://www.w3.org/2000/svg"}
    assert not re.search(r"<script>|<style|\sstyle=|\son\w+=", answer.text)


def test_every_script_that_the_page_imports_is_served(client: TestClient) -> None:
    wanted = re.findall(r'<script src="([^"]+)" type="module"></script>', client.get("/").text)
    found: dict[str, str] = {}
    while wanted:
        address = wanted.pop()
        if address in found:
            continue
        answer = client.get(address)
        assert answer.status_code == 200, address
        assert answer.headers["content-type"] == "text/javascript; charset=utf-8", address
        assert len(answer.text.splitlines()) < 400, address
        found[address] = answer.text
        imported = re.findall(r'^import (?:[^"]+ from )?"\.(/[^"]+)";$', answer.text, re.MULTILINE)
        assert len(imported) == len(re.findall(r"^import\b", answer.text, re.MULTILINE)), address
        wanted += imported
    assert sorted(found) == sorted(one for one in PAGE_FILES if one.endswith(".js"))


def test_other_origins_and_names_are_refused(client: TestClient) -> None:
    for headers in (
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9999"},
        {"host": "evil.example"},
        {"host": "evil.example:8000"},
    ):
        answer = client.get("/healthz", headers=headers)
        assert (answer.status_code, answer.json()["error"]) == (403, "forbidden"), headers
    for headers in (
        {"origin": "http://127.0.0.1:8000"},
        {"host": "localhost:8000"},
        {"host": "[::1]:8000"},
        {"host": "localhost:8000", "origin": "http://localhost:8000"},
    ):
        assert client.get("/healthz", headers=headers).status_code == 200, headers


def test_tokens(run: Path, tmp_path: Path) -> None:
    """Around an application that answers everything."""
    token = "tell nobody"
    guarded = settings_of(run, tmp_path, token=token)
    app = Guard(PlainTextResponse("secret"), settings=guarded, metrics=Metrics())
    client = TestClient(app, base_url=BASE)
    for address in (*PAGE, "/healthz", "/openapi.json"):
        assert client.get(address).status_code == 200, address
    for given_token in (None, "Bearer wrong", "Bearer ", "Basic tell nobody", token, "Bearer é"):
        headers = {} if given_token is None else {"authorization": given_token.encode()}
        for address in ("/v1/models", "/metrics", f"/v1/jobs/{'0' * 32}", "/nothing"):
            answer = client.get(address, headers=headers)
            assert (answer.status_code, answer.json()["error"]) == (401, "unauthorized")
            assert answer.headers["www-authenticate"] == "Bearer"
    answer = client.get("/v1/models", headers={"authorization": f"bearer {token}"})
    assert answer.text == "secret"


def test_unknown_places_and_methods(client: TestClient) -> None:
    assert client.get("/nothing").json()["error"] == "not-found"
    assert client.put("/healthz").json()["error"] == "method-not-allowed"


def test_settings_that_cannot_be(run: Path, tmp_path: Path) -> None:
    networks = NetworkSettings(runs=(run,))
    for values, message in (
        ({"host": "0.0.0.0"}, "token"),
        ({"port": 70000}, "65535"),
        ({"token": " "}, "ASCII"),
        ({"root": tmp_path / "no"}, "no folder"),
    ):
        with pytest.raises(InputError, match=message):
            Settings(networks=networks, folder=tmp_path, **values)
    Settings(networks=networks, folder=tmp_path, host="0.0.0.0", token="x")
    for limits in ({"queue": 0}, {"video_seconds": 0}, {"grace_seconds": -1}):
        with pytest.raises(InputError, match=next(iter(limits))):
            Limits(**limits)
    with pytest.raises(InputError, match="at least one network"):
        NetworkSettings()
    assert [is_loopback(one) for one in ("127.0.0.2", "::1", "0.0.0.0", "a.example")] == [
        True,
        True,
        False,
        False,
    ]


@pytest.mark.slow
def test_the_interface_is_as_its_document_says(run: Path, videos: Path, tmp_path: Path) -> None:
    """Schemathesis: no answer of 5xx, and all as the document has them."""
    service = Running(run, tmp_path, "--root", str(videos))
    schema = schemathesis.openapi.from_url(f"{service.url}/openapi.json")
    chosen = [
        checks.not_a_server_error,
        checks.status_code_conformance,
        checks.content_type_conformance,
        checks.response_schema_conformance,
    ]
    tried = 0
    for found in schema.get_all_operations():
        operation = found.ok()

        @settings(max_examples=8, derandomize=True, suppress_health_check=list(HealthCheck))
        @given(operation.as_strategy())
        def each(case: schemathesis.Case) -> None:
            nonlocal tried
            tried += 1
            answer = case.call()
            case.validate_response(answer, checks=chosen)

        each()
    assert tried >= 20
    assert service.end() == 0
