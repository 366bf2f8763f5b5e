"""Materialisation metadata for the UI: pure functions from the records of the steps."""

import base64
import math
import re
from collections.abc import Mapping, Sequence

import dagster as dg

from transcription_assets.defs import coverage_plot
from transcription_assets.domain import media_keys
from transcription_assets.domain.chunking import Region, merge_regions
from transcription_assets.domain.speakers import display_name, talk_times
from transcription_assets.domain.text import printable
from transcription_assets.domain.transcript import Transcript, format_clock
from transcription_assets.pipeline.audio import Audio
from transcription_assets.pipeline.embeddings import Embeddings
from transcription_assets.pipeline.origin import Origin
from transcription_assets.pipeline.slides import Slides
from transcription_assets.pipeline.speakers import Speakers
from transcription_assets.pipeline.video import Video
from transcription_assets.search.tables import IndexState
from transcription_assets.slides.thumbnails import COLUMNS, ROWS, contact_sheet
from transcription_assets.storage import Store

INLINE_LIMIT = 1000
"""Number of characters from which Dagster's UI hides Markdown behind a link."""
EXCERPT_LINES = 12
TABLE_ROWS = 20
TIMELINE_SLOTS = 48
LEVELS = "·▁▂▃▄▅▆▇█"
PAUSE_S = 3.0
SPEAKER_ROWS = 8
TURN_CELLS = 60
PAUSES = 3
SHEET = COLUMNS * ROWS
"""Pictures of a contact sheet."""
SHEET_BYTES = 700
"""With base64 in Markdown it stays under INLINE_LIMIT."""
SLIDE_CHARACTERS = 80

Metadata = Mapping[str, dg.MetadataValue]

PASSAGE_COLUMNS = dg.TableSchema(
    columns=[
        dg.TableColumn("id", "string", description="media key # index"),
        dg.TableColumn("kind", "string", description="speech, or slide: text that the recording shows"),
        dg.TableColumn("media_key", "string", description="media key of the recording, also its partition key"),
        dg.TableColumn("title", "string", description="title or file name, for display"),
        dg.TableColumn("start_s", "float", description="seconds from the start of the recording"),
        dg.TableColumn("end_s", "float", description="seconds from the start of the recording"),
        dg.TableColumn("text", "string", description="whole sentences, about 30 s of speech"),
        dg.TableColumn("language", "string", description="ISO 639-1 code"),
        dg.TableColumn("speakers", "string[]", description="known speakers in the passage"),
        dg.TableColumn("recorded", "date", description="from the recording's name or tags"),
        dg.TableColumn("duration_s", "float", description="length of the recording in seconds"),
        dg.TableColumn("vector", "float32[]", description="unit length"),
        dg.TableColumn("embedding_model", "string", description="name and revision of the encoder"),
        dg.TableColumn(
            "recipe", "string", description="everything that vectors depend on; the same in all rows of a table"
        ),
        dg.TableColumn("media_etag", "string", description="ETag of the recording"),
        dg.TableColumn("card", "string", description="JSON for display: title, dates and sentences"),
        dg.TableColumn("near", "binary", description="the vector of each sentence, in 8 bits"),
    ]
)


def video(made: Video, thumbnail: bytes, store: Store, came_from: Origin | None = None) -> Metadata:
    """Return poster, duration, codecs, size and origin; `thumbnail` is a WebP image, empty if there is none."""
    probe = made.probe
    picture = f"{probe.video_codec} {probe.width}×{probe.height}" if probe.video_codec else "none"
    entries: dict[str, dg.MetadataValue] = {}
    if thumbnail:
        encoded = base64.b64encode(thumbnail).decode()
        entries["poster"] = dg.MetadataValue.md(f"![poster](data:image/webp;base64,{encoded})")
    if probe.title:
        entries["title"] = dg.MetadataValue.text(printable(probe.title))
    entries |= {
        "duration": dg.MetadataValue.text(format_clock(probe.duration) if probe.duration else "not stated"),
        "picture": dg.MetadataValue.text(picture),
        "sound": dg.MetadataValue.text(f"{probe.audio_codec}, {probe.sample_rate} Hz, {probe.channels}"),
        "size_mb": dg.MetadataValue.float(round(made.size / 1e6, 3)),
        "recording": dg.MetadataValue.path(store.public_url(made.key)),
    }
    if came_from:
        entries |= _origin(came_from)
    if made.has_poster:
        entries["poster_file"] = dg.MetadataValue.path(store.artefact_url(media_keys.poster(made.key)))
    return entries | {
        "duration_s": dg.MetadataValue.float(probe.duration or 0.0),
        "bytes_read": dg.MetadataValue.int(made.bytes_read),
        "etag": dg.MetadataValue.text(made.etag),
        "reused": dg.MetadataValue.bool(made.reused),
    }


