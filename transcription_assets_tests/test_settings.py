"""Settings: bounded, described once, and the same in the reference."""

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from annotated_types import Ge, Gt, Le, Lt

import transcription_assets
from transcription_assets import settings
from transcription_assets.errors import PermanentFailure
from transcription_assets.settings import PREFIX, Settings, WrongSettings

PACKAGE = Path(transcription_assets.__file__).parent
REFERENCE = PACKAGE.parent / "docs/reference/settings.md"


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


def slips(name: str) -> set[str]:
    """The name with one character left out, or typed twice."""
    places = range(len(name))
    return {name[:at] + name[at + 1 :] for at in places} | {name[: at + 1] + name[at:] for at in places}


def test_a_slip_in_a_name_is_told_with_the_setting_that_was_meant() -> None:
    names = [name.upper() for name in Settings.model_fields]
    slipped = Counter(slip for name in names for slip in slips(name))  # K8S_PU_NODE_SELECTOR is one of two
    for name in names:
        wrong = {f"{PREFIX}{slip}": "1" for slip in slips(name) if slipped[slip] == 1}
        assert settings.unknown(wrong) == dict.fromkeys(wrong, f"{PREFIX}{name}")


def test_a_misspelt_setting_is_refused_without_its_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRANSCRIPTION_WISPER_MODEL", "tiny.en")
    monkeypatch.setenv("transcription_embeding_key", "secret")
    monkeypatch.setenv("TRANSCRIPTION_ZZZ", "1")
    monkeypatch.setenv("TRANSCRIPTION_BEAM_SIZE", "0")
    with pytest.raises(WrongSettings) as caught:
        settings.load()
    assert caught.value.nearest == {
        "TRANSCRIPTION_WISPER_MODEL": "TRANSCRIPTION_WHISPER_MODEL",
        "transcription_embeding_key": "TRANSCRIPTION_EMBEDDING_KEY",
        "TRANSCRIPTION_ZZZ": "",
    }
    assert caught.value.reasons.keys() == {*caught.value.nearest, "TRANSCRIPTION_BEAM_SIZE"}
    assert all(name in str(caught.value) for name in caught.value.reasons)
    assert "secret" not in str(caught.value)
    monkeypatch.delenv("TRANSCRIPTION_BEAM_SIZE")
    with pytest.raises(WrongSettings) as caught:
        settings.load()
    assert len(caught.value.reasons) == 3


def service_links(variable: str) -> dict[str, str]:
    """What the kubelet sets in every pod for a Service with one named port."""
    address = "tcp://10.0.0.1:8000"
    return {
        f"{variable}_SERVICE_HOST": "10.0.0.1",
        f"{variable}_SERVICE_PORT": "8000",
        f"{variable}_SERVICE_PORT_HTTP": "8000",
        f"{variable}_PORT": address,
        f"{variable}_PORT_8000_TCP": address,
        f"{variable}_PORT_8000_TCP_PROTO": "tcp",
        f"{variable}_PORT_8000_TCP_PORT": "8000",
        f"{variable}_PORT_8000_TCP_ADDR": "10.0.0.1",
    }


def test_an_earlier_name_of_a_setting_is_answered_with_the_new_one() -> None:
    assert settings.unknown({"TRANSCRIPTION_SEARCH_DOUBTFUL": "true"}) == {
        "TRANSCRIPTION_SEARCH_DOUBTFUL": "TRANSCRIPTION_SEARCH_LOW_CONFIDENCE"
    }


@pytest.mark.parametrize(
    "variable", ["TRANSCRIPTION_ASSETS", "TRANSCRIPTION_SERVE", "TRANSCRIPTION_WEB_SERVICE", "TRANSCRIPTION"]
)
def test_variables_of_a_kubernetes_service_are_no_settings(variable: str) -> None:
    links = service_links(variable)
    assert settings.unknown(links | {"TRANSCRIPTION_STORE": "store", "PATH": "/bin"}) == {}
    del links[f"{variable}_SERVICE_HOST"]
    assert settings.unknown(links).keys() == links.keys(), "there is no such Service"
    others = service_links("SEARCH") | {f"{variable}_PORTS": "1", f"{variable}_SERVICE_HOSTS": "1"}
    assert len(settings.unknown(others)) == 2


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


def test_the_reference_shows_exactly_these_settings() -> None:
    shown = REFERENCE.read_text(encoding="utf-8").partition("<!-- settings -->")[2].partition("<!-- /settings -->")[0]
    rows = [line for line in shown.strip().splitlines() if line.startswith("| `")]
    assert rows == [
        f"| `{name}` | {f'`{default}`' if default else ''} | {description} |"
        for name, default, description in settings.table()
    ]


def test_nobody_else_reads_the_environment() -> None:
    reading = re.compile(r"\benviron\b|\bgetenv\b|BaseSettings")
    found = [path.name for path in PACKAGE.rglob("*.py") if reading.search(path.read_text(encoding="utf-8"))]
    # A pod's deadline is told to its step by whoever made the pod; it is nothing that a person sets.
    # ffmpeg is given a part of this process's environment, which holds no setting.
    assert sorted(found) == ["batch.py", "ffmpeg_process.py", "settings.py"]


def test_the_encoder_calculates_where_its_own_setting_says_or_with_the_speech_model() -> None:
    assert Settings.model_validate({"device": "cuda"}).encodes_on == "cuda"
    assert Settings.model_validate({"device": "cuda", "encoder_device": "cpu"}).encodes_on == "cpu"
