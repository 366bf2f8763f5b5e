"""The store: recordings and artefacts in one local folder or one `s3://bucket/prefix`, behind one interface."""

from transcription_assets.storage.store import Listing, MediaObject, Store, Timeouts

__all__ = ["Listing", "MediaObject", "Store", "Timeouts"]
