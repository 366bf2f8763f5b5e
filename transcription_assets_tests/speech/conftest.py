from collections.abc import Iterator

import pytest

from transcription_assets.speech import windowing
from transcription_assets_tests.speech.spelling import loud


@pytest.fixture(scope="module")
def scripted_voices() -> Iterator[None]:
    """FAKE detector for the tests of a module: somebody speaks where it is not silent."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(windowing, "voiced_regions", loud)
        yield