def _origin(came_from: Origin) -> Metadata:
    entries: dict[str, dg.MetadataValue] = {"source": dg.MetadataValue.text(came_from.source)}
    if came_from.link:
        entries["link"] = dg.MetadataValue.url(came_from.link)
    if came_from.licence:
        entries["licence"] = dg.MetadataValue.text(came_from.licence)
    return entries


def audio(made: Audio, store: Store) -> Metadata:
    """Return the decoded duration and the decoder's warnings."""
    return {
        "duration": dg.MetadataValue.text(format_clock(made.duration)),
        "warnings": dg.MetadataValue.md(fitting([f"- {_plain(line)}" for line in made.warnings], "\n") or "none"),
        "flac": dg.MetadataValue.path(store.artefact_url(media_keys.flac(made.key))),
        "duration_s": dg.MetadataValue.float(made.duration),
        "container_duration_s": dg.MetadataValue.float(made.container_duration or 0.0),
        "bytes_read": dg.MetadataValue.int(made.bytes_read),
        "reused": dg.MetadataValue.bool(made.reused),
    }


def speakers(made: Speakers, store: Store) -> Metadata:
    """Return who speaks when as text, and for how long."""
    seconds = talk_times(made.turns)
    return {
        "turns": dg.MetadataValue.md(turns_of(made) or "no speech"),
        "speakers": dg.MetadataValue.int(len(seconds)),
        "json": dg.MetadataValue.path(store.artefact_url(media_keys.speakers(made.key))),
        "model": dg.MetadataValue.text(made.model),
        "with_speaker": dg.MetadataValue.float(round(made.coverage, 4)),
        "overlap_s": dg.MetadataValue.float(round(float(made.overlap_s), 3)),
        "duration_s": dg.MetadataValue.float(made.duration),
        "wall_s": dg.MetadataValue.float(made.wall_s),
        "reused": dg.MetadataValue.bool(made.reused),
    }


def slides(made: Slides, thumbnails: Sequence[bytes], store: Store) -> Metadata:
    """Return a contact sheet of some slides, and the texts of the first ones; `thumbnails` are WebP images."""
    entries: dict[str, dg.MetadataValue] = {}
    if sheet := contact_sheet(thumbnails, SHEET_BYTES):
        encoded = base64.b64encode(sheet).decode()
        entries["contact_sheet"] = dg.MetadataValue.md(f"![slides](data:image/webp;base64,{encoded})")
    lines = [
        f"`{format_clock(slide.start)}` {_plain(' '.join(slide.text.split())[:SLIDE_CHARACTERS])}"
        for slide in made.slides
    ]
    counts = made.counts
    return entries | {
        "texts": dg.MetadataValue.md(fitting(lines, "\n\n", most=EXCERPT_LINES) or "no slides"),
        "slides": dg.MetadataValue.int(len(made.slides)),
        "json": dg.MetadataValue.path(store.artefact_url(media_keys.slides(made.key))),
        "model": dg.MetadataValue.text(made.model or "none"),
        "problem": dg.MetadataValue.text(made.problem or "none"),
        "pictures": dg.MetadataValue.int(counts.pictures),
        "searched": dg.MetadataValue.int(counts.searched),
        "read": dg.MetadataValue.int(counts.read),
        "duration_s": dg.MetadataValue.float(made.duration or 0.0),
        "wall_s": dg.MetadataValue.float(made.wall_s),
        "reused": dg.MetadataValue.bool(made.reused),
    }


