"""The asset graph as Dagster shows it, and the import rules of the package."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import pytest

from transcription_assets import definitions
from transcription_assets.defs.jobs import recordings
from transcription_assets.settings import Settings

ROOT = Path(definitions.__file__).parents[1]
HEAVY = ("torch", "lancedb", "faster_whisper", "ctranslate2", "av", "boto3", "botocore", "sentence_transformers")

# asset: (upstream assets, group, kinds, whether it has a partition for each recording, checks)
GRAPH: dict[str, tuple[set[str], str, set[str], bool, set[str]]] = {
    "sources": (set(), "recordings", {"rss"}, False, set()),
    "inbox": ({"sources"}, "recordings", {"file"}, False, set()),
    "video": ({"inbox"}, "recordings", {"ffmpeg"}, True, {"playable"}),
    "audio": ({"video"}, "recordings", {"ffmpeg"}, True, {"whole", "audible"}),
    "transcript": ({"audio"}, "recordings", {"whisper"}, True, {"speech_coverage", "confidence", "no_hallucinations"}),
    "embeddings": ({"transcript"}, "recordings", {"sentencetransformers", "polars", "lancedb"}, True, {"complete"}),
    "search_index": ({"embeddings"}, "recordings", {"lancedb"}, False, set()),
    "costs": ({"embeddings"}, "recordings", {"report"}, False, set()),
}


@pytest.fixture(scope="module")
def specs() -> dict[str, dg.AssetSpec]:
    return {spec.key.to_user_string(): spec for spec in definitions.defs.resolve_all_asset_specs()}


def test_graph_has_the_documented_assets_and_checks(specs: dict[str, dg.AssetSpec]) -> None:
    checks: dict[str, set[str]] = {name: set() for name in GRAPH}
    for check in definitions.defs.resolve_asset_graph().asset_check_keys:
        checks[check.asset_key.to_user_string()].add(check.name)
    assert {
        name: (
            {dep.asset_key.to_user_string() for dep in spec.deps},
            spec.group_name,
            set(spec.kinds),
            spec.partitions_def == recordings,
            checks[name],
        )
        for name, spec in specs.items()
    } == GRAPH


def test_every_asset_has_a_description_and_an_owner(specs: dict[str, dg.AssetSpec]) -> None:
    for name, spec in specs.items():
        assert spec.description, name
        assert len(spec.description) > 40, name
        assert list(spec.owners) == ["team:transcription"], name


def test_every_check_has_a_description() -> None:
    graph = definitions.defs.resolve_asset_graph()
    for key in graph.asset_check_keys:
        assert len(graph.get_check_spec(key).description or "") > 40, key


def test_jobs_and_sensors_are_described_and_sensors_run() -> None:
    repository = definitions.defs.get_repository_def()
    jobs = {job.name: job for job in repository.get_all_jobs() if not job.name.startswith("__")}
    assert set(jobs) == {"process_recordings", "refresh_search", "fetch_sources"}
    assert all(job.description for job in jobs.values())
    selected = jobs["process_recordings"].asset_layer.selected_asset_keys
    assert {key.to_user_string() for key in selected} == {"video", "audio", "transcript", "embeddings"}
    sensors = {sensor.name: sensor for sensor in repository.sensor_defs}
    kinds = {"feed_sources", "link_sources", "http_sources", "store_sources"}
    assert set(sensors) == {"inbox_sensor", "automation", "events"} | kinds
    assert all(sensor.description for sensor in sensors.values())
    assert {sensor.default_status for sensor in sensors.values()} == {dg.DefaultSensorStatus.RUNNING}


def test_batch_is_one_run_and_downstream_assets_are_automated(specs: dict[str, dg.AssetSpec]) -> None:
    graph = definitions.defs.resolve_asset_graph()
    for name in ("video", "audio", "transcript", "embeddings"):
        assert graph.get(specs[name].key).backfill_policy == dg.BackfillPolicy.single_run()
    automated = {name for name, spec in specs.items() if spec.automation_condition}
    assert automated == {"audio", "transcript", "embeddings", "search_index", "costs"}


@pytest.mark.parametrize(
    ("change", "stale"),
    [
        ({"whisper_model": "tiny.en"}, {"transcript"}),
        ({"beam_size": 1}, {"transcript"}),
        ({"language": "de"}, {"transcript"}),
        ({"encoder_model": "somebody/encoder"}, {"embeddings"}),
        ({"embedding_url": "https://service.example/v1"}, {"embeddings"}),
        ({"passage_s": 60.0}, {"embeddings"}),
        ({"run_max_files": 3, "store": "elsewhere", "cpu_threads": 1}, set()),
    ],
)
def test_setting_changes_only_code_versions_of_affected_assets(change: dict[str, object], stale: set[str]) -> None:
    before = definitions.code_versions(Settings.model_validate({}))
    after = definitions.code_versions(Settings.model_validate(change))
    assert {asset for asset in before if before[asset] != after[asset]} == stale


def python(code: str) -> str:
    command = [sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning", "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert not done.stderr, "warnings at every start hide important ones"
    return done.stdout


def test_definitions_load_without_heavy_imports_or_warnings() -> None:
    loaded = python(f"import sys, transcription_assets.definitions; print([m for m in {HEAVY} if m in sys.modules])")
    assert loaded.strip() == "[]", "slows every code server, daemon and step"


@dataclass(frozen=True, slots=True)
class Imports:
    """Names of the modules that a process imported, and which unwanted ones it had at three earlier moments."""

    modules: set[str]
    definitions_by_pipeline: bool
    heavy: list[str]
    dagster: list[str]


@pytest.fixture(scope="module")
def imports() -> Imports:
    """Import a step, then what the command line needs, then every module but those for Dagster, in one process."""
    code = f"""
