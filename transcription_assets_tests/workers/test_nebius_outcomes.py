"""What the end of a serverless job says about its shard."""

import pytest

from transcription_assets.pipeline.shard_status import RecordingFailure, ShardStatus
from transcription_assets.workers.launcher import Phase
from transcription_assets.workers.nebius_outcomes import JobOutcome, shard_state

BEGAN = ShardStatus("run", "host", 1, "1", 0.0)
FAILED = ShardStatus("run", "host", 1, "1", 0.0, failed={"audio/a.wav": RecordingFailure("broken", transient=False)})


def exited(code: int, **more: bool) -> JobOutcome:
    return JobOutcome("FAILED", "Failed", f"Container exited with code {code}", **more)


@pytest.mark.parametrize(
    ("outcome", "status", "phase"),
    [
        (JobOutcome("COMPLETED"), BEGAN, Phase.ENDED),
        (exited(0), BEGAN, Phase.ENDED),
        (exited(65), FAILED, Phase.ENDED),
        (exited(75), FAILED, Phase.ENDED),
        (exited(65), None, Phase.REFUSED),
        (exited(75), BEGAN, Phase.LOST),
        (exited(1), None, Phase.REFUSED),
        (exited(1), BEGAN, Phase.DIED),
        (exited(127), None, Phase.REFUSED),
        (exited(134), BEGAN, Phase.DIED),
        (exited(137), BEGAN, Phase.DIED),
        (exited(139), BEGAN, Phase.DIED),
        (exited(143), BEGAN, Phase.LOST),
        (exited(137, machine_taken=True), BEGAN, Phase.DIED),
        (JobOutcome("FAILED", "OOMKilled"), BEGAN, Phase.DIED),
        (JobOutcome("FAILED"), BEGAN, Phase.DIED),
        (JobOutcome("FAILED", "InstancePreempted"), BEGAN, Phase.LOST),
        (JobOutcome("FAILED", machine_taken=True), BEGAN, Phase.LOST),
        (JobOutcome("FAILED", "ImagePullFailed", began=False), None, Phase.REFUSED),
        (JobOutcome("ERROR", "ImagePullFailed", began=False), None, Phase.REFUSED),
        (JobOutcome("FAILED", "QuotaExceeded", began=False), None, Phase.LOST),
        (JobOutcome("ERROR", "Internal"), BEGAN, Phase.LOST),
        (JobOutcome("CANCELLED"), BEGAN, Phase.LOST),
        (JobOutcome("CANCELLED", over_time=True), BEGAN, Phase.DIED),
        (JobOutcome("FAILED", over_time=True), BEGAN, Phase.DIED),
    ],
)
def test_outcome_of_a_job_decides_the_phase(outcome: JobOutcome, status: ShardStatus | None, phase: Phase) -> None:
    assert shard_state(outcome, status).phase is phase


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("Container exited with code 137", 137),
        ("exit code: 75", 75),
        ("exit_code=65", 65),
        ("process exited with non-zero status 1", 1),
        ("ExitCode 139", 139),
        ("the workload failed", None),
    ],
)
def test_exit_code_is_found_in_the_message(text: str, code: int | None) -> None:
    assert JobOutcome("FAILED", message=text).exit_code == code
