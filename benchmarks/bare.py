"""Baseline of `pipeline.py`: a minimal script with the same engines.

python bare.py RECORDINGS OUTPUT SPEECH_MODEL ENCODER_MODEL: no retries, no subtitles, no index, only text and vectors.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from faster_whisper import BatchedInferencePipeline, WhisperModel  # noqa: TID253 -- a script, not the library
from sentence_transformers import SentenceTransformer  # noqa: TID253


def main(recordings: Path, output: Path, speech_model: str, encoder_model: str) -> None:
    speech = BatchedInferencePipeline(
        WhisperModel(speech_model, device="cpu", compute_type="int8", cpu_threads=os.cpu_count() or 1)
    )
    encoder = SentenceTransformer(encoder_model)
    output.mkdir()
    for recording in sorted(path for path in recordings.rglob("*") if path.is_file()):
        sound = output / f"{recording.name}.flac"
        subprocess.run(
            ["ffmpeg", "-nostdin", "-v", "error", "-i", recording, "-vn", "-ac", "1", "-ar", "16000", sound], check=True
        )
        segments, _ = speech.transcribe(str(sound), batch_size=8, beam_size=5, word_timestamps=True, vad_filter=True)
        passages = [segment.text.strip() for segment in segments]
        (output / f"{recording.name}.txt").write_text("\n".join(passages), encoding="utf-8")
        np.save(output / f"{recording.name}.npy", encoder.encode(passages, normalize_embeddings=True))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4])
