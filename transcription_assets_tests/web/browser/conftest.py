from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from transcription_assets_tests.web.browser import browsing


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Yield a browser for one module: while it is open, this process can have no other event loop."""
    with browsing.started() as browser:
        yield browser