def turns_of(made: Speakers) -> str:
    """Return a line for each of the SPEAKER_ROWS who speak longest: blocks where they do, from start to end."""
    seconds = talk_times(made.turns)
    lines = []
    for label in list(seconds)[:SPEAKER_ROWS]:
        cells = ["·"] * TURN_CELLS
        for turn in made.turns:
            if turn.label == label and made.duration:
                first = int(turn.start / made.duration * TURN_CELLS)
                last = int(turn.end / made.duration * TURN_CELLS)
                cells[first : last + 1] = "█" * (min(last, TURN_CELLS - 1) - first + 1)
        lines.append(f"{display_name(label):<12}{''.join(cells)} {format_clock(seconds[label])}")
    return "\n".join(["```", *lines, "```"]) if lines else ""


def transcript(made: Transcript, store: Store, *, reused: bool) -> Metadata:
    """Return excerpt, timeline, language, coverage and speed for readers, then the bare figures for plots."""
    key, speech, timing = made.media.key, made.speech, made.timing
    covered = f"{speech.coverage:.1%} of the voice activity has words; the longest gap is {speech.largest_gap:.1f} s"
    speed = f"{timing.rtfx:.1f}× real time ({format_clock(timing.audio_s)} in {timing.wall_s:.1f} s)"
    spoken = made.languages or ({made.language: made.language_probability} if made.language else {})
    language = ", ".join(f"{name} ({share:.0%})" for name, share in spoken.items()) or "none"
    files = {
        name: dg.MetadataValue.path(store.artefact_url(media_keys.transcript(key, f".{name}"))) for name in FORMATS
    }
    return {
        **(
            {"coverage_picture": dg.MetadataValue.md(drawn)}
            if (drawn := coverage_plot.coverage(made, INLINE_LIMIT))
            else {}
        ),
        "excerpt": dg.MetadataValue.md(excerpt(made)),
        "timeline": dg.MetadataValue.md(timeline(made)),
        "language": dg.MetadataValue.text(language),
        "words": dg.MetadataValue.int(len(made.words)),
        "speech": dg.MetadataValue.text(covered if speech.vad_seconds else "no speech"),
        "speed": dg.MetadataValue.text(speed),
        "model": dg.MetadataValue.text(f"{made.model.name} @ {made.model.revision[:12]}, {made.model.compute_type}"),
        **files,
        "no_speech": dg.MetadataValue.bool(made.no_speech),
        "segments_with_estimated_times": dg.MetadataValue.int(sum(item.estimated_times for item in made.segments)),
        "segments_repaired": dg.MetadataValue.int(sum(item.repaired for item in made.segments)),
        "duration_s": dg.MetadataValue.float(made.duration),
        "wall_s": dg.MetadataValue.float(timing.wall_s),
        "real_time_factor": dg.MetadataValue.float(round(timing.rtfx, 2)),
        "speech_coverage": dg.MetadataValue.float(round(speech.coverage, 4)),
        "largest_gap_s": dg.MetadataValue.float(speech.largest_gap),
        "gaps": dg.MetadataValue.int(len(speech.gaps)),
        "hallucinated_s": dg.MetadataValue.float(
            float(round(sum(end - start for start, end in speech.hallucinations), 3))
        ),
        "segments_of_low_confidence": dg.MetadataValue.int(sum(bool(item.low_confidence) for item in made.segments)),
        "reused": dg.MetadataValue.bool(reused),
        **({"reused_from": dg.MetadataValue.text(made.reused_from)} if made.reused_from else {}),
    }


FORMATS = ("txt", "srt", "vtt", "json")


