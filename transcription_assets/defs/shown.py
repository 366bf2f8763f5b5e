"""What a person sees in the UI of each materialisation: pure functions from a step's record to metadata."""

import base64
from collections.abc import Mapping

import dagster as dg

from transcription_assets import keys
from transcription_assets.index import IndexState
from transcription_assets.steps.audio import Audio
from transcription_assets.steps.embeddings import Embeddings
from transcription_assets.steps.video import Video
from transcription_assets.storage import Store
from transcription_assets.transcript import Segment, Transcript, clock

EXCERPT_LINES = 12
TABLE_ROWS = 50

Metadata = Mapping[str, dg.MetadataValue]

PASSAGE_COLUMNS = dg.TableSchema(
    columns=[
        dg.TableColumn("id", "string", description="media key # index"),
        dg.TableColumn("media_key", "string", description="the recording, also its partition"),
        dg.TableColumn("start_s", "float", description="seconds from the start of the medium"),
        dg.TableColumn("end_s", "float", description="seconds from the start of the medium"),
        dg.TableColumn("text", "string", description="whole sentences, about 30 s of speech"),
        dg.TableColumn("language", "string", description="ISO 639-1 code"),
        dg.TableColumn("vector", "float32[]", description="unit length"),
        dg.TableColumn("embedding_model", "string", description="name and revision of the encoder"),
        dg.TableColumn("media_etag", "string", description="which version of the recording"),
        dg.TableColumn("sentences", "struct[]", description="start_s, end_s, text of each sentence"),
        dg.TableColumn("sentence_vectors", "float16[][]", description="one vector for each sentence"),
    ]
)


def video(made: Video, thumbnail: bytes, store: Store) -> Metadata:
    """Poster, length, what kind of file it is."""
    probe = made.probe
    picture = f"{probe.video_codec} {probe.width}×{probe.height}" if probe.video_codec else "none"
    shown: dict[str, dg.MetadataValue] = {
        "duration": dg.MetadataValue.text(clock(probe.duration) if probe.duration else "not stated"),
        "duration_s": dg.MetadataValue.float(probe.duration or 0.0),
        "picture": dg.MetadataValue.text(picture),
        "sound": dg.MetadataValue.text(f"{probe.audio_codec}, {probe.sample_rate} Hz, {probe.channels}"),
        "size_mb": dg.MetadataValue.float(round(made.size / 1e6, 3)),
        "bytes_read": dg.MetadataValue.int(made.bytes_read),
        "etag": dg.MetadataValue.text(made.etag),
        "recording": dg.MetadataValue.url(store.public_url(made.key)),
        "reused": dg.MetadataValue.bool(made.reused),
    }
    if thumbnail:
        encoded = base64.b64encode(thumbnail).decode()
        shown = {"poster": dg.MetadataValue.md(f"![poster](data:image/jpeg;base64,{encoded})")} | shown
    if probe.title:
        shown["title"] = dg.MetadataValue.text(probe.title)
    return shown


def audio(made: Audio, store: Store) -> Metadata:
    """How much was decoded, and what the decoder complained about."""
    return {
        "duration": dg.MetadataValue.text(clock(made.duration)),
        "duration_s": dg.MetadataValue.float(made.duration),
        "container_duration_s": dg.MetadataValue.float(made.container_duration or 0.0),
        "warnings": dg.MetadataValue.md("\n".join(f"- {line}" for line in made.warnings) or "none"),
        "bytes_read": dg.MetadataValue.int(made.bytes_read),
        "flac": dg.MetadataValue.url(store.artefact_url(keys.flac(made.key))),
        "reused": dg.MetadataValue.bool(made.reused),
    }


def transcript(made: Transcript, store: Store, *, reused: bool) -> Metadata:
    """Language, speed, coverage, and the first lines to read."""
    key = made.media.key
    files = {name: dg.MetadataValue.url(store.artefact_url(keys.transcript(key, f".{name}"))) for name in FORMATS}
    return {
        "excerpt": dg.MetadataValue.md(excerpt(made)),
        "language": dg.MetadataValue.text(f"{made.language or 'none'} ({made.language_probability:.0%})"),
        "no_speech": dg.MetadataValue.bool(made.no_speech),
        "duration": dg.MetadataValue.text(clock(made.duration)),
        "words": dg.MetadataValue.int(len(made.words)),
        "real_time_factor": dg.MetadataValue.float(round(made.timing.rtfx, 2)),
        "wall_s": dg.MetadataValue.float(made.timing.wall_s),
        "speech_coverage": dg.MetadataValue.float(round(made.speech.coverage, 4)),
        "largest_gap_s": dg.MetadataValue.float(made.speech.largest_gap),
        "segments_repaired": dg.MetadataValue.int(sum(item.repaired for item in made.segments)),
        "model": dg.MetadataValue.text(f"{made.model.name} @ {made.model.revision[:12]}, {made.model.compute_type}"),
        **files,
        "reused": dg.MetadataValue.bool(reused),
        **({"reused_from": dg.MetadataValue.text(made.reused_from)} if made.reused_from else {}),
    }


FORMATS = ("json", "txt", "srt", "vtt")


def embeddings(made: Embeddings, store: Store) -> Metadata:
    """The passages as a table."""
    records = [
        dg.TableRecord({"start": clock(row["start_s"]), "end": clock(row["end_s"]), "text": row["text"]})
        for row in made.rows.head(TABLE_ROWS).iter_rows(named=True)
    ]
    shown: dict[str, dg.MetadataValue] = {
        "dagster/row_count": dg.MetadataValue.int(made.rows.height),
        "sentences": dg.MetadataValue.int(made.sentences),
        "parquet": dg.MetadataValue.url(store.artefact_url(keys.passages(made.key))),
        "reused": dg.MetadataValue.bool(made.reused),
    }
    if records:
        shown["passages"] = dg.MetadataValue.table(records)
    return shown


def search_index(state: IndexState) -> Metadata:
    """How large the table is and whether it is in good order."""
    return {
        "dagster/row_count": dg.MetadataValue.int(state.rows),
        "recordings": dg.MetadataValue.int(state.recordings),
        "fragments": dg.MetadataValue.int(state.fragments),
        "version": dg.MetadataValue.int(state.version),
        "vector_index": dg.MetadataValue.bool(state.vector_index),
    }


def excerpt(made: Transcript) -> str:
    """The first lines with their times, as Markdown."""
    if made.no_speech:
        return "*Nobody speaks in this recording.*"
    lines = [_line(segment) for segment in made.segments[:EXCERPT_LINES]]
    if len(made.segments) > EXCERPT_LINES:
        lines.append("…")
    return "\n\n".join(lines)


def _line(segment: Segment) -> str:
    text = segment.text.replace("\\", "\\\\").replace("*", "\\*").replace("_", "\\_").replace("<", "&lt;")
    return f"`{clock(segment.start)}` {text}"
