"""Materialisation of a batch of recordings in one run; a recording that fails does not affect the others.

If all recordings of the run succeed, one result materialises all partitions. Otherwise each recording that succeeded is
materialised by its own event. If later steps of the run follow, the run continues with those recordings, and the ones
that failed are recorded as a failed run of this step alone (see `runs`). If none follows, the step fails with a
table of the failed recordings and their reasons.
"""

import hashlib
import math
import os
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import dagster as dg

from transcription_assets.costs.timing import WorkerUse
from transcription_assets.costs.usage import StepUsage, of_workers
from transcription_assets.defs import runs
from transcription_assets.defs.dagster_internals import (
    SYSTEM_METADATA_KEY_SOURCE_ASSET_OBSERVATION,
    AssetCheckEvaluationTargetMaterializationData,
    DagsterExecutionInterruptedError,
    resolve_dagster_type,
)
from transcription_assets.defs.executors.kubernetes import KUBERNETES, WORK_LIMIT
from transcription_assets.defs.executors.pod_failures import TOO_LONG
from transcription_assets.defs.step_costs import StepTimer, process_start
from transcription_assets.errors import TranscriptionError, TransientFailure, failure_kind
from transcription_assets.pipeline import usage_journal
from transcription_assets.pipeline.quality_checks import CheckResult
from transcription_assets.storage import Store

RETRIES = dg.RetryPolicy(max_retries=2, delay=10, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS)
"""Retry policy for transient failures; permanent failures are not retried."""
NO_VALUE = resolve_dagster_type(dg.Nothing)
"""Type of an output without a value; it needs no I/O manager."""
WITHOUT_EVENTS = {SYSTEM_METADATA_KEY_SOURCE_ASSET_OBSERVATION: True}
"""Output metadata that suppresses Dagster's materialisation event, which would cover every partition of the range."""


@dataclass(frozen=True, slots=True)
class StepResult:
    """One materialised recording; `version` identifies its content (ETag, model and options).

    `own_s`: seconds of processing for this recording alone, if several are processed concurrently.
    """

    key: str
    version: str
    metadata: Mapping[str, dg.MetadataValue]
    findings: tuple[CheckResult, ...] = ()
    own_s: float | None = None


@dataclass(frozen=True, slots=True)
class FailedRecording:
    """One recording that could not be materialised, and the reason."""

    key: str
    reason: str
    transient: bool
    error: str
    """Kind of the error, see `errors.failure_kind`."""

    @classmethod
    def of(cls, key: str, reason: str, error: Exception) -> "FailedRecording":
        """Return the failure of a recording by an exception."""
        return cls(key, reason, isinstance(error, TransientFailure), failure_kind(error))

    @property
    def kind(self) -> str:
        """The kind of failure, with the action that it calls for."""
        return "transient: a retry may help" if self.transient else "permanent: correct the recording"


@contextmanager
def dagster_failures() -> Iterator[None]:
    """Convert an error that affects the whole run (no store, no ffmpeg, no weights) to a failure of the step.

    Raises:
        dagster.Failure: A TranscriptionError was raised inside; it allows retries only if that is transient.

    """
    try:
        yield
    except TranscriptionError as error:
        raise dg.Failure(str(error), allow_retries=isinstance(error, TransientFailure)) from error


Events = Iterator[dg.MaterializeResult[None] | dg.Output[None]]


