"""A fake engine, for tests without a model, that ignores the audio and returns scripted sentences."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from transcription_assets.domain.chunking import Region
from transcription_assets.domain.transcript import Segment, SpeechModel, Word
from transcription_assets.speech.engine import SpeechOptions, WindowTask, silent
from transcription_assets.speech.windows import DecodedWindow, PlannedWindow


@dataclass(slots=True)
class ScriptedEngine:
    """Engine that returns the sentences of its script, after its failures, one for each call.

    `script` and `failures` are by the length of the window in whole seconds, which is that of a short recording.
    `decoded` lists the lengths of all windows.
    """

    script: Mapping[int, Sequence[str]] = field(default_factory=dict)
    failures: dict[int, list[Exception]] = field(default_factory=dict)
    options: SpeechOptions = field(default_factory=SpeechOptions)
    model: SpeechModel = field(default_factory=lambda: SpeechModel("scripted", "1", "none", "fake"))
    decoded: list[int] = field(default_factory=list)
    group_s: float = 480.0
    parallel: int = 1

    def load(self) -> None:
        """Do nothing: there are no weights."""

    def with_options(self, options: SpeechOptions) -> "ScriptedEngine":
        """Return an engine with the same script, and the same lists of failures and of decoded windows."""
        return replace(self, options=options)

    def decode(
        self, windows: Sequence[WindowTask], progress: Callable[[float], None] = silent, _parallel: int = 0
    ) -> list[DecodedWindow | Exception]:
        """Return the sentences of each window, with words evenly distributed over its length."""
        answers: list[DecodedWindow | Exception] = []
        for number, window in enumerate(windows, 1):
            try:
                answers.append(self._decode(window.plan))
            except Exception as error:  # noqa: BLE001 -- as the protocol requires
                answers.append(error)
            progress(number / len(windows))
        return answers

    def _decode(self, plan: PlannedWindow) -> DecodedWindow:
        seconds = round(plan.length)
        self.decoded.append(seconds)
        if self.failures.get(seconds):
            raise self.failures[seconds].pop(0)
        sentences = self.script.get(seconds, [f"These are {seconds} seconds."])
        segments = tuple(_evenly(sentences, plan))
        if not segments:
            return DecodedWindow(plan.start, plan.end)
        return DecodedWindow(plan.start, plan.end, segments, (Region(plan.start, plan.end),), {"en": plan.length})


def _evenly(sentences: Sequence[str], plan: PlannedWindow) -> Iterator[Segment]:
    tokens = [(number, token) for number, sentence in enumerate(sentences) for token in sentence.split()]
    step = plan.length / max(1, len(tokens))
    times = [plan.start + step * at for at in range(len(tokens) + 1)]
    words = [
        (number, Word(start, end, f" {token}", 0.9))
        for (number, token), start, end in zip(tokens, times, times[1:], strict=False)
    ]
    for number, sentence in enumerate(sentences):
        own = tuple(word for sentence_number, word in words if sentence_number == number)
        yield Segment(number, own[0].start, own[-1].end, sentence, own, -0.2, 0.01, 1.2)
