"""The engine for services against our own server, with the real model: the same words as the engine itself."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from rapidfuzz.distance import Levenshtein

from transcription_assets import media, models, service_client, settings
from transcription_assets.cli.process import Report, process
from transcription_assets.domain.transcript import Word
from transcription_assets.models import Located
from transcription_assets.pipeline import transcript, window_plan
from transcription_assets.pipeline.checkpoints import Checkpoints
from transcription_assets.service_client import ServiceClient
from transcription_assets.settings import Settings
from transcription_assets.speech import Hardware, ServiceEngine, SpeechResult, Whisper, transcribe_one, windowing
from transcription_assets.speech.language_names import code_of
from transcription_assets.storage import Store
from transcription_assets.wiring import Services
from transcription_assets_tests import demo
from transcription_assets_tests.asr.serving import running
from transcription_assets_tests.fakes import HashEncoder

if TYPE_CHECKING:
    from openai import OpenAI

pytestmark = pytest.mark.models
BEES_S, BREAD_S, LONG_S = 13.5, 10.2, 21.5
"""Ends of sentences, in seconds."""
PROGRAM = Path(sys.executable).parent / "transcription-assets"


def beginning(recording: Path, seconds: float, target: Path) -> Path:
    """Write the first seconds of a recording: three engines decode it, and a loaded machine is slow."""
    command = [media.find_ffmpeg(), "-v", "error", "-y", "-i", str(recording), "-t", str(seconds), "-c", "copy"]
    subprocess.run([*command, str(target)], check=True)
    return target


@pytest.fixture(scope="module")
def base() -> Located:
    return models.pull("base", "speech", settings.load().models_dir)


@dataclass(frozen=True, slots=True)
class Both:
    """A model, an engine that asks a server with the same model, and the official client of that server."""

    whisper: Whisper
    remote: ServiceEngine
    client: "OpenAI"
    ffmpeg: str


@pytest.fixture(scope="module")
def both(base: Located) -> Iterator[Both]:
    # What follows a chunk in a batch may change a word (decision 13), so each chunk is decoded by itself.
    alone = Hardware(batch_size=1)
    whisper = Whisper(base.path, name=base.name, revision=base.revision, hardware=alone)
    with running(whisper) as served:
        client = ServiceClient(f"{served.url}/v1", "speech", timeout_s=240)
        yield Both(whisper, ServiceEngine(client, "whisper-1", requests=1), served.client(), media.find_ffmpeg())


def words(result: SpeechResult) -> list[Word]:
    return [word for item in result.segments for word in item.words]


def tokens(texts: Iterator[str]) -> list[tuple[str, ...]]:
    return [tuple(re.findall(r"\w+", text.lower())) for text in texts]


@pytest.mark.parametrize(
    ("recording", "seconds"), [(demo.BEES, BEES_S), (demo.BREAD, BREAD_S)], ids=["english", "italian"]
)
def test_server_and_client_say_what_the_engine_says(
    recording: Path, seconds: float, both: Both, tmp_path: Path
) -> None:
    talk, flac = beginning(recording, seconds, tmp_path / "talk.mp4"), tmp_path / "speech.flac"
    media.extract_speech(str(talk), flac, name="talk", ffmpeg=both.ffmpeg, limit_s=240)
    source = window_plan.audio_source(str(flac), 1, both.ffmpeg)
    direct, asked = transcribe_one(both.whisper, source), transcribe_one(both.remote, source)
    answered = both.client.audio.transcriptions.create(
        model="base",
        file=("talk.mp4", talk.read_bytes()),
        response_format="verbose_json",
        timestamp_granularities=["word"],
    )
    said = tokens(word.word for word in words(direct))
    assert tokens(word.word for word in answered.words or ()) == said
    heard = tokens(word.word for word in words(asked))
    # The server finds the speech inside a chunk anew, some milliseconds apart: a number may be spelt then.
    assert Levenshtein.distance(heard, said) <= 1
    assert code_of(answered.language) == asked.language == direct.language
    starts = {"".join(text): word.start for text, word in zip(said, words(direct), strict=True)}
    shared = [
        (word, starts["".join(text)])
        for text, word in zip(heard, words(asked), strict=True)
        if "".join(text) in starts and said.count(text) == heard.count(text) == 1
    ]
    apart = sorted(abs(word.start - start) for word, start in shared)
    assert len(apart) > 10
    assert apart[len(apart) * 9 // 10] < 0.1
    assert not any(item.estimated_times for item in asked.segments)


@contextmanager
def server(port: int) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """Run the command in a process of its own; yield it with its address."""
    with subprocess.Popen(
        [PROGRAM, "asr-server", "--port", str(port)],
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        text=True,
    ) as running_server:
        try:
            assert running_server.stdout is not None
            found = re.search(r"http://\S+", running_server.stdout.readline())
            assert found
            yield running_server, found[0]
        finally:
            running_server.kill()


@pytest.mark.usefixtures("base")
def test_process_resumes_after_the_server_was_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windowing, "WINDOW_S", 6.0)  # several windows, so several checkpoints
    monkeypatch.setattr(service_client, "ATTEMPTS", 2)
    store = Store.open(str(tmp_path / "store"))
    beginning(demo.BEES, LONG_S, tmp_path / "store/video/talk.mp4")
    key = "video/talk.mp4"
    put, done = Checkpoints.put, []
    with server(0) as (first, url):
        tools = services(store, url)
        monkeypatch.setattr(type(tools.engine), "group_s", 4.0)

        def kill_after_two(self: Checkpoints, window: tuple[int, int], decoded: object) -> None:
            put(self, window, decoded)  # type: ignore[arg-type]
            done.append(window)
            if len(done) == 2:
                first.send_signal(signal.SIGKILL)
                first.wait()

        monkeypatch.setattr(Checkpoints, "put", kill_after_two)
        report = Report()
        list(process(tools, [key], lambda _step: None, report))
        assert list(report.failed) == [key]
        assert transcript.load(store, key) is None
    asked = len(done)
    port = int(url.rpartition(":")[2].partition("/")[0])
    with server(port) as (_, again):
        assert again == url
        report = Report()
        list(process(services(store, url), [key], lambda _step: None, report))
    assert report.failed == {}
    made = transcript.load(store, key)
    assert made is not None
    assert "my bees live on the roof" in made.text
    assert len(done) == len(set(done)) > asked >= 2


def services(store: Store, url: str) -> Services:
    chosen = Settings(
        store=store.url, engine="openai", speech_url=url, launcher="in_process", speech_requests=1, settle_s=0
    )
    tools = Services(chosen, lambda name, kind: models.locate(name, kind, chosen.models_dir))
    tools.__dict__.update(encoder=HashEncoder(), store=store)
    return tools
