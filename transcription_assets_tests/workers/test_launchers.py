"""Each launcher against the protocol: processes, and pods of a STAND-IN cluster that are processes too."""

from dataclasses import dataclass

import pytest

from transcription_assets.workers.launcher import Launcher
from transcription_assets.workers.subprocesses import SubprocessLauncher
from transcription_assets_tests.workers.batch import FFMPEG
from transcription_assets_tests.workers.launchers import LauncherTests, Place
from transcription_assets_tests.workers.pods import PodPlace


@dataclass(frozen=True, slots=True)
class Machine:
    """This machine."""

    def launcher(self, most: int, command: tuple[str, ...], **environment: str) -> Launcher:
        return SubprocessLauncher([{"TRANSCRIPTION_FFMPEG": FFMPEG, **environment}] * most, command)


class TestSubprocesses(LauncherTests):
    """The launcher `subprocess`."""

    @pytest.fixture
    def place(self) -> Place:
        return Machine()


class TestKubernetes(LauncherTests):
    """The launcher `kubernetes`, against the stand-in."""

    @pytest.fixture
    def place(self, pods: PodPlace) -> Place:
        return pods
