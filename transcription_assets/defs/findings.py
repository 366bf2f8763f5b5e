"""Asset checks: what is declared on the assets, and how each finding follows from a step's record."""

from collections.abc import Iterable

import dagster as dg

from transcription_assets.defs.batch import Finding
from transcription_assets.defs.partitions import recordings
from transcription_assets.steps.audio import Audio
from transcription_assets.steps.embeddings import Embeddings
from transcription_assets.steps.video import Video
from transcription_assets.transcript import Transcript, clock

COVERAGE_LIMIT = 0.85
GAP_LIMIT_S = 10.0
UNHEARD_FLOOR_S = 2.0
"""A cough, a chord: so much of what sounds like a voice may be without words in any recording."""
CONFIDENCE_LIMIT = 0.5
LISTED = 5


def _spec(name: str, asset: str, description: str) -> dg.AssetCheckSpec:
    return dg.AssetCheckSpec(name, asset=asset, description=description, partitions_def=recordings)


PLAYABLE = _spec("playable", "video", "The recording can be opened, has sound, and says how long it is.")
WHOLE = _spec("whole", "audio", "As much sound was decoded as the file promises: a broken download falls short.")
AUDIBLE = _spec(
    "audible",
    "audio",
    "The sound is neither very quiet nor on channels that cancel each other, and no audio track was left out.",
)
COVERAGE = _spec(
    "speech_coverage",
    "transcript",
    f"At least {COVERAGE_LIMIT:.0%} of the voiced time has words, or all but {UNHEARD_FLOOR_S:.0f} s of it; "
    f"no hole is longer than {GAP_LIMIT_S:.0f} s.",
)
CONFIDENCE = _spec(
    "confidence",
    "transcript",
    f"The words have a mean probability of at least {CONFIDENCE_LIMIT} by Whisper's own count.",
)
INVENTED = _spec(
    "no_inventions",
    "transcript",
    "There are no words where nobody speaks, and none that the engine itself doubts after trying again.",
)
COMPLETE = _spec("complete", "embeddings", "Every sentence of the transcript is in a passage that can be searched.")


def playable(video: Video) -> Finding:
    """Judged on the probe; a recording that cannot be opened at all fails the asset itself."""
    duration = video.probe.duration
    if duration is None:
        return Finding("playable", passed=False, description="It plays, but the file does not say how long it is.")
    return Finding("playable", passed=True, description=f"{video.probe.audio_codec} sound, {duration:.1f} s.")


def whole(audio: Audio) -> Finding:
    """Judged on the decoded and the promised length."""
    promised = "an unknown length" if audio.container_duration is None else f"{audio.container_duration:.1f} s"
    description = f"{audio.duration:.1f} s decoded, the file promises {promised}."
    if audio.warnings:
        description += f" The decoder said: {'; '.join(audio.warnings[:3])}"
    return Finding("whole", passed=audio.is_whole, description=description)


def audible(audio: Audio) -> Finding:
    """Warn of what was done so that voices can be heard, and of what was left out."""
    told = []
    if audio.level_db is None:
        told.append("There is digital silence only.")
    if audio.gain_db:
        told.append(f"Very quiet ({audio.level_db} dB): amplified by {audio.gain_db} dB.")
    if audio.cancelled_s:
        told.append(
            f"Channels of opposite phase cancel each other for {audio.cancelled_s:.1f} s; they were turned around."
            " Check the wiring of the microphones."
        )
    if left := [number for number in range(1, audio.track_count + 1) if number not in audio.tracks]:
        told.append(
            f"Of {audio.track_count} audio tracks {_listed(audio.tracks)} were used, {_listed(left)} left out"
            " (TRANSCRIPTION_AUDIO_TRACKS chooses)."
        )
    return Finding(
        "audible",
        passed=not told,
        description=" ".join(told) or "Sound of a usual level.",
        metadata={
            "level_db": dg.MetadataValue.float(-120.0 if audio.level_db is None else audio.level_db),
            "gain_db": dg.MetadataValue.float(audio.gain_db),
            "cancelled_s": dg.MetadataValue.float(audio.cancelled_s),
            "tracks": dg.MetadataValue.text(f"{_listed(audio.tracks)} of {audio.track_count}"),
        },
    )


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, numbers))


def speech_coverage(transcript: Transcript, audio: Audio | None = None) -> Finding:
    """Compare the voiced time with the words; of very quiet sound silence is not believed."""
    speech = transcript.speech
    if not speech.vad_seconds and audio is not None and audio.gain_db:
        return Finding(
            "speech_coverage",
            passed=False,
            description=f"There is very quiet sound ({audio.level_db} dB, amplified by {audio.gain_db} dB), but no"
            " speech was understood in it. Listen to it, and record closer to the speaker.",
        )
    if not speech.vad_seconds:
        return Finding("speech_coverage", passed=True, description="Nobody speaks in this recording.")
    enough = speech.coverage >= COVERAGE_LIMIT or speech.vad_seconds - speech.covered_seconds <= UNHEARD_FLOOR_S
    understood = f"{speech.coverage:.1%} of {speech.vad_seconds:.1f} s voiced time has words"
    if not transcript.segments and speech.holes:
        understood = f"Somebody seems to speak for {speech.vad_seconds:.1f} s, but nothing was understood"
    return Finding(
        "speech_coverage",
        passed=enough and speech.largest_gap <= GAP_LIMIT_S,
        description=f"{understood}; the longest hole is {speech.largest_gap:.1f} s.",
        metadata={"coverage": dg.MetadataValue.float(round(speech.coverage, 4))},
    )


def confidence(transcript: Transcript) -> Finding:
    """Judged on the mean probability of the words."""
    words = transcript.words
    if not words:
        return Finding("confidence", passed=True, description="There are no words to doubt.")
    mean = sum(word.probability for word in words) / len(words)
    return Finding(
        "confidence",
        passed=mean >= CONFIDENCE_LIMIT,
        description=f"Mean word probability {mean:.2f} over {len(words)} words.",
        metadata={"mean probability": dg.MetadataValue.float(round(mean, 4))},
    )


def invented(transcript: Transcript) -> Finding:
    """Judged on the words that lie apart from any voice, and on the segments that stayed doubtful."""
    inventions = transcript.speech.inventions
    doubtful = [item for item in transcript.segments if item.doubt]
    told = [f"words without a voice at {clock(start)}" for start, _ in inventions[:LISTED]]
    told += [f"{item.doubt} at {clock(item.start)}" for item in doubtful[:LISTED]]
    return Finding(
        "no_inventions",
        passed=not told,
        description="; ".join(told) if told else "No words are suspect.",
        metadata={
            "invented_s": dg.MetadataValue.float(float(round(sum(end - start for start, end in inventions), 3))),
            "doubtful_segments": dg.MetadataValue.int(len(doubtful)),
        },
    )


def complete(embeddings: Embeddings) -> Finding:
    """Judged on the sentences in the rows against those of the transcript."""
    return Finding(
        "complete",
        passed=embeddings.is_complete,
        description=f"{embeddings.sentences} sentences in {embeddings.rows.height} passages.",
    )
