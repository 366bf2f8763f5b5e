"""The copy of a recording that plays at the seconds of its transcript: itself, or its extracted sound."""

import logging

from transcription_assets import keys
from transcription_assets.failures import TranscriptionError
from transcription_assets.media import Probe
from transcription_assets.steps import audio, video
from transcription_assets.steps.audio import Audio
from transcription_assets.storage import Store

log = logging.getLogger(__name__)

LARGEST_START_S = 0.1
"""Encoders delay the first sample by less; a clock that starts later shows other seconds than the transcript."""
DECODED = frozenset({"aac", "flac", "mp3", "opus", "vorbis"})
"""Audio codecs that browsers decode. They play a film with any other codec without its sound."""

FEW_CHANNELS = frozenset({"mono", "1 channels", *audio.STEREO})
"""What more channels of PCM stand for is a guess: browsers leave out some of them, and with them a voice."""


def plays_itself(probe: Probe, sound: Audio) -> bool:
    """Return whether browsers play the recording itself at the second that its transcript says."""
    is_wave = probe.format == "wav" and probe.audio_codec.startswith("pcm_") and probe.channels in FEW_CHANNELS
    is_decoded = probe.audio_codec in DECODED or is_wave
    return is_decoded and sound.original_is_exact and sound.container_start < LARGEST_START_S


def link(store: Store, key: str) -> str:
    """Return the URL that a person opens to hear the recording at a second of its transcript (`#t=`).

    It is a `file://` URL, or one that is signed and good for one hour. Where the records of the recording cannot be
    read, it is the recording itself, which may start at another second.

    Raises:
        TranscriptionError: The store cannot make a link.

    """
    try:
        if _is_heard_extracted(store, key):
            return store.playable_artefact_url(keys.flac(key))
    except TranscriptionError as error:
        log.info("%s", error)
    return store.playable_url(key)


def _is_heard_extracted(store: Store, key: str) -> bool:
    """Return whether the extracted sound is there and has to stand in for the recording."""
    seen, sound = video.load(store, key), audio.load(store, key)
    is_known = seen is not None and sound is not None and seen.etag == sound.etag
    return bool(seen and sound and is_known and not plays_itself(seen.probe, sound) and store.exists(keys.flac(key)))
