"""Signatures: as the specification computes them, and as the guide tells receivers to verify them."""

import re
from typing import Any

import pytest

from transcription_assets.events.catalogue import parse_secrets
from transcription_assets.events.webhooks import signature_headers
from transcription_assets_tests.demo import ROOT
from transcription_assets_tests.events.receiver import TOLERANCE_S, is_valid

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
AT = 1614265330
BODY = b'{"test": 2432232314}'
IDENTIFIER = "msg_p5jXN8AQM9LWM0D4loKWxJek"


def signed() -> dict[str, str]:
    return signature_headers(IDENTIFIER, AT, BODY, parse_secrets(f"hook={SECRET}")["hook"])


def test_the_example_of_the_specification_has_its_signature() -> None:
    assert signed()["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize(
    ("change", "valid"),
    [
        ({}, True),
        ({"webhook-id": "other"}, False),
        ({"webhook-timestamp": str(AT + 1)}, False),
        ({"webhook-timestamp": "x"}, False),
        ({"webhook-signature": "v1,AAAA"}, False),
        ({"webhook-signature": ""}, False),
    ],
    ids=["unchanged", "id", "time", "no time", "signature", "no signature"],
)
def test_what_was_changed_is_not_valid(change: dict[str, str], *, valid: bool) -> None:
    (secret,) = parse_secrets(f"hook={SECRET}")["hook"]
    assert is_valid(signed() | change, BODY, secret, AT + 10.0) == valid
    assert not is_valid(signed() | change, BODY + b" ", secret, AT)


def test_an_old_webhook_is_a_replay() -> None:
    (secret,) = parse_secrets(f"hook={SECRET}")["hook"]
    assert not is_valid(signed(), BODY, secret, AT + TOLERANCE_S + 1)


def test_the_code_of_the_guide_verifies_a_webhook(monkeypatch: pytest.MonkeyPatch) -> None:
    guide = (ROOT / "docs/how-to/events.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```", guide, re.MULTILINE | re.DOTALL)
    assert len(code.splitlines()) <= 12
    names: dict[str, Any] = {}
    exec(code, names)  # noqa: S102 -- the guide's own code
    monkeypatch.setattr("time.time", lambda: AT + 10.0)
    assert names["is_genuine"](signed(), BODY, SECRET)
    assert not names["is_genuine"](signed(), BODY + b" ", SECRET)
    monkeypatch.setattr("time.time", lambda: AT + 1000.0)
    assert not names["is_genuine"](signed(), BODY, SECRET)
