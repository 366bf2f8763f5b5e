"""Run configuration cannot change the tools, store or executor of a run."""

from collections.abc import Iterator
from typing import Any

import dagster as dg
import pytest
from dagster._core.remote_representation.external_data import RepositorySnap

from transcription_assets import definitions
from transcription_assets.settings import Settings

CHOSEN = [
    {"executor": executor, "store": store, "embedding_url": "https://service.example/v1", "embedding_key": "secret"}
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


def test_embedding_key_is_not_in_the_repository_snapshot() -> None:
    repository = definitions.build(Settings.model_validate(CHOSEN[0])).get_repository_def()
    assert "secret" not in dg.serialize_value(RepositorySnap.from_def(repository))
