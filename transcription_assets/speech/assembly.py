"""Merging of windows into one result. Pure functions.

Every voiced second is in exactly one window, so nothing is duplicated or lost.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from transcription_assets.domain import chunking
from transcription_assets.domain.text import sentence_runs, whole_words
from transcription_assets.domain.transcript import Segment, Speech, normalise_segments
from transcription_assets.speech import languages
from transcription_assets.speech.engine import CHANNELS, SpeechResult
from transcription_assets.speech.fallback import shifted
from transcription_assets.speech.windows import DecodedWindow


def window(
    start: float, end: float, segments: Iterable[Segment], voiced: Iterable[chunking.Region], votes: Mapping[str, float]
) -> DecodedWindow:
    """Return a finished window with one segment per sentence, from segments and regions timed from its start."""
    cut = [sentence for item in segments for sentence in by_sentence(shifted(item, start))]
    regions = tuple(chunking.Region(item.start + start, item.end + start) for item in voiced)
    return DecodedWindow(start, end, normalise_segments(cut, end, start), regions, dict(votes))


def merge(channels: Sequence[Sequence[DecodedWindow]], *, fixed_language: str = "") -> SpeechResult:
    """Return the result of a recording from the windows of each channel; with two channels, each is a speaker."""
    spoken = [_settled(windows) for windows in channels]
    if len(channels) > 1:
        spoken = [
            [replace(item, speaker=name) for item in segments] for name, segments in zip(CHANNELS, spoken, strict=True)
        ]
    ordered = sorted((item for segments in spoken for item in segments), key=lambda item: item.start)
    segments = tuple(replace(item, id=number) for number, item in enumerate(ordered))
    shares = languages.shares(_votes(channels))
    language = fixed_language or next(iter(shares), "")
    return SpeechResult(
        segments=segments,
        language=language,
        language_probability=1.0 if fixed_language else shares.get(language, 0.0),
        duration=round(max((windows[-1].end for windows in channels if windows), default=0.0), 3),
        speech=_speech(channels, segments),
        languages=shares,
        wall_s=round(sum(item.wall_s for windows in channels for item in windows), 3),
    )


def by_sentence(segment: Segment) -> list[Segment]:
    """Split the segment into sentences, since a chunk of up to 30 s is too long to read."""
    runs = sentence_runs(whole_words(segment.words))
    if len(runs) < 2:  # noqa: PLR2004 -- nothing to split, and segments without words stay unchanged
        return [segment]
    return [
        replace(segment, start=run[0].start, end=run[-1].end, text="".join(word.word for word in run), words=tuple(run))
        for run in runs
    ]


def _settled(windows: Sequence[DecodedWindow]) -> list[Segment]:
    end = windows[-1].end if windows else 0.0
    return list(normalise_segments((segment for item in windows for segment in item.segments), end))


def _votes(channels: Sequence[Sequence[DecodedWindow]]) -> dict[str, float]:
    votes: dict[str, float] = {}
    for windows in channels:
        for item in windows:
            languages.count(votes, item.languages)
    return votes


def _speech(channels: Sequence[Sequence[DecodedWindow]], segments: Sequence[Segment]) -> Speech:
    """Return the coverage; with two channels it is measured in each, and the times are added."""
    audits = []
    for number, windows in enumerate(channels):
        own = [item for item in segments if len(channels) == 1 or item.speaker == CHANNELS[number]]
        regions = [region for item in windows for region in item.voiced]
        audits.append(chunking.coverage(regions, [word for item in own for word in item.words]))
    if len(audits) == 1:
        return audits[0]
    return Speech(
        vad_seconds=round(sum(item.vad_seconds for item in audits), 3),
        covered_seconds=round(sum(item.covered_seconds for item in audits), 3),
        largest_gap=max(item.largest_gap for item in audits),
        gaps=tuple(sorted(span for item in audits for span in item.gaps)),
        hallucinations=tuple(sorted(span for item in audits for span in item.hallucinations)),
        voiced=tuple(sorted(span for item in audits for span in item.voiced)),
    )
