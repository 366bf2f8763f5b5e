"""FAKE resources of the graph, which provide the engine and the encoder that a test created."""

import dagster as dg

from transcription_assets.defs.resources import EncoderResource, SpeechResource
from transcription_assets.pipeline.decoding import InProcessTranscriber, Transcriber
from transcription_assets.workers.coordinator import Announce
from transcription_assets_tests.fakes import HashEncoder, ScriptedEngine


class ScriptedSpeech(SpeechResource):
    """FAKE: provides the engine that the test created."""

    whisper_model: str = "scripted"
    models_dir: str = ""
    scripted: dg.ResourceDependency[ScriptedEngine]

    def transcriber(self, ffmpeg: str, owner: str, _announce: Announce) -> Transcriber:
        """Return a transcriber with the same engine each time, so that a test can inspect its calls."""
        return InProcessTranscriber(self.scripted, ffmpeg, owner)


class HashEncoding(EncoderResource):
    """FAKE: provides the encoder that the test created."""

    name: str = "hash"
    models_dir: str = ""
    encoder: dg.ResourceDependency[HashEncoder]

    def open(self) -> HashEncoder:
        """Return the same encoder each time."""
        return self.encoder
