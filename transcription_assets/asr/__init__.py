"""ASR service: transcription by the OpenAI audio API, with one engine for all requests."""
