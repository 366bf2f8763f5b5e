from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from transcription_assets_tests.web.browser import browsing


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One for a file: while it is open, nothing else of this process can have an event loop."""
    with browsing.started() as browser:
        yield browser
