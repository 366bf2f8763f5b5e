"""Tests of transcription_assets, one module each."""
