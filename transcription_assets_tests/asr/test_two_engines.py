"""The engine for services against our own server, with the real model: the same words as the engine itself."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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
from transcription_assets.storage import Store
from transcription_assets.wiring import Services
from transcription_assets_tests import demo
from transcription_assets_tests.asr.serving import running
from transcription_assets_tests.fakes import HashEncoder

pytestmark = pytest.mark.models
FILES = sorted(str(path.relative_to(demo.FOLDER)) for path in demo.FOLDER.rglob("*.mp4"))
PROGRAM = Path(sys.executable).parent / "transcription-assets"
TALK = "talks/bees-on-the-library-roof.mp4"


@pytest.fixture(scope="module")
def base() -> Located:
    return models.pull("base", "speech", settings.load().models_dir)


def words(result: SpeechResult) -> list[Word]:
    return [word for item in result.segments for word in item.words]


def tokens(texts: Iterator[str]) -> list[tuple[str, ...]]:
    return [tuple(re.findall(r"\w+", text.lower())) for text in texts]


def test_server_and_client_say_what_the_engine_says(base: Located, tmp_path: Path) -> None:
    ffmpeg = media.find_ffmpeg()
    # What follows a chunk in a batch may change a word (decision 13), so each chunk is decoded by itself.
    alone = Hardware(batch_size=1)
    whisper = Whisper(base.path, name=base.name, revision=base.revision, hardware=alone)
    with running(whisper) as served:
        client = ServiceClient(f"{served.url}/v1", "speech", timeout_s=240)
        remote = ServiceEngine(client, "whisper-1", requests=1)
        for file in FILES:
            recording, flac = demo.FOLDER / file, tmp_path / "speech.flac"
            media.extract_speech(str(recording), flac, name=file, ffmpeg=ffmpeg, limit_s=240)
            source = window_plan.audio_source(str(flac), 1, ffmpeg)
            direct, asked = transcribe_one(whisper, source), transcribe_one(remote, source)
            answered = served.client().audio.transcriptions.create(
                model="base",
                file=(recording.name, recording.read_bytes()),
                response_format="verbose_json",
                timestamp_granularities=["word"],
            )
            said = tokens(word.word for word in words(direct))
            assert tokens(word.word for word in answered.words or ()) == said
            heard = tokens(word.word for word in words(asked))
            # The server finds the speech inside a chunk anew, some milliseconds apart: a number may be spelt then.
            assert Levenshtein.distance(heard, said) <= 1
            assert answered.language == asked.language == direct.language
            starts = {"".join(text): word.start for text, word in zip(said, words(direct), strict=True)}
            shared = [
                (word, starts["".join(text)])
                for text, word in zip(heard, words(asked), strict=True)
                if "".join(text) in starts and said.count(text) == heard.count(text) == 1
            ]
            apart = sorted(abs(word.start - start) for word, start in shared)
            assert len(apart) > 20
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
    monkeypatch.setattr(windowing, "WINDOW_S", 12.0)  # several windows, so several checkpoints
    monkeypatch.setattr(service_client, "ATTEMPTS", 2)
    store = Store.open(str(tmp_path / "store"))
    shutil.copy(demo.FOLDER / TALK, tmp_path / "store/video/talk.mp4")
    key = "video/talk.mp4"
    put, done = Checkpoints.put, []
    with server(0) as (first, url):
        tools = services(store, url)
        monkeypatch.setattr(type(tools.engine), "group_s", 10.0)

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
