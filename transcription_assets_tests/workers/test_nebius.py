"""Batches that are decoded by serverless jobs: a STAND-IN of Nebius, real worker processes, a FAKE engine."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from transcription_assets.domain import media_keys
from transcription_assets.domain.transcript import Transcript
from transcription_assets.errors import PermanentFailure, TransientFailure
from transcription_assets.pipeline import audio, video
from transcription_assets.pipeline.quarantine import WorkerDied
from transcription_assets.pipeline.transcript import TranscriptTools
from transcription_assets.pipeline.video import MediaDecoder
from transcription_assets.settings import Settings
from transcription_assets.speech import windowing
from transcription_assets.storage import Store
from transcription_assets.worker_wiring import SpeechSettings, build_transcriber
from transcription_assets.workers.coordinator import WorkerTranscriber
from transcription_assets.workers.launcher import Phase
from transcription_assets.workers.manifest import Manifest
from transcription_assets.workers.nebius import NebiusLauncher, NebiusOptions
from transcription_assets.workers.recordings import RecordingWorkers
from transcription_assets.workers.worker import speech_settings
from transcription_assets_tests import recordings, waiting
from transcription_assets_tests.chain import script
from transcription_assets_tests.fakes import ScriptedEngine
from transcription_assets_tests.workers.batch import FFMPEG, extracted, in_process

pytest.importorskip("nebius", reason="the extra `nebius` is not installed")

import grpc

if TYPE_CHECKING:
    from transcription_assets_tests.workers.nebius_stand_in import NebiusStandIn

SECRET = "value of a secret that no job spec may hold"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(str(tmp_path / "store"))


@contextmanager
def launcher(service: "NebiusStandIn", **changes: Any) -> Iterator[NebiusLauncher]:
    given: dict[str, Any] = {
        "image": "registry.example/worker:1",
        "platform": "cpu-d3",
        "preset": "4vcpu-16gb",
        "project": "project-test",
        "jobs": 2,
        "dollars_per_hour": 3600.0,
        "environment": {"TRANSCRIPTION_FFMPEG": FFMPEG},
        "secrets": {"AWS_SECRET_ACCESS_KEY": "mbsec-1@mbsecver-2"},
    }
    made = NebiusLauncher(NebiusOptions(**given | changes), {}, connect=service.connect, local_store=True, poll_s=0.1)
    try:
        yield made
    finally:
        made.close()


@contextmanager
def served(**faults: Any) -> Iterator["NebiusStandIn"]:
    from transcription_assets_tests.workers import nebius_stand_in

    with nebius_stand_in.serve(secrets={"mbsec-1": SECRET}, **faults) as service:
        yield service


def tools(made: NebiusLauncher, *, group_s: float = 480.0, owner: str = "") -> TranscriptTools:
    engine = ScriptedEngine(script(), group_s=group_s)
    return TranscriptTools(WorkerTranscriber(engine, made, 20.0, owner), FFMPEG)


def unwatched(_key: str, _seconds: float) -> None:
    """Ignore progress."""


def words(answers: dict[str, Transcript | Exception]) -> dict[str, object]:
    return {key: item if isinstance(item, Exception) else (item.segments, item.speech) for key, item in answers.items()}


def left_behind(store: Store) -> list[str]:
    return [*store.list(media_keys.work()), *store.list("checkpoints/"), *store.list("deaths/")]


def test_batch_through_jobs_has_the_words_of_one_process(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(windowing, "WINDOW_S", 10.0)
    lengths = (47, 5, 20)
    expected = words(extracted(Store.open(str(tmp_path / "other")), *lengths).transcribe(in_process()))
    batch = extracted(store, *lengths)
    with served() as service, launcher(service) as made:
        assert words(batch.transcribe(tools(made, group_s=8.0))) == expected
        assert made.use.usd > 0
        assert service.jobs == {}, "jobs that have ended are deleted"
        assert service.tokens == {"Bearer token of the test"}
    assert left_behind(store) == []
    assert len(service.created) == 2
    spec = service.created[0]
    assert (spec.image, spec.platform, spec.preset) == ("registry.example/worker:1", "cpu-d3", "4vcpu-16gb")
    assert SECRET.encode() not in spec.SerializeToString()
    variables = {item.name: item for item in spec.environment_variables}
    assert variables["TRANSCRIPTION_STORE"].value == store.url
    assert variables["AWS_SECRET_ACCESS_KEY"].mysterybox_secret.secret_id == "mbsec-1"
    assert variables["AWS_SECRET_ACCESS_KEY"].mysterybox_secret.version_id == "mbsecver-2"


def test_audio_is_extracted_in_jobs(store: Store) -> None:
    decoder = MediaDecoder(FFMPEG)
    keys = [f"audio/{number}.wav" for number in (1, 2, 3)]
    for number, key in enumerate(keys):
        recordings.tone(Path(store.url) / key, 2 + number, rate=8_000)
        video.materialise(store, key, decoder)
    with served() as service, launcher(service) as made:
        extraction = RecordingWorkers("audio", made, audio.options(decoder), 2.0)
        with extraction.begin(store, keys, lambda key: audio.pending(store, key, decoder), unwatched) as delegated:
            assert all(delegated.finish(key) for key in keys)
            delegated.end()
        assert extraction.use.usd > 0
    assert len(service.created) > 1
    assert all("--stage audio" in spec.args for spec in service.created)
    assert all(audio.materialise(store, key, decoder).reused for key in keys)


def test_audio_jobs_run_on_the_cpu_platform_if_one_is_set() -> None:
    chosen = settings(nebius_cpu_platform="cpu-e2", nebius_cpu_preset="2vcpu-8gb", nebius_cpu_dollars_per_hour=0.1)
    made = NebiusOptions.of(chosen, "audio")
    assert (made.platform, made.preset, made.dollars_per_hour) == ("cpu-e2", "2vcpu-8gb", 0.1)
    assert NebiusOptions.of(chosen, "transcript").platform == chosen.nebius_platform
    assert NebiusOptions.of(settings(), "audio").platform == settings().nebius_platform


@pytest.mark.parametrize("stage", ["PROVISIONING", "IMAGE_PULLING"])
def test_job_that_never_runs_is_given_up_and_deleted(store: Store, stage: str) -> None:
    batch = extracted(store, 5)
    limits = {"provision_limit_s": 0.5, "pull_limit_s": 0.5}
    with served(stuck=stage) as service, launcher(service, **limits) as made:
        assert [type(item) for item in batch.transcribe(tools(made)).values()] == [TransientFailure]
        assert service.jobs == {}
        assert made.use.usd == 0
    assert store.list(media_keys.work()) == []


def test_failed_image_pull_is_permanent(store: Store) -> None:
    batch = extracted(store, 5)
    with served(image_fails=True) as service, launcher(service) as made:
        assert [type(item) for item in batch.transcribe(tools(made)).values()] == [PermanentFailure]
        assert len(service.created) == 1


def test_preempted_job_is_replaced_and_nothing_suspected(store: Store) -> None:
    batch = extracted(store, 5, 10)
    with served(preempt=1) as service, launcher(service, preemptible=True, jobs=1) as made:
        answers = batch.transcribe(tools(made))
        assert len(service.created) == 2
        assert service.created[0].preemptible
        assert service.created[0].pricing_model.follows_spot_price is not None
    assert all(isinstance(item, Transcript) for item in answers.values())
    assert left_behind(store) == []


def test_recording_that_exhausts_the_memory_fails_alone(store: Store) -> None:
    batch = extracted(store, 5, 10, 15)
    with served(variables={"POISON": "10"}) as service, launcher(service, keep_failed=True) as made:
        answers = batch.transcribe(tools(made))
        assert {job.state for job in service.jobs.values()} == {"FAILED"}, "they are kept for their logs"
    assert isinstance(answers.pop(batch.keys[1]), WorkerDied)
    assert all(isinstance(item, Transcript) for item in answers.values())


def test_interrupted_run_leaves_no_job_behind(store: Store) -> None:
    def interrupted(made: NebiusLauncher, calls: list[str]) -> None:
        with made.launch(store, _manifest(["audio/a.wav", "audio/b.wav"], "run")) as launched:
            waiting.until(
                "jobs run",
                lambda: {item.phase for item in launched.states().values()} == {Phase.RUNNING},
                lambda: len(calls),
            )
            raise KeyboardInterrupt

    from transcription_assets_tests.workers import nebius_stand_in

    with served(command=nebius_stand_in.SLEEPER) as service, launcher(service) as made:
        with pytest.raises(KeyboardInterrupt):
            interrupted(made, service.calls)
        assert service.calls.count("Cancel") == 2
        assert service.jobs == {}
        assert service.running == []


def test_jobs_of_a_killed_coordinator_are_ended_by_the_next(store: Store) -> None:
    from transcription_assets_tests.workers import nebius_stand_in

    key = "audio/a.wav"
    with served(command=nebius_stand_in.SLEEPER) as service:
        with launcher(service) as made:
            for owner in ("run", "other run"):
                made.launch(store, _manifest([key], owner)).states()  # and never left
            assert len(service.jobs) == 2
        with launcher(service) as made:
            made.launch(store, _manifest([key], "run"))
        (other,) = service.jobs.values()
        assert "other-run" in other.metadata.name


def _manifest(keys: Any, owner: str) -> Manifest:
    settings = speech_settings(ScriptedEngine(script()))
    shards = tuple((((key, 0, 0),),) for key in keys)
    return Manifest(f"m-{owner.replace(' ', '-')}", owner, "transcript", settings, (), shards, 0.0)


@pytest.mark.parametrize("method", ["Create", "Get", "Delete"])
def test_busy_service_is_asked_again(store: Store, method: str) -> None:
    batch = extracted(store, 5)
    faults = {method: [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE]}
    with served(errors=faults) as service, launcher(service) as made:
        answers = batch.transcribe(tools(made))
        assert service.jobs == {}
    assert all(isinstance(item, Transcript) for item in answers.values())
    assert len(service.created) == 1


@pytest.mark.parametrize("code", [grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.INVALID_ARGUMENT])
def test_refusal_of_the_service_is_permanent(store: Store, code: grpc.StatusCode) -> None:
    batch = extracted(store, 5)
    with served(errors={"Create": [code]}) as service, launcher(service) as made:
        assert [type(item) for item in batch.transcribe(tools(made)).values()] == [PermanentFailure]
        assert service.created == []


def test_launcher_works_within_a_running_event_loop(store: Store) -> None:
    import asyncio

    batch = extracted(store, 5)

    async def inside() -> dict[str, Transcript | Exception]:
        with served() as service, launcher(service) as made:
            return batch.transcribe(tools(made))

    assert all(isinstance(item, Transcript) for item in asyncio.run(inside()).values())
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("nebius")]


def test_missing_credentials_are_permanent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("NEBIUS_IAM_TOKEN", raising=False)
    made = NebiusLauncher(NebiusOptions.of(settings(), "transcript"))
    with pytest.raises(PermanentFailure):
        _ = made.sdk
    made.close()


def test_token_of_the_environment_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEBIUS_IAM_TOKEN", "token of the test")
    made = NebiusLauncher(NebiusOptions.of(settings(), "transcript"))
    assert made.sdk.get_token_sync(10.0).token == "token of the test"
    made.close()


def settings(**changes: Any) -> Settings:
    needed = {"nebius_image": "worker:1", "nebius_platform": "cpu-d3", "nebius_preset": "4vcpu-16gb", "device": "cpu"}
    return Settings(**needed | changes)


def test_settings_become_options_of_jobs() -> None:
    chosen = settings(nebius_secrets="A=mbsec-1,B=mbsec-2@mbsecver-3", nebius_environment="AWS_REGION=eu-north1")
    options = NebiusOptions.of(chosen, "transcript")
    assert options.secrets == {"A": "mbsec-1", "B": "mbsec-2@mbsecver-3"}
    assert options.environment == {"TRANSCRIPTION_MODELS_DIR": "/opt/models", "AWS_REGION": "eu-north1"}


def test_jobs_have_the_speech_settings_without_paths_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"IMAGE": "worker:1", "PLATFORM": "cpu-d3", "PRESET": "4vcpu-16gb"}.items():
        monkeypatch.setenv(f"TRANSCRIPTION_NEBIUS_{name}", value)
    monkeypatch.setenv("TRANSCRIPTION_DEVICE", "cpu")
    chosen = SpeechSettings.of(settings(launcher="nebius", language="de", worker_processes=3))
    made = build_transcriber(ScriptedEngine(script()), chosen, FFMPEG, "run")
    assert isinstance(made, WorkerTranscriber)
    assert isinstance(made.launcher, NebiusLauncher)
    variables = made.launcher.environment
    assert variables["TRANSCRIPTION_LANGUAGE"] == "de"
    assert variables["TRANSCRIPTION_CPU_THREADS"] == "0"
    assert not {"TRANSCRIPTION_MODELS_DIR", "TRANSCRIPTION_FFMPEG", "TRANSCRIPTION_LAUNCHER"} & variables.keys()


@pytest.mark.parametrize(
    "changes",
    [
        {"nebius_image": ""},
        {"nebius_preset": ""},
        {"device": "auto"},
        {"nebius_environment": "AWS_SECRET_ACCESS_KEY=hunter2"},
        {"nebius_environment": "AWS_ENDPOINT_URL_S3=https://me:hunter2@s3.example"},
    ],
)
def test_wrong_settings_of_jobs_are_refused(changes: dict[str, str]) -> None:
    with pytest.raises(PermanentFailure):
        NebiusOptions.of(settings(**changes), "transcript")


def test_folder_as_store_is_refused(store: Store) -> None:
    made = NebiusLauncher(NebiusOptions.of(settings(), "transcript"))
    with pytest.raises(PermanentFailure):
        made.launch(store, _manifest(["audio/a.wav"], ""))
