"""The executor that runs each step in its own pod, without importing dagster-k8s before a run needs it.

Code servers and step pods load these definitions too, and the import takes a second.
"""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from transcription_assets.defs.batch import KUBERNETES
from transcription_assets.defs.dagster_internals import InitExecutorContext, multiple_process_executor_requirements
from transcription_assets.defs.executors.deadlines import Deadlines


def executor(pods: Mapping[str, Mapping[str, Any]], patience: Deadlines) -> dg.ExecutorDefinition:
    """Return an executor definition based on `k8s_job_executor`.

    Args:
        pods: dagster-k8s's configuration of each step's pod, by step name.
        patience: The deadlines of pods.

    """

    @dg.executor(name=KUBERNETES, config_schema={}, requirements=multiple_process_executor_requirements())
    def in_pods(context: InitExecutorContext) -> dg.Executor:
        from transcription_assets.defs.executors import pods as made_of_pods

        return made_of_pods.executor(context, pods, patience)

    return in_pods
