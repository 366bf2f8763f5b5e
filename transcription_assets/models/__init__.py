"""Model weights: download, cache and verification."""

from transcription_assets.models.weights import (
    CATALOGUE,
    ENCODER,
    PULL,
    SPEECH,
    SUMS,
    Located,
    Model,
    ModelState,
    Wheel,
    catalogue_state,
    default_folder,
    locate,
    pull,
    verify,
)

__all__ = [
    "CATALOGUE",
    "ENCODER",
    "PULL",
    "SPEECH",
    "SUMS",
    "Located",
    "Model",
    "ModelState",
    "Wheel",
    "catalogue_state",
    "default_folder",
    "locate",
    "pull",
    "verify",
]
