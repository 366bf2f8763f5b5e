"""The library of the search tests, for calibration."""

from transcription_assets_tests.search.conftest import library

__all__ = ["library"]
