"""Media in, searchable moments out: a Dagster asset graph over ffmpeg, Whisper, sentence embeddings and LanceDB."""

import os

# Nothing leaves the machine unless a setting says so, but these libraries report their use by default: ONNX Runtime as
# soon as it is imported, with an identifier that it stores.
for _variable in ("ORT_DISABLE_TELEMETRY", "HF_HUB_DISABLE_TELEMETRY"):
    os.environ.setdefault(_variable, "1")
