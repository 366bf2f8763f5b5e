"""A fake engine, for tests without a model, that ignores the audio and returns scripted sentences."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from transcription_assets.domain.chunking import Region, coverage
from transcription_assets.domain.transcript import Segment, SpeechModel, Word
from transcription_assets.speech.engine import SAMPLE_RATE, AudioSource, SpeechOptions, SpeechResult


@dataclass(slots=True)
class ScriptedEngine:
    """Engine that returns the sentences of its script, after its failures, one for each call.

    Engines do not get the names of recordings, so `script` and `failures` are by length in whole seconds. `heard` lists
    the lengths of all recordings read.
    """

    script: Mapping[int, Sequence[str]] = field(default_factory=dict)
    failures: dict[int, list[Exception]] = field(default_factory=dict)
    options: SpeechOptions = field(default_factory=SpeechOptions)
    model: SpeechModel = field(default_factory=lambda: SpeechModel("scripted", "1", "none", "fake"))
    heard: list[int] = field(default_factory=list)

    def transcribe(self, sounds: Iterable[AudioSource]) -> Iterator[SpeechResult | Exception]:
        """Read each sound to its end, then yield its sentences with words evenly distributed over its length.

        Raises:
            Exception: any exception of the iterable `sounds` itself.

        """
        for sound in sounds:
            try:
                yield self._hear(sound)
            except Exception as error:  # noqa: BLE001 -- as the protocol requires
                yield error

    def _hear(self, sound: AudioSource) -> SpeechResult:
        duration = sum(len(block) for block in sound.read(0, 0.0)) / SAMPLE_RATE
        seconds = round(duration)
        self.heard.append(seconds)
        if self.failures.get(seconds):
            raise self.failures[seconds].pop(0)
        sound.progress(duration)
        sentences = self.script.get(seconds, [f"These are {seconds} seconds."])
        segments = tuple(_evenly(sentences, duration))
        words = [word for segment in segments for word in segment.words]
        voiced = [Region(0.0, duration)] if segments else []
        language = "en" if segments else ""
        return SpeechResult(
            segments, language, 1.0, duration, coverage(voiced, words), {language: 1.0} if language else {}
        )


def _evenly(sentences: Sequence[str], duration: float) -> Iterator[Segment]:
    tokens = [(number, token) for number, sentence in enumerate(sentences) for token in sentence.split()]
    step = duration / max(1, len(tokens))
    words = [(number, Word(i * step, (i + 1) * step, f" {token}", 0.9)) for i, (number, token) in enumerate(tokens)]
    for number, sentence in enumerate(sentences):
        own = tuple(word for sentence_number, word in words if sentence_number == number)
        yield Segment(number, own[0].start, own[-1].end, sentence, own, -0.2, 0.01, 1.2)
