"""Settings: bounded, described once, and the same in the README."""

import re
from pathlib import Path
from typing import Any

import pytest
from annotated_types import Ge, Gt, Le, Lt

import transcription_assets
from transcription_assets import settings
from transcription_assets.failures import PermanentFailure
from transcription_assets.settings import PREFIX, Settings

PACKAGE = Path(transcription_assets.__file__).parent
README = PACKAGE.parent / "README.md"


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, _, _ in settings.table():
        monkeypatch.delenv(name, raising=False)


def beyond() -> list[tuple[str, str]]:
    """Every bound of every setting, with a value just outside."""
    outside: list[tuple[str, str]] = []
    for name, field in Settings.model_fields.items():
        for bound in field.metadata:
            match bound:
                case Ge(ge=limit):
                    outside.append((name, str(_number(limit) - 1)))
                case Gt(gt=limit):
                    outside.append((name, str(limit)))
                case Le(le=limit):
                    outside.append((name, str(_number(limit) + 1)))
                case Lt(lt=limit):
                    outside.append((name, str(limit)))
                case _:
                    pass
    return outside


def _number(limit: Any) -> int:
    return int(limit)


@pytest.mark.parametrize(("name", "value"), beyond())
def test_a_value_out_of_bounds_is_refused_with_the_name_that_people_set(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    variable = f"{PREFIX}{name.upper()}"
    monkeypatch.setenv(variable, value)
    with pytest.raises(PermanentFailure, match=re.escape(f"{variable}='{value}'")):
        settings.load()


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("TRANSCRIPTION_STORE", ""),
        ("TRANSCRIPTION_DEVICE", "tpu"),
        ("TRANSCRIPTION_COMPUTE_TYPE", "int4"),
        ("TRANSCRIPTION_LANGUAGE", "English"),
        ("TRANSCRIPTION_BEAM_SIZE", "five"),
        ("TRANSCRIPTION_REMOVE_GONE", "perhaps"),
        ("TRANSCRIPTION_EXECUTOR", "celery"),
        ("TRANSCRIPTION_SETTLE_S", "nan"),
    ],
)
def test_a_value_that_means_nothing_is_refused_with_its_name(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(PermanentFailure, match=variable):
        settings.load()


def test_all_wrong_settings_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRANSCRIPTION_BEAM_SIZE", "0")
    monkeypatch.setenv("TRANSCRIPTION_DEVICE", "tpu")
    with pytest.raises(PermanentFailure) as caught:
        settings.load()
    assert "TRANSCRIPTION_BEAM_SIZE" in str(caught.value)
    assert "TRANSCRIPTION_DEVICE" in str(caught.value)


def test_a_good_value_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRANSCRIPTION_STORE", "s3://bucket/prefix")
    monkeypatch.setenv("TRANSCRIPTION_REMOVE_GONE", "1")
    monkeypatch.setenv("TRANSCRIPTION_LANGUAGE", "de")
    chosen = settings.load()
    assert (chosen.store, chosen.remove_gone, chosen.language) == ("s3://bucket/prefix", True, "de")


def test_every_setting_is_described_and_every_number_is_bounded() -> None:
    for name, field in Settings.model_fields.items():
        assert len(field.description or "") > 15, name
        if field.annotation in (int, float):
            kinds = {type(bound) for bound in field.metadata}
            assert kinds & {Ge, Gt}, name
            assert kinds & {Le, Lt}, name


def test_the_readme_shows_exactly_these_settings() -> None:
    shown = README.read_text(encoding="utf-8").partition("<!-- settings -->")[2].partition("<!-- /settings -->")[0]
    rows = [line for line in shown.strip().splitlines() if line.startswith("| `")]
    assert rows == [
        f"| `{name}` | {f'`{default}`' if default else ''} | {description} |"
        for name, default, description in settings.table()
    ]


def test_nobody_else_reads_the_environment() -> None:
    reading = re.compile(r"\benviron\b|\bgetenv\b|BaseSettings")
    found = [path.name for path in PACKAGE.rglob("*.py") if reading.search(path.read_text(encoding="utf-8"))]
    # A pod's deadline is told to its step by whoever made the pod; it is nothing that a person sets.
    assert sorted(found) == ["batch.py", "settings.py"]


def test_the_encoder_calculates_where_its_own_setting_says_or_with_the_speech_model() -> None:
    assert Settings.model_validate({"device": "cuda"}).encodes_on == "cuda"
    assert Settings.model_validate({"device": "cuda", "encoder_device": "cpu"}).encodes_on == "cpu"
