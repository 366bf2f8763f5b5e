from collections.abc import Iterator

import pytest

from transcription_assets.speech import windowing
from transcription_assets_tests.speech.spelling import loud


@pytest.fixture(scope="module")
def scripted_voices() -> Iterator[None]:
    """Replace the voice detector in a test module: all samples that are not zero are speech."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(windowing, "voiced_regions", loud)
        yield
