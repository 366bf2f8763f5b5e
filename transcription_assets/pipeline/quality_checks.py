"""Checks of what the steps made: pure functions of their records. Dagster shows them as asset checks."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from transcription_assets.domain.transcript import Transcript, format_clock
from transcription_assets.pipeline.audio import Audio
from transcription_assets.pipeline.embeddings import Embeddings
from transcription_assets.pipeline.slides import Slides
from transcription_assets.pipeline.speakers import Speakers
from transcription_assets.pipeline.video import Video

COVERAGE_LIMIT = 0.85
GAP_LIMIT_S = 10.0
UNCOVERED_FLOOR_S = 2.0
"""Seconds of voice activity without words that any recording may have: a cough or a chord can look like speech."""
CONFIDENCE_LIMIT = 0.5
ATTRIBUTED_LIMIT = 0.9
LISTED = 5


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The result of one check for one recording; `figures` are measured values by name."""

    name: str
    passed: bool
    description: str
    figures: Mapping[str, float | str] = field(default_factory=dict)


def playable(video: Video) -> CheckResult:
    """Check that the probe found a duration; a recording that cannot be opened fails the asset itself."""
    duration = video.probe.duration
    if duration is None:
        return CheckResult(
            "playable",
            passed=False,
            description="The recording can be decoded, but the file does not state its duration.",
        )
    return CheckResult("playable", passed=True, description=f"{video.probe.audio_codec} audio, {duration:.1f} s.")


def whole(audio: Audio) -> CheckResult:
    """Compare the decoded duration with the container's."""
    promised = "no duration" if audio.container_duration is None else f"{audio.container_duration:.1f} s"
    description = f"{audio.duration:.1f} s decoded, the file states {promised}."
    if audio.truncation:
        description += f" {audio.shortfall[:1].upper()}{audio.shortfall[1:]}."
    if audio.warnings:
        description += f" Decoder warnings: {'; '.join(audio.warnings[:3])}"
    return CheckResult("whole", passed=audio.is_whole, description=description)


def audible(audio: Audio) -> CheckResult:
    """Report corrections that make the speech audible, and audio tracks that were left out."""
    notes = []
    if audio.level_db is None:
        notes.append("Digital silence only.")
    if audio.gain_db:
        notes.append(f"Very quiet ({audio.level_db} dB): amplified by {audio.gain_db} dB.")
    if audio.cancelled_s:
        notes.append(
            f"Channels of opposite phase cancel each other for {audio.cancelled_s:.1f} s; one was inverted."
            " Check the wiring of the microphones."
        )
    if unused := [number for number in range(1, audio.track_count + 1) if number not in audio.tracks]:
        notes.append(
            f"Audio tracks {_listed(audio.tracks)} of {audio.track_count} were used; {_listed(unused)} ignored"
            " (see TRANSCRIPTION_AUDIO_TRACKS)."
        )
    return CheckResult(
        "audible",
        passed=not notes,
        description=" ".join(notes) or "The audio has a usual level.",
        figures={
            "level_db": -120.0 if audio.level_db is None else audio.level_db,
            "gain_db": audio.gain_db,
            "cancelled_s": audio.cancelled_s,
            "tracks": f"{_listed(audio.tracks)} of {audio.track_count}",
        },
    )


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, numbers))


def speech_coverage(transcript: Transcript, audio: Audio | None = None) -> CheckResult:
    """Check how much of the voice activity has words, and the longest gap.

    Amplified sound without any voice activity fails, since speech in it may have been missed.
    """
    speech = transcript.speech
    if not speech.vad_seconds and audio is not None and audio.gain_db:
        return CheckResult(
            "speech_coverage",
            passed=False,
            description=f"The audio is very quiet ({audio.level_db} dB, amplified by {audio.gain_db} dB), and no speech"
            " was detected in it. Listen to it, and record closer to the speaker.",
        )
    if not speech.vad_seconds:
        return CheckResult("speech_coverage", passed=True, description="No speech detected.")
    enough = speech.coverage >= COVERAGE_LIMIT or speech.vad_seconds - speech.covered_seconds <= UNCOVERED_FLOOR_S
    summary = f"{speech.coverage:.1%} of {speech.vad_seconds:.1f} s of voice activity has words"
    if not transcript.segments and speech.gaps:
        summary = f"Voice activity for {speech.vad_seconds:.1f} s, but no words were recognised"
    return CheckResult(
        "speech_coverage",
        passed=enough and speech.largest_gap <= GAP_LIMIT_S,
        description=f"{summary}; the longest gap is {speech.largest_gap:.1f} s.",
        figures={"coverage": round(speech.coverage, 4)},
    )


def confidence(transcript: Transcript) -> CheckResult:
    """Check the mean probability of the words."""
    words = transcript.words
    if not words:
        return CheckResult("confidence", passed=True, description="No words.")
    mean = sum(word.probability for word in words) / len(words)
    return CheckResult(
        "confidence",
        passed=mean >= CONFIDENCE_LIMIT,
        description=f"Mean word probability {mean:.2f} over {len(words)} words.",
        figures={"mean probability": round(mean, 4)},
    )


def no_hallucinations(transcript: Transcript) -> CheckResult:
    """Check for words outside voice activity and for segments with low confidence."""
    spans = transcript.speech.hallucinations
    unsure = [item for item in transcript.segments if item.low_confidence]
    findings = [f"words without speech at {format_clock(start)}" for start, _ in spans[:LISTED]]
    findings += [f"{item.low_confidence} at {format_clock(item.start)}" for item in unsure[:LISTED]]
    return CheckResult(
        "no_hallucinations",
        passed=not findings,
        description="; ".join(findings) if findings else "No hallucinations, no low confidence.",
        figures={
            "hallucinated_s": float(round(sum(end - start for start, end in spans), 3)),
            "segments_of_low_confidence": len(unsure),
        },
    )


def complete(embeddings: Embeddings) -> CheckResult:
    """Check that the passages contain all sentences of the transcript."""
    return CheckResult(
        "complete",
        passed=embeddings.is_complete,
        description=f"{embeddings.sentences} sentences, {embeddings.rows.height} passages.",
    )


def attributed(made: Speakers) -> CheckResult:
    """Check the share of the speech that has a speaker, and the number of speakers against its bounds."""
    count, bounds = len(made.labels), made.bounds
    is_few = made.speech_s > 0 and count < bounds.least
    is_many = 0 < bounds.most < count
    description = f"{made.coverage:.0%} of the speech has a speaker; {count} speakers."
    if is_few or is_many:
        description += f" The bounds are {bounds.least} to {bounds.most or 'any number'}."
    passed = made.coverage >= ATTRIBUTED_LIMIT and not (is_few or is_many)
    return CheckResult("attributed", passed=passed, description=description)


def examined(made: Slides) -> CheckResult:
    """Report pictures that could not be decoded, and those with text that were over the limit."""
    counts = made.counts
    if not made.has_video:
        return CheckResult("examined", passed=True, description="The recording has no video.")
    notes = [made.problem] if made.problem else []
    if counts.dropped:
        notes.append(f"{counts.dropped} pictures with text were over the limit of slides in this time, and not read.")
    done = f"{len(made.slides)} slides; of {counts.pictures} pictures {counts.searched} were searched for text."
    return CheckResult("examined", passed=not notes, description=" ".join([*notes, done]))