def materialise_each(
    context: dg.AssetExecutionContext,
    store: Store,
    keys: Sequence[str],
    work: Callable[[str], StepResult],
    *,
    publish: Callable[[], Mapping[str, TranscriptionError]] = dict,
    use: Callable[[], WorkerUse] = WorkerUse,
    gpus: int = 0,
) -> Events:
    """Call `work` for each recording, `publish` once afterwards, and materialise the recordings that succeeded.

    Args:
        context: The context of the step.
        store: The store, for the journal of what the step used.
        keys: Media keys, from `batch_keys`.
        work: Materialises one recording.
        publish: Publishes all results of `work`; returns the errors of recordings that it could not complete.
        use: Returns what the step's workers have held of other machines.
        gpus: Number of GPUs of this machine that the step occupies, for a step without a price.

    Raises:
        dagster.Failure: Recordings failed, and a retry of the step may help or no later step follows; `publish` failed;
            or the pod reached its deadline.
        dagster.RetryRequested: The pod is being evicted.

    """
    timer = StepTimer.begin(context)
    with _retry_on_eviction(context):
        done, failed = _outcomes(context, keys, work, timer)
        unfinished: Mapping[str, TranscriptionError] = {}
        used = WorkerUse()
        try:
            with dagster_failures(), timer.common():
                unfinished = publish()
                used = use()
        finally:
            failed += [FailedRecording.of(key, str(error), error) for key, error in unfinished.items()]
            spent_here = timer.usage(gpus) + of_workers(used)
            finished = [item for item in done if item.key not in unfinished]
            usage_journal.add(store, {context.asset_key.to_user_string(): spent_here + _counts(finished, failed)})
    spent = timer.metadata([item.key for item in done if item.key not in unfinished], used)
    done = [replace(item, metadata={**item.metadata, **spent[item.key]}) for item in done if item.key in spent]
    _retry_if_that_may_help(context, done, failed)
    if len(done) == len(context.partition_keys):
        for item in done:
            context.add_asset_metadata(item.metadata, asset_key=context.asset_key, partition_key=item.key)
        yield dg.MaterializeResult(data_version=dg.DataVersion(_joint_version(done)))
        _log_check_results(context, done)
    else:
        _log_outcomes(context, done, failed)
        _record_failures(context, failed, len(keys))
        if done:  # without an output, Dagster skips the later steps
            yield dg.Output(None, metadata=WITHOUT_EVENTS)
    for name, spec in context.assets_def.check_specs_by_output_name.items():
        if spec.asset_key == context.asset_key:
            yield dg.Output(None, output_name=name)


def batch_keys(context: dg.AssetExecutionContext) -> list[str]:
    """Return the media keys to process, sorted: those of the run that did not fail in an earlier step of it."""
    return runs.materialised_upstream(context)


@contextmanager
def _retry_on_eviction(context: dg.AssetExecutionContext) -> Iterator[None]:
    """Convert an interrupt of a step's pod to a retry, which skips the recordings that are already materialised.

    Dagster would fail the step without a retry. An interrupt in the run's own process means that a person stopped the
    run, so it is raised again. A pod is interrupted at its deadline too; that is not retried, since another pod would
    need as long.
    """
    try:
        yield
    except DagsterExecutionInterruptedError as interrupted:
        if context.job_def.executor_def.name != KUBERNETES:
            raise
        if time.time() - process_start() >= float(os.environ.get(WORK_LIMIT, "inf")):
            raise dg.Failure(TOO_LONG, allow_retries=False) from interrupted
        if context.retry_number >= RETRIES.max_retries:
            step = context.op_execution_context.get_step_execution_context().step
            # Several nodes are often lost at once, which uses up the retries of the step.
            runs.request_run_retry(context.instance, context.run_id, step)
        context.log.warning("this pod is being evicted; another pod continues with the remaining recordings")
        raise dg.RetryRequested(RETRIES.max_retries, RETRIES.delay) from interrupted


def _outcomes(
    context: dg.AssetExecutionContext, keys: Sequence[str], work: Callable[[str], StepResult], timer: StepTimer
) -> tuple[list[StepResult], list[FailedRecording]]:
    done: list[StepResult] = []
    failed: list[FailedRecording] = []
    for number, key in enumerate(keys, 1):
        try:
            with timer.recording(key):
                done.append(work(key))
            if (own_s := done[-1].own_s) is not None:
                timer.owned(key, own_s)
            context.log.info(f"{number}/{len(keys)} {key}")
        except TranscriptionError as error:
            failed.append(FailedRecording.of(key, _with_key(key, str(error)), error))
            context.log.error(f"{number}/{len(keys)} {failed[-1].reason}")
        except Exception as error:  # noqa: BLE001 -- a bug that affects one file must not stop the others
            failed.append(FailedRecording.of(key, _with_key(key, f"{type(error).__name__}: {error}"), error))
            context.log.error(f"{number}/{len(keys)} {key}: {traceback.format_exc()}")
    return done, failed


def _counts(done: Sequence[StepResult], failed: Sequence[FailedRecording]) -> StepUsage:
    """Return the number and length of new results, and the failures by kind."""
    new = [item for item in done if not _value(item, "reused") and not _value(item, "reused_from")]
    audio_s = math.fsum(float(_value(item, "duration_s") or 0.0) for item in new)
    return StepUsage(len(new), audio_s, failures=Counter(item.error for item in failed))


def _value(item: StepResult, name: str) -> Any:
    return item.metadata[name].value if name in item.metadata else None


def _with_key(key: str, reason: str) -> str:
    """Return the reason, prefixed with the media key unless it contains it."""
    return reason if key in reason else f"{key}: {reason}"


