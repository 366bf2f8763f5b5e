"""Specifications of the asset checks; `pipeline/quality_checks.py` has what they check."""

import dagster as dg

from transcription_assets.defs.jobs import recordings
from transcription_assets.pipeline.quality_checks import (
    ATTRIBUTED_LIMIT,
    CONFIDENCE_LIMIT,
    COVERAGE_LIMIT,
    GAP_LIMIT_S,
    UNCOVERED_FLOOR_S,
)


def _spec(name: str, asset: str, description: str) -> dg.AssetCheckSpec:
    return dg.AssetCheckSpec(name, asset=asset, description=description, partitions_def=recordings)


PLAYABLE = _spec("playable", "video", "The recording can be opened, has audio, and states its duration.")
WHOLE = _spec(
    "whole",
    "audio",
    "The decoded duration matches the one that the file states, and the file has its end.",
)
AUDIBLE = _spec(
    "audible",
    "audio",
    "The audio is neither very quiet nor on channels of opposite phase, and no audio track was left out.",
)
COVERAGE = _spec(
    "speech_coverage",
    "transcript",
    f"At least {COVERAGE_LIMIT:.0%} of the voice activity has words, or all but {UNCOVERED_FLOOR_S:.0f} s of it; "
    f"no gap (speech without words) is longer than {GAP_LIMIT_S:.0f} s.",
)
CONFIDENCE = _spec(
    "confidence",
    "transcript",
    f"The mean probability that Whisper gives the words is at least {CONFIDENCE_LIMIT}.",
)
NO_HALLUCINATIONS = _spec(
    "no_hallucinations",
    "transcript",
    "There are no words without speech (hallucinations), and no segments that kept a low confidence after a retry.",
)
ATTRIBUTED = _spec(
    "attributed",
    "speakers",
    f"At least {ATTRIBUTED_LIMIT:.0%} of the speech has a speaker, and their number is within the bounds.",
)
EXAMINED = _spec(
    "examined",
    "slides",
    "The pictures of the recording were decoded to the end, and no slide was left out over the limit of their number.",
)
COMPLETE = _spec("complete", "embeddings", "Every sentence of the transcript is in a passage of the search index.")
