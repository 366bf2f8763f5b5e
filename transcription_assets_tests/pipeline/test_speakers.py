"""The step `speakers` of one recording, with a scripted diariser."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from transcription_assets.domain import media_keys
from transcription_assets.domain.chunking import Region
from transcription_assets.domain.speakers import Turn
from transcription_assets.domain.transcript import Media, Span, SpeechModel, Transcript
from transcription_assets.errors import PermanentFailure
from transcription_assets.pipeline import audio, records, speakers, transcript, video, window_plan
from transcription_assets.pipeline.speakers import SpeakerTools
from transcription_assets.pipeline.video import MediaDecoder
from transcription_assets.speakers.diariser import Bounds, Diarisation, silent
from transcription_assets.speech import Samples
from transcription_assets.storage import Store
from transcription_assets_tests import recordings
from transcription_assets_tests.chain import Chain
from transcription_assets_tests.strategies import segment

KEY = "audio/a.wav"
FFMPEG = recordings.wheel_ffmpeg()
TWO = Diarisation((Turn(0.0, 2.0, "1"), Turn(2.0, 4.0, "2")), {"1": (1.0, 0.0), "2": (0.0, 1.0)})
ONE = Diarisation((Turn(0.0, 4.0, "1"),), {"1": (1.0, 0.0)})


@dataclass
class ScriptedDiariser:
    """A diariser that answers as scripted and counts what it is given."""

    answer: Diarisation = TWO
    model: str = "scripted@1"
    options: Mapping[str, Any] = field(default_factory=dict)
    calls: int = 0
    samples: int = 0
    given: tuple[Sequence[Span], Bounds] = ((), Bounds())

    def diarise(
        self,
        blocks: Iterable[Samples],
        voiced: Sequence[Span],
        bounds: Bounds,
        progress: Callable[[float], None] = silent,
    ) -> Diarisation:
        self.calls += 1
        self.samples = sum(map(len, blocks))
        self.given = voiced, bounds
        progress(self.samples / 16_000)
        return self.answer


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store with one recording whose audio is extracted, with speech in its plan."""
    opened = Store.open(str(tmp_path))
    recordings.tone(tmp_path / KEY, 4.0, rate=8_000)
    decoder = MediaDecoder(FFMPEG)
    video.materialise(opened, KEY, decoder)
    made = audio.materialise(opened, KEY, decoder)
    plan = window_plan.ensure(opened, KEY, made.sha256, channels=1, duration=made.duration, ffmpeg=FFMPEG)
    ((window,),) = plan.channels
    voiced = replace(window, voiced=(Region(0.0, 4.0),))
    window_plan.write(opened, KEY, replace(plan, channels=((voiced,),)))
    return opened


def test_the_record_is_written_and_reused(store: Store) -> None:
    diariser, done = ScriptedDiariser(), list[float]()
    made = speakers.materialise(store, KEY, SpeakerTools(diariser, FFMPEG), done.append)
    assert (made.turns, made.reused, made.coverage) == (TWO.turns, False, 1.0)
    assert diariser.samples == pytest.approx(64_000, abs=1600)
    assert diariser.given == (((0.0, 4.0),), Bounds())
    assert done == [diariser.samples / 16_000]
    assert speakers.load(store, KEY) == replace(made, reused=True)
    assert speakers.materialise(store, KEY, SpeakerTools(diariser, FFMPEG)).reused
    assert diariser.calls == 1
    assert media_keys.speakers(KEY) in media_keys.artefacts(KEY)


@pytest.mark.parametrize(
    "changed",
    [
        SpeakerTools(ScriptedDiariser(model="scripted@2"), FFMPEG),
        SpeakerTools(ScriptedDiariser(options={"similarity": 0.1}), FFMPEG),
        SpeakerTools(ScriptedDiariser(), FFMPEG, Bounds(most=1)),
    ],
    ids=["model", "options", "bounds"],
)
def test_other_settings_find_the_speakers_again(store: Store, changed: SpeakerTools) -> None:
    speakers.materialise(store, KEY, SpeakerTools(ScriptedDiariser(), FFMPEG))
    assert not speakers.materialise(store, KEY, changed).reused


def test_bounds_beside_a_recording_replace_the_settings(store: Store) -> None:
    tools = SpeakerTools(diariser := ScriptedDiariser(), FFMPEG, Bounds(1, 9))
    assert speakers.materialise(store, KEY, tools).bounds == Bounds(1, 9)
    store.write(f"{KEY}.speakers.json", b'{"max": 3}')
    made = speakers.materialise(store, KEY, tools)
    assert (made.bounds, made.reused, diariser.given[1]) == (Bounds(0, 3), False, Bounds(0, 3))
    assert speakers.materialise(store, KEY, tools).reused


def test_invalid_bounds_fail_only_their_recording(store: Store) -> None:
    store.write(f"{KEY}.speakers.json", b'{"max": "many"}')
    with pytest.raises(PermanentFailure) as caught:
        speakers.materialise(store, KEY, SpeakerTools(ScriptedDiariser(), FFMPEG))
    assert (caught.value.key, caught.value.step) == (KEY, "speakers")
    assert store.exists(media_keys.failure(KEY))


def test_damaged_records_are_replaced(store: Store) -> None:
    store.write(media_keys.speakers(KEY), b'{"version": "1", "turns": 3}')
    assert not speakers.materialise(store, KEY, SpeakerTools(ScriptedDiariser(), FFMPEG)).reused