def embeddings(made: Embeddings, store: Store) -> Metadata:
    """Return the first passages as a table, and counts."""
    records = [
        dg.TableRecord({"start": format_clock(row["start_s"]), "end": format_clock(row["end_s"]), "text": row["text"]})
        for row in made.rows.head(TABLE_ROWS).iter_rows(named=True)
    ]
    entries: dict[str, dg.MetadataValue] = {
        "dagster/row_count": dg.MetadataValue.int(made.rows.height),
        "sentences": dg.MetadataValue.int(made.sentences),
    }
    if records:
        entries["passages"] = dg.MetadataValue.table(records)
    return entries | {
        "parquet": dg.MetadataValue.path(store.artefact_url(media_keys.passages(made.key))),
        "reused": dg.MetadataValue.bool(made.reused),
    }


def search_index(state: IndexState) -> Metadata:
    """Return the size and the state of the search table."""
    return {
        "recordings": dg.MetadataValue.int(state.recordings),
        "dagster/row_count": dg.MetadataValue.int(state.rows),
        "fragments": dg.MetadataValue.int(state.fragments),
        "version": dg.MetadataValue.int(state.version),
        "vector_index": dg.MetadataValue.bool(state.vector_index),
        "table": dg.MetadataValue.text(state.table or "none"),
        "building": dg.MetadataValue.text(state.building or "none"),
    }


def excerpt(made: Transcript) -> str:
    """Return the first lines with their times, as Markdown that the UI shows inline."""
    if made.no_speech:
        return "*No speech detected.*"
    if not made.segments:
        return "*Voice activity, but no words were recognised.*"
    lines = [f"`{format_clock(segment.start)}` {_plain(segment.text)}" for segment in made.segments]
    return fitting(lines, "\n\n", most=EXCERPT_LINES)


def timeline(made: Transcript) -> str:
    """Return a bar of equal time slots, as high as their share of words, and the longest pauses."""
    if not made.segments or not made.duration:
        return "no words"
    bar = "".join(LEVELS[_level(share)] for share in _shares(made))
    spoken = merge_regions((Region(word.start, word.end) for word in made.words), 0.0)
    edges = [0.0, *(edge for span in spoken for edge in (span.start, span.end)), made.duration]
    pauses = [(end - start, start, end) for start, end in zip(edges[::2], edges[1::2], strict=True)]
    longest = sorted(sorted((item for item in pauses if item[0] >= PAUSE_S), reverse=True)[:PAUSES], key=lambda x: x[1])
    without = ", ".join(f"{format_clock(start)}–{format_clock(end)} ({length:.0f} s)" for length, start, end in longest)
    return f"`0:00 {bar} {format_clock(made.duration)}`" + (f"\n\nlongest without words: {without}" if without else "")


def _shares(made: Transcript) -> list[float]:
    """Return the share of each slot that has words, in [0, 1]."""
    slot_s = made.duration / TIMELINE_SLOTS
    seconds_of = [0.0] * TIMELINE_SLOTS
    for word in made.words:
        first, last = (min(int(at / slot_s), TIMELINE_SLOTS - 1) for at in (word.start, word.end))
        for slot in range(first, last + 1):
            seconds_of[slot] += max(0.0, min(word.end, (slot + 1) * slot_s) - max(word.start, slot * slot_s))
    return [min(seconds / slot_s, 1.0) for seconds in seconds_of]


def _level(share: float) -> int:
    """Return the height of a slot; one with any word is never empty."""
    return math.ceil(share * (len(LEVELS) - 1))


def fitting(lines: Sequence[str], separator: str, most: int | None = None) -> str:
    """Return as many of the lines as the UI shows inline, with `…` in place of the rest."""
    visible = list(lines[:most])
    while visible and _length(separator.join([*visible, "…"])) >= INLINE_LIMIT:
        visible.pop()
    if lines and not visible:
        visible = [lines[0][: INLINE_LIMIT // 2]]
    return separator.join(visible if visible == list(lines) else [*visible, "…"])


def _length(text: str) -> int:
    """Return the length in UTF-16 code units, as browsers count."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def _plain(text: str) -> str:
    """Escape Markdown and HTML in transcript text."""
    return MARKDOWN.sub(r"\\\g<0>", text).replace("&", "&amp;").replace("<", "&lt;")


MARKDOWN = re.compile(r"[\\`*_\[\]~|#]")
