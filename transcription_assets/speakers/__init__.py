"""Speakers: diarisation and voiceprints."""
