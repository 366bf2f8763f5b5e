"""Many recordings in one run: one bad file never stops or hides the others.

If all recordings of the run succeed, each partition is materialised by one result. If some fail, each of the others is
materialised by an event of its own. Then, if later steps of the run follow, the run goes on with the others, and the
recordings that failed are recorded as a failed run of this step alone (see `failed_runs`); if none follows, the step
fails with a table of the recordings that failed and their reasons.
"""

import hashlib
import os
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import dagster as dg
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluationTargetMaterializationData
from dagster._core.definitions.source_asset import SYSTEM_METADATA_KEY_SOURCE_ASSET_OBSERVATION
from dagster._core.errors import DagsterExecutionInterruptedError
from dagster._core.types.dagster_type import resolve_dagster_type

from transcription_assets.defs import failed_runs
from transcription_assets.defs.endings import TOO_LONG
from transcription_assets.defs.meter import Meter, process_start
from transcription_assets.defs.patience import WORK_LIMIT
from transcription_assets.failures import TranscriptionError, TransientFailure

RETRIES = dg.RetryPolicy(max_retries=2, delay=10, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS)
"""For transient failures only; a permanent one fails at once."""
KUBERNETES = "k8s"
"""The executor's name where each step has a pod."""
NO_VALUE = resolve_dagster_type(dg.Nothing)
"""Type of an output that carries nothing; no I/O manager is asked for it."""
WITHOUT_EVENTS = {SYSTEM_METADATA_KEY_SOURCE_ASSET_OBSERVATION: True}
"""Metadata of an output for which Dagster logs no materialisation: of a range it would log one for every partition."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of one asset check for one recording."""

    name: str
    passed: bool
    description: str
    metadata: Mapping[str, dg.MetadataValue] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Made:
    """One materialised recording, ready to be shown; `version` names the content (ETag, model and options).

    `own_s`: how long it took by itself, where several are worked on at once.
    """

    key: str
    version: str
    metadata: Mapping[str, dg.MetadataValue]
    findings: tuple[Finding, ...] = ()
    own_s: float | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """One recording that could not be materialised, and why."""

    key: str
    reason: str
    transient: bool

    @property
    def kind(self) -> str:
        """What a person can do about it."""
        return "transient: a retry may help" if self.transient else "permanent: mend the recording"


@contextmanager
def explained() -> Iterator[None]:
    """What goes wrong for the whole run (no store, no ffmpeg, no weights): one sentence, retried only if that helps."""
    try:
        yield
    except TranscriptionError as error:
        raise dg.Failure(str(error), allow_retries=isinstance(error, TransientFailure)) from error


Events = Iterator[dg.MaterializeResult[None] | dg.Output[None]]


def materialise_each(
    context: dg.AssetExecutionContext,
    keys: Sequence[str],
    work: Callable[[str], Made],
    publish: Callable[[], Mapping[str, TranscriptionError]] = dict,
) -> Events:
    """Do `work` for each recording, `publish` once what is good, and materialise what succeeded.

    Args:
        context: That of the step.
        keys: The recordings, from `batch_keys`.
        work: Makes one recording.
        publish: Returns the recordings with which it could not finish.

    Raises:
        dagster.Failure: Some recordings failed, and a retry of the step may help or no later step follows.

    """
    meter = Meter.begin(context)
    with _told_to_leave(context):
        made, failed = _outcomes(context, keys, work, meter)
        with explained(), meter.common():
            unfinished = publish()
    failed += [Failed(key, str(error), isinstance(error, TransientFailure)) for key, error in unfinished.items()]
    spent = meter.shown([item.key for item in made if item.key not in unfinished])
    made = [replace(item, metadata={**item.metadata, **spent[item.key]}) for item in made if item.key in spent]
    _retry_if_that_may_help(context, made, failed)
    if len(made) == len(context.partition_keys):
        for item in made:
            context.add_asset_metadata(item.metadata, asset_key=context.asset_key, partition_key=item.key)
        yield dg.MaterializeResult(data_version=dg.DataVersion(_joint_version(made)))
        _log_findings(context, made)
    else:
        _log_outcomes(context, made, failed)
        _record_failures(context, failed, len(keys))
        if made:  # without an output the later steps are skipped: they have nothing to do
            yield dg.Output(None, metadata=WITHOUT_EVENTS)
    for name, spec in context.assets_def.check_specs_by_output_name.items():
        if spec.asset_key == context.asset_key:
            yield dg.Output(None, output_name=name)


def batch_keys(context: dg.AssetExecutionContext) -> list[str]:
    """Return the recordings to work on, in order: those of the run that did not fail in an earlier step of it."""
    return failed_runs.materialised_upstream(context)


