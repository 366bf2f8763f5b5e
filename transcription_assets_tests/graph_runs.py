"""The real assets on a store in a temporary folder, with fake models, and access to what Dagster recorded."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.execution.api import create_execution_plan, execute_run
from dagster._core.execution.plan.state import KnownExecutionState

from transcription_assets.defs import assets, jobs
from transcription_assets.defs.jobs import recordings as partitions
from transcription_assets.defs.resources import (
    DecoderResource,
    DiariserResource,
    EncoderResource,
    SlideReaderResource,
    SpeechResource,
    StoreResource,
)
from transcription_assets.defs.runs import BATCH_RUN, RANGE_END, RANGE_START
from transcription_assets.search.index import Index
from transcription_assets.search.schema import polars_schema
from transcription_assets.storage import Store
from transcription_assets_tests import recordings
from transcription_assets_tests.fake_resources import HashEncoding, ScriptedSpeech
from transcription_assets_tests.fakes import HashEncoder, ScriptedEngine

CHAIN = ("video", "audio", "transcript", "embeddings")
CHECKS = {
    "video": ["playable"],
    "audio": ["whole", "audible"],
    "transcript": ["confidence", "no_hallucinations", "speech_coverage"],
    "embeddings": ["complete"],
}


@dataclass(slots=True)
class Graph:
    """One store and one Dagster instance; recordings are distinguished by their length in seconds."""

    root: Path
    instance: dg.DagsterInstance
    engine: ScriptedEngine = field(default_factory=ScriptedEngine)
    encoder: HashEncoder = field(default_factory=HashEncoder)
    decoder: DecoderResource = field(default_factory=lambda: DecoderResource(ffmpeg=recordings.wheel_ffmpeg()))
    speech: SpeechResource | None = None
    encoding: EncoderResource | None = None
    passage_s: float = 30.0
    diariser: DiariserResource | None = None
    slide_reader: SlideReaderResource | None = None

    @property
    def optional(self) -> list[str]:
        """The names of the optional assets, for which there is a resource."""
        found = {"speakers": self.diariser, "slides": self.slide_reader}
        return [name for name, resource in found.items() if resource]

    @property
    def store(self) -> Store:
        return Store.open(str(self.root))

    def drop(self, *seconds: int) -> list[str]:
        """Add a tone of each length to the inbox, each as a partition; return their keys, which sort as given."""
        keys = [f"audio/{length:02}.wav" for length in seconds]
        for key, length in zip(keys, seconds, strict=True):
            recordings.tone(self.root / key, length, rate=16_000)
        self.instance.add_dynamic_partitions(str(partitions.name), keys)
        return keys

    def definitions(self) -> dg.Definitions:
        return dg.Definitions(
            assets=dg.map_asset_specs(
                lambda spec: spec.replace_attributes(code_version="7"),
                assets.graph(*self.optional),
            ),
            jobs=[jobs.process_recordings(*self.optional), jobs.refresh_search],
            resources={
                **({"diariser": self.diariser} if self.diariser else {}),
                **({"slide_reader": self.slide_reader} if self.slide_reader else {}),
                "store": StoreResource(url=str(self.root)),
                "decoder": self.decoder,
                "speech": self.speech or ScriptedSpeech(scripted=self.engine),
                "encoder": self.encoding
                or HashEncoding(encoder=self.encoder, passage_s=self.passage_s, slides=self.slide_reader is not None),
            },
            executor=dg.in_process_executor,
        )

    def run(self, keys: Sequence[str], *selected: str) -> dg.ExecuteInProcessResult:
        """Run the range from the first key to the last, or a single key, as the sensor requests it."""
        single = len(keys) == 1
        return (
            self.definitions()
            .resolve_job_def("process_recordings")
            .execute_in_process(
                instance=self.instance,
                partition_key=keys[0] if single else None,
                tags=None if single else {RANGE_START: keys[0], RANGE_END: keys[-1]},
                asset_selection=[dg.AssetKey(name) for name in selected] or None,
                raise_on_error=False,
            )
        )

    def run_again(self, result: dg.ExecuteInProcessResult) -> dg.DagsterRun:
        """Run the failed steps of that run and those downstream, as the UI and run retries do; return the ended run."""
        job = self.definitions().resolve_job_def("process_recordings")
        parent = self.instance.get_run_by_id(result.run_id)
        assert parent
        steps, known = KnownExecutionState.build_resume_retry_reexecution(self.instance, parent)
        plan = create_execution_plan(job, tags=parent.tags, known_state=known, step_keys_to_execute=steps)
        run = self.instance.create_run_for_job(
            job, plan, tags=parent.tags, parent_run_id=parent.run_id, root_run_id=parent.run_id
        )
        execute_run(InMemoryJob(job), run, self.instance)
        ended = self.instance.get_run_by_id(run.run_id)
        assert ended
        return ended

    def refresh(self) -> dict[str, Any]:
        """Materialise `search_index`; return its metadata values."""
        job = self.definitions().resolve_job_def("refresh_search")
        (made,) = job.execute_in_process(instance=self.instance).asset_materializations_for_node("search_index")
        return {name: value.value for name, value in made.metadata.items()}

    def materialised(self, asset: str) -> list[str]:
        """Return the key of every materialisation so far in alphabetical order; duplicates are kept."""
        return sorted(str(record.partition_key) for record in self._records(asset))

    def metadata(self, asset: str, key: str) -> dict[str, Any]:
        """Return the metadata values of the newest materialisation."""
        newest = next(record for record in self._records(asset) if record.partition_key == key)
        assert newest.asset_materialization
        return {name: value.value for name, value in newest.asset_materialization.metadata.items()}

    def data_version(self, asset: str, key: str) -> str:
        return self.tags(asset, key)["dagster/data_version"]

    def tags(self, asset: str, key: str) -> Mapping[str, str]:
        """Return the tags of the newest materialisation."""
        newest = next(record for record in self._records(asset) if record.partition_key == key)
        assert newest.asset_materialization
        return newest.asset_materialization.tags or {}

    def statuses(self, asset: str, keys: Sequence[str]) -> dict[str, str]:
        """Return MATERIALIZED or FAILED by key, as the partition bar of the UI shows it."""
        found = self.instance.get_status_by_partition(dg.AssetKey(asset), keys, partitions)
        return {key: status.value for key, status in (found or {}).items() if status}

    def evaluations(self, result: dg.ExecuteInProcessResult | dg.DagsterRun, asset: str) -> Counter[tuple[str, str]]:
        """Return how often each (check, partition) was evaluated in the run."""
        found: Counter[tuple[str, str]] = Counter()
        for entry in self.instance.all_logs(result.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION):
            evaluation: Any = entry.get_dagster_event().event_specific_data
            if evaluation.asset_key == dg.AssetKey(asset):
                found[evaluation.check_name, evaluation.partition] += 1
        return found

    def failure(self, result: dg.ExecuteInProcessResult, step: str) -> dg.Failure:
        """Return the failure of the step, from the event shown in that run or in one of its `failed_runs`."""
        for run_id in (result.run_id, *(run.run_id for run in self.failed_runs(result))):
            for entry in self.instance.all_logs(run_id, of_type=dg.DagsterEventType.STEP_FAILURE):
                data: Any = entry.get_dagster_event().event_specific_data
                if entry.step_key == step:
                    return dg.Failure(data.user_failure_data.description, data.user_failure_data.metadata)
        raise AssertionError(f"{step} has not failed")

    def failed_runs(self, result: dg.ExecuteInProcessResult) -> Sequence[dg.DagsterRun]:
        """Return the runs that record the failures of recordings in this run."""
        return self.instance.get_runs(dg.RunsFilter(tags={BATCH_RUN: result.run_id}))

    def passages(self) -> pl.DataFrame:
        """Return all searchable rows, sorted by id."""
        pinned = Index(self.store.lancedb_uri).snapshot()
        if pinned is None:
            return pl.DataFrame(schema=polars_schema(1))
        found: pl.DataFrame = pinned.table.to_polars().collect().sort("id")
        return found

    def _records(self, asset: str) -> Sequence[dg.EventLogRecord]:
        return self.instance.fetch_materializations(dg.AssetKey(asset), limit=1000).records


def retries(instance: dg.DagsterInstance, result: dg.ExecuteInProcessResult) -> int:
    """Return how often steps of the run were retried."""
    return len(instance.all_logs(result.run_id, of_type=dg.DagsterEventType.STEP_RESTARTED))
