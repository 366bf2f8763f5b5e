"""Media in, searchable moments out: a Dagster asset graph over ffmpeg, Whisper, sentence embeddings and LanceDB."""
