"""The store: recordings and artefacts in one local folder or one `s3://bucket/prefix`, behind one interface."""

from transcription_assets.storage.backend import Listing
from transcription_assets.storage.bucket import Timeouts
from transcription_assets.storage.store import MediaObject, Store

__all__ = ["Listing", "MediaObject", "Store", "Timeouts"]
