"""Break one recording of a batch, and read the reported failures."""

from pathlib import Path

import dagster as dg

from transcription_assets.defs.resources import DecoderResource
from transcription_assets.errors import PermanentFailure
from transcription_assets_tests.graph_runs import Graph
from transcription_assets_tests.recordings import wheel_ffmpeg

BAD = 3


def decoder(tmp_path: Path, script: str) -> DecoderResource:
    """Return a decoder whose ffmpeg is a shell script that runs `script` first; `$*` is the command line."""
    program = tmp_path / "ffmpeg"
    program.write_text(f'#!/bin/sh\n{script}\nexec {wheel_ffmpeg()} "$@"\n')
    program.chmod(0o755)
    return DecoderResource(ffmpeg=str(program))


def reasons(failure: dg.Failure) -> dict[str, tuple[str, str]]:
    """Map each recording to (reason, kind), from the table that the UI shows."""
    table = failure.metadata["failed recordings"]
    assert isinstance(table, dg.TableMetadataValue)
    rows = [record.data for record in table.records]
    return {str(row["recording"]): (str(row["reason"]), str(row["kind"])) for row in rows}


def break_at_video(graph: Graph, _tmp_path: Path) -> None:
    (graph.root / f"audio/{BAD:02}.wav").write_bytes(b"this is no sound" * 1000)


def break_at_audio(graph: Graph, tmp_path: Path) -> None:
    graph.decoder = decoder(
        tmp_path,
        f'case "$*" in *{BAD:02}.wav*framecrc*) echo "[fatal] the decoder is on fire" >&2; exit 1;; esac',
    )


def break_at_transcript(graph: Graph, _tmp_path: Path) -> None:
    graph.engine.failures[BAD] = [PermanentFailure("nobody understands this")]