def _retry_if_that_may_help(
    context: dg.AssetExecutionContext, done: Sequence[StepResult], failed: Sequence[FailedRecording]
) -> None:
    """Raise a failure that Dagster retries, if a failure is transient and retries are left.

    Must run before anything is recorded: the retry reuses the results that succeeded, and materialising them twice
    would trigger the downstream assets twice.
    """
    if any(item.transient for item in failed) and context.retry_number < RETRIES.max_retries:
        raise _failure(failed, len(done) + len(failed))


def _record_failures(context: dg.AssetExecutionContext, failed: Sequence[FailedRecording], total: int) -> None:
    """Mark the failed recordings as failed in this step, and in no later one.

    Raises:
        dagster.Failure: No later step follows in this run, so the run itself fails.

    """
    step = context.op_execution_context.get_step_execution_context().step
    if failed and not runs.has_downstream(context):
        if any(item.transient for item in failed):
            runs.request_run_retry(context.instance, context.run_id, step)
        raise _failure(failed, total, allow_retries=False)
    for transient in (False, True):
        if items := [item for item in failed if item.transient == transient]:
            retry = transient and runs.is_first(step)
            runs.record_failed(context, [item.key for item in items], _failure(items, total), retry=retry)
    if failed:
        context.instance.add_run_tags(context.run_id, {f"failed/{step.key}": f"{len(failed)} of {total}"})


def _failure(failed: Sequence[FailedRecording], total: int, *, allow_retries: bool = True) -> dg.Failure:
    return dg.Failure(_summary(failed, total), {"failed recordings": _table(failed)}, allow_retries=allow_retries)


def _log_outcomes(
    context: dg.AssetExecutionContext, done: Sequence[StepResult], failed: Sequence[FailedRecording]
) -> None:
    """Log a materialisation for each recording that succeeded, and the reason for each that failed."""
    for item in done:
        context.log_event(
            dg.AssetMaterialization(
                context.asset_key,
                partition=item.key,
                metadata=item.metadata,
                tags={"dagster/data_version": item.version, **_code_version(context)},
            )
        )
    _log_check_results(context, done)
    for failure in failed:
        # The partition's page shows observations, but not the reason of a failed run.
        reason = {"reason": dg.MetadataValue.text(failure.reason), "kind": dg.MetadataValue.text(failure.kind)}
        context.log_event(dg.AssetObservation(context.asset_key, partition=failure.key, metadata=reason))


def _code_version(context: dg.AssetExecutionContext) -> Mapping[str, str]:
    """Return the code version as the tag that Dagster adds to the materialisations that it logs itself."""
    version = context.assets_def.code_versions_by_key.get(context.asset_key)
    return {"dagster/code_version": version} if version else {}


def _summary(failed: Sequence[FailedRecording], total: int) -> str:
    if total == 1:
        return failed[0].reason
    reasons = "\n".join(f"- {item.reason}" for item in failed)
    others = "; the others are materialised" if len(failed) < total else ""
    return f"{len(failed)} of {total} recordings failed{others}:\n{reasons}"


def _table(failed: Sequence[FailedRecording]) -> dg.TableMetadataValue:
    return dg.MetadataValue.table(
        [dg.TableRecord({"recording": f.key, "reason": f.reason, "kind": f.kind}) for f in failed]
    )


def _joint_version(done: Sequence[StepResult]) -> str:
    """Return one data version for all partitions of the run, as Dagster requires; it changes with any of theirs."""
    if len(done) == 1:
        return done[0].version
    return hashlib.sha256("\n".join(item.version for item in done).encode()).hexdigest()[:32]


def _log_check_results(context: dg.AssetExecutionContext, done: Sequence[StepResult]) -> None:
    materialised = context.instance.get_latest_storage_id_by_partition(
        context.asset_key, dg.DagsterEventType.ASSET_MATERIALIZATION, {item.key for item in done}
    )
    for item in done:
        # Without its target materialisation the UI treats an evaluation as outdated and hides it.
        at = materialised.get(item.key)
        target = at and AssetCheckEvaluationTargetMaterializationData(
            storage_id=at, run_id=context.run_id, timestamp=time.time()
        )
        for result in item.findings:
            context.log_event(
                dg.AssetCheckEvaluation(
                    asset_key=context.asset_key,
                    check_name=result.name,
                    passed=result.passed,
                    description=result.description,
                    severity=dg.AssetCheckSeverity.WARN,
                    metadata=result.figures,
                    partition=item.key,
                    target_materialization_data=target or None,
                )
            )
