"""The doctor in a pod: one line that names the wrong or missing object of the cluster."""

import socket
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from transcription_assets.cli import doctor
from transcription_assets.cli.doctor import Diagnosis
from transcription_assets.settings import Settings
from transcription_assets_tests.serving import answering


@pytest.fixture(autouse=True)
def _in_a_pod(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TRANSCRIPTION_EXECUTOR", "k8s")
    monkeypatch.setenv("TRANSCRIPTION_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("TRANSCRIPTION_MODELS_DIR", str(tmp_path / "models"))
    monkeypatch.delenv("DAGSTER_PG_HOST", raising=False)


@pytest.fixture
def nobody_listens() -> str:
    """Return a local address at which no database listens."""
    address = "127.84.1.9"
    with socket.socket() as probe:
        assert probe.connect_ex((address, 5432)), "something listens there"
    return address


def said(name: str) -> Diagnosis:
    return next(item for item in doctor.examine(Settings()) if item.name == name)


@pytest.mark.parametrize("name", ["speech model", "encoder model"])
def test_missing_model_in_a_pod_names_the_job_that_pulls_it(name: str) -> None:
    found = said(name)
    assert not found.healthy
    assert "fill-models" in found.detail
    assert "\n" not in found.detail


@pytest.mark.parametrize(("status", "healthy"), [(200, True), (401, False)])
def test_the_speech_service_is_asked(status: int, monkeypatch: pytest.MonkeyPatch, *, healthy: bool) -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(b'{"text": ""}')

        def log_message(self, *_: object) -> None:
            """Do not log."""

    with answering(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as address:
        monkeypatch.setenv("TRANSCRIPTION_ENGINE", "openai")
        monkeypatch.setenv("TRANSCRIPTION_SPEECH_URL", f"{address}/v1")
        found = said("speech service")
    assert found.healthy == healthy
    assert "fill-models" not in found.detail


def test_a_speech_service_without_url_is_unhealthy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRANSCRIPTION_ENGINE", "openai")
    found = said("speech service")
    assert not found.healthy
    assert "TRANSCRIPTION_SPEECH_URL" in found.detail


def test_missing_gpu_is_healthy_where_only_steps_have_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the doctor would report an error in every cluster with a GPU pool, and users would ignore it."""
    monkeypatch.setenv("TRANSCRIPTION_DEVICE", "cuda")
    found = said("device")
    assert found.healthy
    assert "not checked" in found.detail
    assert "device plugin" in found.detail
    assert "\n" not in found.detail


def test_missing_gpu_is_unhealthy_if_selected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRANSCRIPTION_EXECUTOR", "in_process")
    monkeypatch.setenv("TRANSCRIPTION_DEVICE", "cuda")
    assert not said("device").healthy


def test_missing_bucket_secret_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TRANSCRIPTION_STORE", "s3://media/archive")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(variable, raising=False)
    found = said("store")
    assert not found.healthy
    assert "AWS credentials" in found.detail
    assert "transcription-secrets" in found.detail
    assert "\n" not in found.detail


def test_unreachable_database_is_named_without_its_password(
    monkeypatch: pytest.MonkeyPatch, nobody_listens: str
) -> None:
    for name, value in {"HOST": nobody_listens, "USERNAME": "dagster", "PASSWORD": "hush", "DB": "runs"}.items():
        monkeypatch.setenv(f"DAGSTER_PG_{name}", value)
    found = said("database")
    assert not found.healthy
    assert f"dagster@{nobody_listens}/runs" in found.detail
    assert "dagster-postgresql-secret" in found.detail
    assert "hush" not in found.detail
    assert "\n" not in found.detail


def test_database_is_not_checked_if_dagster_has_none() -> None:
    assert "database" not in {item.name for item in doctor.examine(Settings())}


def test_healthy_part_has_no_hint() -> None:
    found = said("store")
    assert found.healthy
    assert "Secret" not in found.detail


@pytest.mark.parametrize(
    ("encoder", "recordings", "advised"),
    [
        ("all-MiniLM-L6-v2", {"en": 9, "de": 2}, True),
        ("all-MiniLM-L6-v2", {"en": 9}, False),
        ("intfloat/multilingual-e5-small", {"de": 2}, False),
        ("of/unknown", {"de": 2}, False),
    ],
)
def test_english_encoder_for_other_languages_is_pointed_out(
    encoder: str, recordings: dict[str, int], *, advised: bool
) -> None:
    assert (doctor.MULTILINGUAL in doctor.language_hint(encoder, recordings)) is advised
