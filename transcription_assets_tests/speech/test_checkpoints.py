"""Checkpoints of windows after a killed run or a lost window. Uses the fake decoder of `spelling`."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from transcription_assets.domain.chunking import Region
from transcription_assets.domain.transcript import Segment
from transcription_assets.speech import (
    SAMPLE_RATE,
    AudioSource,
    DecodedWindow,
    Samples,
    WindowId,
    decoded_window,
    windowing,
)
from transcription_assets.speech import whisper as whispering
from transcription_assets.speech.decoder import Choose, Chunk, Decoded
from transcription_assets_tests.speech.spelling import (
    SpellingDecoder,
    engine,
    good,
    in_blocks,
    said,
    seekable,
    spelling,
    texts,
)

pytestmark = pytest.mark.usefixtures("scripted_voices")


class KilledError(BaseException):
    """Simulated end of the process."""


@dataclass
class DyingDecoder(SpellingDecoder):
    """Fake decoder: end the process in the batch with the word number `dies_at`."""

    dies_at: int = 0

    def decode(self, batch: Sequence[Chunk], choose: Choose) -> list[Decoded]:
        found = super().decode(batch, choose)
        if any(int(word.word) >= self.dies_at for item in found for word in item.segment.words):
            raise KilledError
        return found


@pytest.mark.parametrize("channels", [1, 2])
def test_a_killed_run_repeats_at_most_one_window(channels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The result equals that of an uninterrupted run, with one channel and with two."""
    monkeypatch.setattr(windowing, "WINDOW_S", 20.0)
    monkeypatch.setattr(whispering, "WINDOW_S", 20.0)
    words = said(240.0, pause=0.7)
    samples = spelling(words, 240.0)
    later = [replace(word, word=f" {int(word.word) + 1000}") for word in words]
    sides = [samples, spelling(later, 240.0)][:channels]
    kept: dict[WindowId, DecodedWindow] = {}

    def read(channel: int, start: float) -> Iterable[Samples]:
        return in_blocks(sides[channel][round(start * SAMPLE_RATE) :])

    first_try = DyingDecoder(dies_at=int(words[-1].word) * 9 // 10 + 1000 * (channels - 1))
    with pytest.raises(KilledError):
        list(engine(first_try).transcribe([AudioSource(read, checkpoints=kept, channels=channels)]))
    again, at_once = SpellingDecoder(), SpellingDecoder()
    [heard] = good(engine(again).transcribe([AudioSource(read, checkpoints=kept, channels=channels)]))
    [whole] = good(engine(at_once).transcribe([AudioSource(read, channels=channels)]))
    assert (heard.segments, heard.speech, heard.languages) == (whole.segments, whole.speech, whole.languages)
    assert sorted(texts(heard)) == sorted(word.word for word in (*words, *later)[: channels * len(words)])
    decoded = [sum(map(sum, decoder.batches)) for decoder in (first_try, again, at_once)]
    assert decoded[0] + decoded[1] - decoded[2] <= 20.0, "at most 20 s are decoded twice"


@given(st.integers(0, 40))
@examples(max_examples=20)
def test_a_window_round_trips_through_json(count: int) -> None:
    words = tuple(said(20.0)[:count])
    text = "".join(word.word for word in words)
    segment = Segment(0, 0.0, 9.0, text, words, -0.1, 0.0, 1.0, True, "de", 0.7, "loop", "left")  # noqa: FBT003
    made = DecodedWindow(5.0, 25.0, (segment,), (Region(5.5, 9.0),), {"de": 3.5})
    assert decoded_window.from_json(made.to_json()) == made


def test_the_next_run_decodes_a_lost_window_and_all_after_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A GPU decodes several windows at once: windows after the lost one must not take its place."""
    monkeypatch.setattr(windowing, "WINDOW_S", 20.0)
    monkeypatch.setattr(whispering, "WINDOW_S", 100.0)
    words = said(240.0, pause=0.7)
    samples, kept = spelling(words, 240.0), dict[WindowId, DecodedWindow]()
    lost = SpellingDecoder(failing_on=frozenset({len(words) // 4}))
    [error] = engine(lost).transcribe([seekable(samples, checkpoints=kept)])
    assert isinstance(error, ValueError)
    [heard] = good(engine(SpellingDecoder()).transcribe([seekable(samples, checkpoints=kept)]))
    assert texts(heard) == [word.word for word in words]


@pytest.mark.parametrize("start", [15.0, 25.0])
def test_a_checkpoint_not_adjacent_to_the_previous_is_discarded(start: float) -> None:
    """It comes from a run with other window boundaries and would duplicate or lose words."""
    words = said(60.0)
    kept = {(0, 0): DecodedWindow(0.0, 20.0), (0, 1): DecodedWindow(start, 40.0)}
    [heard] = good(engine(SpellingDecoder()).transcribe([seekable(spelling(words, 60.0), checkpoints=kept)]))
    assert [word for word in texts(heard) if word] == [word.word for word in words if word.start >= 20.0]
