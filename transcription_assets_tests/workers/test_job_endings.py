"""What the end of a serverless job says about its shard."""

import pytest

from transcription_assets.pipeline.shard_status import RecordingFailure, ShardStatus
from transcription_assets.workers.job_endings import Ending, state
from transcription_assets.workers.launcher import Phase

BEGAN = ShardStatus("run", "host", 1, "1", 0.0)
FAILED = ShardStatus("run", "host", 1, "1", 0.0, failed={"audio/a.wav": RecordingFailure("broken", transient=False)})


def exited(code: int, **more: bool) -> Ending:
    return Ending("FAILED", "Failed", f"Container exited with code {code}", **more)


@pytest.mark.parametrize(
    ("ending", "status", "phase"),
    [
        (Ending("COMPLETED"), BEGAN, Phase.ENDED),
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
        (Ending("FAILED", "OOMKilled"), BEGAN, Phase.DIED),
        (Ending("FAILED"), BEGAN, Phase.DIED),
        (Ending("FAILED", "InstancePreempted"), BEGAN, Phase.LOST),
        (Ending("FAILED", machine_taken=True), BEGAN, Phase.LOST),
        (Ending("FAILED", "ImagePullFailed", began=False), None, Phase.REFUSED),
        (Ending("ERROR", "ImagePullFailed", began=False), None, Phase.REFUSED),
        (Ending("FAILED", "QuotaExceeded", began=False), None, Phase.LOST),
        (Ending("ERROR", "Internal"), BEGAN, Phase.LOST),
        (Ending("CANCELLED"), BEGAN, Phase.LOST),
        (Ending("CANCELLED", over_time=True), BEGAN, Phase.DIED),
        (Ending("FAILED", over_time=True), BEGAN, Phase.DIED),
    ],
)
def test_ending_of_a_job_decides_the_phase(ending: Ending, status: ShardStatus | None, phase: Phase) -> None:
    assert state(ending, status).phase is phase


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
    assert Ending("FAILED", message=text).exit_code == code
