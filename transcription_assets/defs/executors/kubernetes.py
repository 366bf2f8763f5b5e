"""The executor that runs each step in its own pod, and the deadlines of pods.

It imports dagster-k8s when a run needs it: code servers and step pods load this module too, and the import takes a
second.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import dagster as dg

from transcription_assets.defs.dagster_internals import InitExecutorContext, multiple_process_executor_requirements

DAY_S = 86_400.0
WORK_LIMIT = "STEP_WORK_LIMIT_S"
"""Environment variable with a pod's time limit; set by the executor, since it depends on the batch."""
KUBERNETES = "k8s"
"""Name of the executor that runs each step in its own pod."""


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Time limits (s) of a pod: to start, and to run: `floor_s`, plus `per_second` for each second of audio."""

    start_s: float
    floor_s: float
    per_second: float

    def work_s(self, sounds_s: float | None) -> float:
        """Return the time limit for recordings that last `sounds_s` together.

        A day if the duration is not known yet (None): then the step itself limits the time for each recording.
        """
        return DAY_S if sounds_s is None else self.floor_s + self.per_second * sounds_s

    def deadline(self, work_s: float) -> int:
        """Return the pod's deadline, counted from its placement on a node: pulling the image and `work_s`."""
        return int(self.start_s + work_s)

    @property
    def health_check_s(self) -> int:
        """Seconds between health checks, short enough to notice the start deadline soon after it."""
        return max(1, min(10, int(self.start_s / 4)))


def executor(pods: Mapping[str, Mapping[str, Any]], deadlines: Deadlines) -> dg.ExecutorDefinition:
    """Return an executor definition based on `k8s_job_executor`.

    Args:
        pods: dagster-k8s's configuration of each step's pod, by step name.
        deadlines: The deadlines of pods.

    """

    @dg.executor(name=KUBERNETES, config_schema={}, requirements=multiple_process_executor_requirements())
    def in_pods(context: InitExecutorContext) -> dg.Executor:
        from transcription_assets.defs.executors.pods import executor as pod_executor

        return pod_executor(context, pods, deadlines)

    return in_pods
