"""The demo's recordings: real speech, of which it is known what is said."""

from pathlib import Path

import transcription_assets

ROOT = Path(transcription_assets.__file__).parents[1]
"""Of the checkout."""
FOLDER = ROOT / "demo/recordings"
TOLD = ROOT / "demo/recordings.json"
"""Sentences and their times, by the recording's path in the folder."""
BEES = FOLDER / "talks/bees-on-the-library-roof.mp4"
BREAD = FOLDER / "talks/italiano/il-pane-della-notte.mp4"
WIZARD = FOLDER / "stories/the-wizard-of-the-opera-house.mp4"
