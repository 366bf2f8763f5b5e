"""Choice of the file that plays in sync with the transcript: the recording or its extracted audio."""

import logging

from transcription_assets.domain import media_keys
from transcription_assets.errors import TranscriptionError
from transcription_assets.media import Probe
from transcription_assets.pipeline import audio, video
from transcription_assets.pipeline.audio import Audio
from transcription_assets.storage import Store

log = logging.getLogger(__name__)

LARGEST_START_S = 0.1
"""Maximum start time of a container in sync with the transcript; it allows for the delay of encoders, which is less."""
DECODED = frozenset({"aac", "flac", "mp3", "opus", "vorbis"})
"""Audio codecs that browsers decode. They play a video with any other codec without sound."""

FEW_CHANNELS = frozenset({"mono", "1 channels", *audio.STEREO})
"""Channel layouts of PCM that browsers play completely: of more channels they leave out some, perhaps with a voice."""


def plays_itself(probe: Probe, sound: Audio) -> bool:
    """Return whether browsers play the recording itself in sync with its transcript."""
    is_wave = probe.format == "wav" and probe.audio_codec.startswith("pcm_") and probe.channels in FEW_CHANNELS
    is_decoded = probe.audio_codec in DECODED or is_wave
    return is_decoded and sound.original_is_exact and sound.container_start < LARGEST_START_S


def link(store: Store, key: str) -> str:
    """Return a URL that plays in sync with the transcript, for use with `#t=` (seconds).

    It is a `file://` URL, or a signed URL that is valid for one hour. If the records of the recording cannot be read,
    it is that of the recording itself, which may be out of sync.

    Raises:
        TranscriptionError: the recording cannot be looked up, or the URL cannot be signed.

    """
    try:
        if _plays_extracted(store, key):
            return store.playable_artefact_url(media_keys.flac(key))
    except TranscriptionError as error:
        log.info("%s", error)
    return store.playable_url(key)


def _plays_extracted(store: Store, key: str) -> bool:
    """Return whether the extracted audio exists and has to be played instead of the recording."""
    probed, sound = video.load(store, key), audio.load(store, key)
    is_known = probed is not None and sound is not None and probed.etag == sound.etag
    return bool(
        probed and sound and is_known and not plays_itself(probed.probe, sound) and store.exists(media_keys.flac(key))
    )