@contextmanager
def _told_to_leave(context: dg.AssetExecutionContext) -> Iterator[None]:
    """A pod whose node is drained or taken away: another one goes on, and finds done what is done.

    Dagster would fail the step without a retry. In a process of the run itself it is a person who stops it. A pod
    that has had the time that its recordings allow is told so as well, and another one would need as long.
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
            failed_runs.ask_for_another_run(context.instance, context.run_id, step)  # nodes are lost in swarms
        context.log.warning("this pod is told to leave its node; another one takes over the recordings that are left")
        raise dg.RetryRequested(RETRIES.max_retries, RETRIES.delay) from interrupted


def _outcomes(
    context: dg.AssetExecutionContext, keys: Sequence[str], work: Callable[[str], Made], meter: Meter
) -> tuple[list[Made], list[Failed]]:
    made: list[Made] = []
    failed: list[Failed] = []
    for number, key in enumerate(keys, 1):
        try:
            with meter.recording(key):
                made.append(work(key))
            if (own_s := made[-1].own_s) is not None:
                meter.owned(key, own_s)
            context.log.info(f"{number}/{len(keys)} {key}")
        except TranscriptionError as error:
            failed.append(Failed(key, _about(key, str(error)), isinstance(error, TransientFailure)))
            context.log.error(f"{number}/{len(keys)} {failed[-1].reason}")
        except Exception as error:  # noqa: BLE001 -- a bug that one file meets must not stop the other files
            failed.append(Failed(key, _about(key, f"{type(error).__name__}: {error}"), transient=False))
            context.log.error(f"{number}/{len(keys)} {key}: {traceback.format_exc()}")
    return made, failed


def _about(key: str, reason: str) -> str:
    """The reason, with the recording that it is about: in a list of many nobody could tell."""
    return reason if key in reason else f"{key}: {reason}"


def _retry_if_that_may_help(context: dg.AssetExecutionContext, made: Sequence[Made], failed: Sequence[Failed]) -> None:
    """Raise a failure that Dagster answers with a retry of the step, if a failure is transient and retries are left.

    Nothing is recorded before: the retry finds the good ones done, and recorded twice they would start the chain twice.
    """
    if any(item.transient for item in failed) and context.retry_number < RETRIES.max_retries:
        raise _failure(failed, len(made) + len(failed))


def _record_failures(context: dg.AssetExecutionContext, failed: Sequence[Failed], total: int) -> None:
    """Show the recordings that failed as failed in this step, and in no later one.

    Raises:
        dagster.Failure: No later step follows in this run, so it is this run that has failed.

    """
    step = context.op_execution_context.get_step_execution_context().step
    if failed and not failed_runs.has_downstream(context):
        if any(item.transient for item in failed):
            failed_runs.ask_for_another_run(context.instance, context.run_id, step)
        raise _failure(failed, total, allow_retries=False)
    for transient in (False, True):
        if items := [item for item in failed if item.transient == transient]:
            retry = transient and failed_runs.is_first(step)
            failed_runs.record(context, [item.key for item in items], _failure(items, total), retry=retry)
    if failed:
        context.instance.add_run_tags(context.run_id, {f"failed/{step.key}": f"{len(failed)} of {total}"})


def _failure(failed: Sequence[Failed], total: int, *, allow_retries: bool = True) -> dg.Failure:
    return dg.Failure(_summary(failed, total), {"failed recordings": _table(failed)}, allow_retries=allow_retries)


def _log_outcomes(context: dg.AssetExecutionContext, made: Sequence[Made], failed: Sequence[Failed]) -> None:
    """Materialise each recording by an event of its own, and tell the reason of each that failed."""
    for item in made:
        context.log_event(
            dg.AssetMaterialization(
                context.asset_key,
                partition=item.key,
                metadata=item.metadata,
                tags={"dagster/data_version": item.version, **_code_version(context)},
            )
        )
    _log_findings(context, made)
    for lost in failed:
        # The partition's page shows observations; of a failure it says only that there was one.
        reason = {"reason": dg.MetadataValue.text(lost.reason), "kind": dg.MetadataValue.text(lost.kind)}
        context.log_event(dg.AssetObservation(context.asset_key, partition=lost.key, metadata=reason))


def _code_version(context: dg.AssetExecutionContext) -> Mapping[str, str]:
    """As Dagster itself tags what leaves by the other exit."""
    version = context.assets_def.code_versions_by_key.get(context.asset_key)
    return {"dagster/code_version": version} if version else {}


def _summary(failed: Sequence[Failed], total: int) -> str:
    if total == 1:
        return failed[0].reason
    reasons = "\n".join(f"- {item.reason}" for item in failed)
    others = ", the others are materialised" if len(failed) < total else ""
    return f"{len(failed)} of {total} recordings failed{others}:\n{reasons}"


def _table(failed: Sequence[Failed]) -> dg.TableMetadataValue:
    return dg.MetadataValue.table(
        [dg.TableRecord({"recording": f.key, "reason": f.reason, "kind": f.kind}) for f in failed]
    )


def _joint_version(made: Sequence[Made]) -> str:
    """Dagster gives all partitions of one run one data version: it changes when that of any of them does."""
    if len(made) == 1:
        return made[0].version
    return hashlib.sha256("\n".join(item.version for item in made).encode()).hexdigest()[:32]


def _log_findings(context: dg.AssetExecutionContext, made: Sequence[Made]) -> None:
    materialised = context.instance.get_latest_storage_id_by_partition(
        context.asset_key, dg.DagsterEventType.ASSET_MATERIALIZATION, {item.key for item in made}
    )
    for item in made:
        # Without the materialisation that it judges the UI takes a finding for outdated, and shows none.
        at = materialised.get(item.key)
        target = at and AssetCheckEvaluationTargetMaterializationData(
            storage_id=at, run_id=context.run_id, timestamp=time.time()
        )
        for finding in item.findings:
            context.log_event(
                dg.AssetCheckEvaluation(
                    asset_key=context.asset_key,
                    check_name=finding.name,
                    passed=finding.passed,
                    description=finding.description,
                    severity=dg.AssetCheckSeverity.WARN,
                    metadata=finding.metadata,
                    partition=item.key,
                    target_materialization_data=target or None,
                )
            )
