"""Model weights: download, cache and verification."""

from transcription_assets.models.catalogue import CATALOGUE, Model, Wheel
from transcription_assets.models.weights import (
    Located,
    ModelState,
    catalogue_state,
    default_folder,
    locate,
    pull,
    verify,
)

__all__ = [
    "CATALOGUE",
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
