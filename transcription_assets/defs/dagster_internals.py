"""All private modules of Dagster that are imported, in one place.

Dagster has no public way to log a materialisation of one partition in the middle of a step, to record a failed run, to
watch the health of pods, or to start runs without a server. These names can change with any release: HOLDS_FOR has the
versions with which they were tried, which `constraints.txt` pins.
"""

from dagster._config import process_config
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluationTargetMaterializationData
from dagster._core.definitions.executor_definition import multiple_process_executor_requirements
from dagster._core.definitions.source_asset import SYSTEM_METADATA_KEY_SOURCE_ASSET_OBSERVATION
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition
from dagster._core.errors import DagsterExecutionInterruptedError
from dagster._core.events import DagsterEvent, JobFailureData, RunFailureReason
from dagster._core.execution.context.system import IStepContext, StepExecutionContext
from dagster._core.execution.plan.objects import ErrorSource, StepFailureData, UserFailureData
from dagster._core.execution.plan.state import KnownExecutionState
from dagster._core.execution.plan.step import ExecutionStep
from dagster._core.executor.init import InitExecutorContext
from dagster._core.executor.step_delegating import CheckStepHealthResult, StepDelegatingExecutor, StepHandlerContext
from dagster._core.launcher import CheckRunHealthResult, WorkerStatus
from dagster._core.storage.tags import BACKFILL_ID_TAG, GRPC_INFO_TAG
from dagster._core.types.dagster_type import resolve_dagster_type
from dagster_shared.error import SerializableErrorInfo

__all__ = [
    "BACKFILL_ID_TAG",
    "GRPC_INFO_TAG",
    "SYSTEM_METADATA_KEY_SOURCE_ASSET_OBSERVATION",
    "AssetCheckEvaluationTargetMaterializationData",
    "CheckRunHealthResult",
    "CheckStepHealthResult",
    "DagsterEvent",
    "DagsterExecutionInterruptedError",
    "ErrorSource",
    "ExecutionStep",
    "IStepContext",
    "InitExecutorContext",
    "JobFailureData",
    "KnownExecutionState",
    "RunFailureReason",
    "SerializableErrorInfo",
    "StepDelegatingExecutor",
    "StepExecutionContext",
    "StepFailureData",
    "StepHandlerContext",
    "UnresolvedAssetJobDefinition",
    "UserFailureData",
    "WorkerStatus",
    "multiple_process_executor_requirements",
    "process_config",
    "resolve_dagster_type",
]

HOLDS_FOR = {"dagster": "1.13.27", "dagster-k8s": "0.29.27", "dagster-webserver": "1.13.27"}
"""Versions for which private names, here and in `executors/pods.py`, `webserver.py` and `dev.py`, were tried."""
