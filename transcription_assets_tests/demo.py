"""The demo recordings: real speech with known text."""

from pathlib import Path

import transcription_assets

ROOT = Path(transcription_assets.__file__).parents[1]
"""Root of the checkout."""
FOLDER = ROOT / "demo/recordings"
TOLD = ROOT / "demo/recordings.json"
"""Sentences and their times, by path of the recording in the folder."""
BEES = FOLDER / "talks/bees-on-the-library-roof.mp4"
BREAD = FOLDER / "talks/italiano/il-pane-della-notte.mp4"
WIZARD = FOLDER / "stories/the-wizard-of-the-opera-house.mp4"