import importlib, pkgutil, sys, json
sys.modules["transcription_assets.defs"] = None  # walk_packages imports packages to list their modules
import transcription_assets.pipeline.audio
definitions = "transcription_assets.definitions" in sys.modules
from transcription_assets import storage, media, speech, embedding, models, settings, wiring
from transcription_assets.cli import main, doctor, process
from transcription_assets.search import index
heavy = [m for m in {HEAVY} if m in sys.modules]
modules = [
    module.name
    for module in pkgutil.walk_packages(transcription_assets.__path__, "transcription_assets.")
    if not module.name.startswith(("transcription_assets.defs", "transcription_assets.definitions"))
]
for module in modules:
    importlib.import_module(module)
dagster = [m for m in sys.modules if m.partition(".")[0] in ("dagster", "dagster_aws")]
print(json.dumps([modules, definitions, heavy, dagster]))
"""
    modules, definitions, heavy, dagster = json.loads(python(code))
    return Imports(set(modules), definitions, heavy, dagster)


def test_library_and_command_line_do_not_import_dagster(imports: Imports) -> None:
    assert {
        "transcription_assets.domain.media_keys",
        "transcription_assets.pipeline.video",
        "transcription_assets.cli.main",
    } <= imports.modules
    assert imports.dagster == []


def test_importing_the_library_loads_no_heavy_packages(imports: Imports) -> None:
    assert imports.heavy == [], "`--help` would take seconds"


def test_pipeline_modules_do_not_import_the_definitions(imports: Imports) -> None:
    assert not imports.definitions_by_pipeline


def ruff(path: str, code: str) -> str:
    """Return the output of ruff for this code as if it were at `path`."""
    command = [sys.executable, "-m", "ruff", "check", "--no-cache", "--output-format=concise"]
    done = subprocess.run(
        [*command, "--stdin-filename", path, "-"],
        cwd=ROOT,
        input=f'"""A module."""\n\n{code}\n',
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return done.stdout


@pytest.mark.parametrize(
    "path",
    [
        "domain/media_keys.py",
        "pipeline/video.py",
        "cli/main.py",
        "settings.py",
        "models/sources.py",
        "storage/folder.py",
    ],
)
def test_linter_rejects_dagster_in_the_library(path: str) -> None:
    said = ruff(f"transcription_assets/{path}", "import dagster as dg\n\nprint(dg)")
    assert "TID251" in said
    assert "defs/" in said


def test_linter_allows_dagster_in_defs_and_definitions() -> None:
    for path in ("defs/assets.py", "definitions.py"):
        assert "TID251" not in ruff(f"transcription_assets/{path}", "import dagster as dg\n\nVALUE = dg.AssetKey('a')")


@pytest.mark.parametrize("path", ["speech/whisper.py", "defs/assets.py", "cli/main.py"])
def test_linter_rejects_heavy_imports_at_module_level(path: str) -> None:
    heavy = ["av", "boto3", "faster_whisper", "lancedb", "sentence_transformers", "torch"]
    lines = [f"import {name}" for name in heavy]
    said = ruff(f"transcription_assets/{path}", "\n".join([*lines, "", f"VALUE = [{', '.join(heavy)}]"]))
    assert all(f"TID253 `{name}`" in said for name in heavy), said
    inside = [
        "def work() -> object:",
        '    """Work."""',
        *(f"    {line}" for line in lines),
        "",
        f"    return {heavy[0]}",
    ]
    assert "TID253" not in ruff(f"transcription_assets/{path}", "\n".join(inside))