def test_without_audio_the_step_names_what_to_do(store: Store) -> None:
    with pytest.raises(PermanentFailure, match="materialise `audio` first") as caught:
        speakers.materialise(store, "audio/b.wav", SpeakerTools(ScriptedDiariser(), FFMPEG))
    assert caught.value.step == "speakers"


def test_a_recording_without_speech_is_not_read(store: Store) -> None:
    plan = window_plan.load(store, KEY, audio.load(store, KEY).sha256)  # type: ignore[union-attr]
    assert plan
    silence = replace(plan, channels=(tuple(replace(window, voiced=()) for window in plan.channels[0]),))
    window_plan.write(store, KEY, silence)
    diariser = ScriptedDiariser()
    made = speakers.materialise(store, KEY, SpeakerTools(diariser, FFMPEG))
    assert (made.turns, made.coverage, diariser.calls) == ((), 1.0, 0)


def words_of(made: speakers.Speakers) -> Transcript:
    """Return a transcript of the audio with a segment for each of the two speakers."""
    return Transcript(
        "a.wav",
        "en",
        1.0,
        4.0,
        (segment("Hello.", 0.0, 1.5), segment("Hi.", 2.5, 3.5)),
        Media(KEY, made.etag, made.sound),
        SpeechModel("m", "r", "int8", "e"),
        options={"speakers": "mixed"},
    )


def test_words_get_the_speakers_of_the_same_audio(store: Store) -> None:
    made = speakers.materialise(store, KEY, SpeakerTools(ScriptedDiariser(), FFMPEG))
    source = words_of(made)
    assert [item.speaker for item in speakers.spoken(store, source, {}).segments] == ["Speaker 1", "Speaker 2"]
    other = replace(source, media=replace(source.media, sound="another"))
    assert speakers.spoken(store, other, {}) == other


def test_the_only_voice_has_no_name_with_auto(store: Store) -> None:
    tools = SpeakerTools(ScriptedDiariser(ONE), FFMPEG, only_several=True)
    made = speakers.materialise(store, KEY, tools)
    assert (made.labels, made.shown_turns) == (("1",), ())
    assert replace(made, only_several=False).shown_turns == ONE.turns


def test_coverage_counts_speech_near_turns() -> None:
    assert speakers.covered([(0.0, 4.0), (10.0, 12.0)], [Turn(1.0, 2.0, "1"), Turn(9.0, 9.6, "2")]) == pytest.approx(
        2.1
    )


def test_all_formats_name_the_speakers(store: Store) -> None:
    made = speakers.materialise(store, KEY, SpeakerTools(ScriptedDiariser(), FFMPEG))
    store.write(media_keys.transcript(KEY), words_of(made).to_json())
    applied = speakers.apply(store, KEY, {})
    assert applied == transcript.load(store, KEY)
    assert "<v Speaker 2>Hi." in store.read(media_keys.transcript(KEY, ".vtt")).decode()
    assert "Speaker 1: Hello." in store.read(media_keys.transcript(KEY, ".srt")).decode()
    assert store.read(media_keys.transcript(KEY, ".txt")) == b"Speaker 1: Hello.\nSpeaker 2: Hi.\n"
    store.delete(media_keys.transcript(KEY, ".srt"))
    assert speakers.apply(store, KEY, {}) == applied
    assert store.exists(media_keys.transcript(KEY, ".srt"))


def test_other_turns_replace_the_speakers(store: Store) -> None:
    made = speakers.materialise(store, KEY, SpeakerTools(ScriptedDiariser(), FFMPEG))
    store.write(media_keys.transcript(KEY), words_of(made).to_json())
    speakers.apply(store, KEY, {})
    speakers.materialise(store, KEY, SpeakerTools(ScriptedDiariser(ONE), FFMPEG, Bounds(most=1)))
    applied = speakers.apply(store, KEY, {})
    assert applied
    assert [item.speaker for item in applied.segments] == ["Speaker 1", "Speaker 1"]


def test_without_a_transcript_nothing_is_written(store: Store) -> None:
    speakers.materialise(store, KEY, SpeakerTools(ScriptedDiariser(), FFMPEG))
    assert speakers.apply(store, KEY, {}) is None
    assert not store.exists(media_keys.transcript(KEY, ".txt"))


def test_process_finds_speakers_only_if_they_are_wanted(tmp_path: Path) -> None:
    opened = Store.open(str(tmp_path))
    recordings.tone(tmp_path / "audio/10.wav", 10.0, rate=8_000)
    Chain(opened).run("audio/10.wav")
    assert speakers.load(opened, "audio/10.wav") is None
    Chain(opened, diariser=ScriptedDiariser()).run("audio/10.wav")
    found = speakers.load(opened, "audio/10.wav")
    assert found
    assert found.model == "scripted@1"


def test_names_reach_the_search(tmp_path: Path) -> None:
    opened = Store.open(str(tmp_path))
    recordings.tone(tmp_path / "audio/10.wav", 10.0, rate=8_000)
    voices = Chain(opened, diariser=ScriptedDiariser())
    voices.run("audio/10.wav")
    made = speakers.load(opened, "audio/10.wav")
    assert made
    turns = (Turn(0.0, 5.0, "1"), Turn(5.0, 10.0, "2"))
    records.write(opened, media_keys.speakers("audio/10.wav"), asdict(replace(made, turns=turns, reused=False)))
    assert voices.run("audio/10.wav").done == ["audio/10.wav"]
    assert voices.rows()["speakers"].explode().unique().sort().to_list() == ["Speaker 1", "Speaker 2"]
