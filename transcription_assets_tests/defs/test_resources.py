"""Run configuration cannot change the tools, store or executor of a run."""

from collections.abc import Iterator
from typing import Any

import dagster as dg
import pytest
from dagster._core.remote_representation.external_data import RepositorySnap

from transcription_assets import definitions
from transcription_assets.settings import Settings
from transcription_assets.worker_wiring import SpeechSettings

SERVICES = {"embedding_url": "https://service.example/v1", "embedding_key": "secret", "speech_key": "secret"}
CHOSEN = [
    {"executor": executor, "store": store, **SERVICES}
    for executor in ("in_process", "multiprocess", "k8s")
    for store in ("store", "s3://bucket/prefix")
]
JOBS = ("process_recordings", "refresh_search", "__ASSET_JOB")
ENV = {"env": "AWS_SECRET_ACCESS_KEY"}


def job(name: str, chosen: dict[str, str]) -> dg.JobDefinition:
    return definitions.build(Settings.model_validate(chosen)).get_repository_def().get_job(name)


def leaves(config_type: Any, path: str = "") -> Iterator[str]:
    """Yield the path of every value that this configuration accepts."""
    fields = getattr(config_type, "fields", None)
    if fields is not None:
        for name, field in fields.items():
            yield from leaves(field.config_type, f"{path}.{name}")
    elif (inner := getattr(config_type, "inner_type", None)) is not None:
        yield from leaves(inner, path)
    else:
        yield path


@pytest.mark.parametrize("chosen", CHOSEN, ids=lambda chosen: f"{chosen['executor']}, {chosen['store'][:2]}")
@pytest.mark.parametrize("name", JOBS)
def test_only_logging_can_be_configured_at_launch(name: str, chosen: dict[str, str]) -> None:
    schema = job(name, chosen).run_config_schema.run_config_schema_type
    assert set(leaves(schema)) == {".loggers.console.config.log_level", ".loggers.console.config.name"}


@pytest.mark.parametrize(
    "config",
    [
        {"resources": {"encoder": {"config": {"url": "http://evil.example", "key": ENV}}}},
        {"resources": {"decoder": {"config": {"ffmpeg": "/bin/sh"}}}},
        {"resources": {"store": {"config": {"url": "/etc"}}}},
        {"resources": {"store": {"config": {"s3": {"endpoint_url": "http://evil.example"}}}}},
        {"resources": {"speech": {"config": {"models_dir": ENV}}}},
        {"resources": {"io_manager": {"config": {"base_dir": "/etc"}}}},
        {"ops": {"video": {"config": {"ffmpeg": "/bin/sh"}}}},
        {"execution": {"config": {"start_method": {"forkserver": {"preload_modules": ["antigravity"]}}}}},
        {"execution": {"config": {"job_image": "evil.example/image", "env_vars": ["A=b"]}}},
        {"execution": {"config": {"step_k8s_config": {"container_config": {"image": "evil.example/image"}}}}},
    ],
    ids=str,
)
@pytest.mark.parametrize("chosen", CHOSEN, ids=lambda chosen: f"{chosen['executor']}, {chosen['store'][:2]}")
def test_run_config_for_tools_or_executor_is_refused(chosen: dict[str, str], config: dict[str, Any]) -> None:
    with pytest.raises(dg.DagsterInvalidConfigError):
        dg.validate_run_config(job("process_recordings", chosen), config)


def test_keys_of_services_are_not_in_the_snapshot() -> None:
    repository = definitions.build(Settings.model_validate(CHOSEN[0])).get_repository_def()
    assert "secret" not in dg.serialize_value(RepositorySnap.from_def(repository))


def test_the_speech_service_reaches_worker_processes_without_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRANSCRIPTION_SPEECH_KEY", "secret")
    chosen = {"engine": "openai", "speech_url": "http://host/v1", "speech_model": "m", "speech_key": "secret"}
    (environment,) = SpeechSettings.of(Settings.model_validate(chosen)).environments()
    assert environment["TRANSCRIPTION_ENGINE"] == "openai"
    assert environment["TRANSCRIPTION_SPEECH_URL"] == "http://host/v1"
    assert "secret" not in environment.values()
    resource = definitions.build(Settings.model_validate(CHOSEN[0] | chosen)).resources or {}
    speech = resource["speech"].resource_fn(None)
    transcriber = speech.transcriber("ffmpeg", "run", lambda _line: None)
    assert transcriber.model.name == "m"
    assert Settings.model_validate(environment_fields(environment)).engine == "openai"


def environment_fields(environment: dict[str, str]) -> dict[str, str]:
    return {name.removeprefix("TRANSCRIPTION_").lower(): value for name, value in environment.items()}


def test_code_version_has_the_model_of_the_service() -> None:
    def version(model: str, url: str) -> str:
        return definitions.code_versions(Settings(engine="openai", speech_url=url, speech_model=model))["transcript"]

    assert version("m", "http://a/v1") == version("m", "http://b/v1")
    assert version("m", "http://a/v1") != version("n", "http://a/v1")
    assert version("whisper-1", "http://a/v1") != version("whisper-1", "http://b/v1")
    assert version("m", "http://a/v1") != definitions.code_versions(Settings())["transcript"]
