"""Settings: bounds, descriptions, and agreement with the reference."""

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from annotated_types import Ge, Gt, Le, Lt
from pydantic import ValidationError

import transcription_assets
from transcription_assets import settings
from transcription_assets.settings import PREFIX, InvalidSettings, Settings

PACKAGE = Path(transcription_assets.__file__).parent
REFERENCE = PACKAGE.parent / "docs/reference/settings.md"


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, _, _ in settings.table():
        monkeypatch.delenv(name, raising=False)


def beyond() -> list[tuple[str, str]]:
    """Return the name of every bounded setting with a value just outside each bound."""
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
def test_value_out_of_bounds_is_refused_with_its_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    variable = f"{PREFIX}{name.upper()}"
    monkeypatch.setenv(variable, value)
    with pytest.raises(InvalidSettings) as caught:
        settings.load()
    assert caught.value.reasons.keys() == {variable}
    assert f"={value!r}" in caught.value.reasons[variable]


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
def test_invalid_value_is_refused_with_its_variable(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(InvalidSettings) as caught:
        settings.load()
    assert caught.value.reasons.keys() == {variable}


def test_all_invalid_settings_are_reported_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRANSCRIPTION_BEAM_SIZE", "0")
    monkeypatch.setenv("TRANSCRIPTION_DEVICE", "tpu")
    with pytest.raises(InvalidSettings) as caught:
        settings.load()
    assert caught.value.reasons.keys() == {"TRANSCRIPTION_BEAM_SIZE", "TRANSCRIPTION_DEVICE"}


def slips(name: str) -> set[str]:
    """Return the names with one character of `name` missing or doubled."""
    places = range(len(name))
    return {name[:at] + name[at + 1 :] for at in places} | {name[: at + 1] + name[at:] for at in places}


def test_misspelt_setting_suggests_the_nearest_name() -> None:
    names = [name.upper() for name in Settings.model_fields]
    slipped = Counter(slip for name in names for slip in slips(name))  # K8S_PU_NODE_SELECTOR is a slip of two names
    for name in names:
        wrong = {f"{PREFIX}{slip}": "1" for slip in slips(name) if slipped[slip] == 1}
        assert settings.unknown(wrong) == dict.fromkeys(wrong, f"{PREFIX}{name}")


def test_misspelt_setting_is_refused_without_showing_its_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRANSCRIPTION_WISPER_MODEL", "tiny.en")
    monkeypatch.setenv("transcription_embeding_key", "secret")
    monkeypatch.setenv("TRANSCRIPTION_ZZZ", "1")
    monkeypatch.setenv("TRANSCRIPTION_BEAM_SIZE", "0")
    with pytest.raises(InvalidSettings) as caught:
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
    with pytest.raises(InvalidSettings) as caught:
        settings.load()
    assert len(caught.value.reasons) == 3


def service_links(variable: str) -> dict[str, str]:
    """Return the variables that the kubelet sets in every pod for a Service with one named port."""
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
def test_kubernetes_service_variables_are_not_settings(variable: str) -> None:
    links = service_links(variable)
    assert settings.unknown(links | {"TRANSCRIPTION_STORE": "store", "PATH": "/bin"}) == {}
    del links[f"{variable}_SERVICE_HOST"]
    assert settings.unknown(links).keys() == links.keys(), "not a complete set of Service variables"
    others = service_links("SEARCH") | {f"{variable}_PORTS": "1", f"{variable}_SERVICE_HOSTS": "1"}
    assert len(settings.unknown(others)) == 2


def test_valid_values_are_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRANSCRIPTION_STORE", "s3://bucket/prefix")
    monkeypatch.setenv("TRANSCRIPTION_REMOVE_GONE", "1")
    monkeypatch.setenv("TRANSCRIPTION_LANGUAGE", "de")
    chosen = settings.load()
    assert (chosen.store, chosen.remove_gone, chosen.language) == ("s3://bucket/prefix", True, "de")


def test_every_setting_is_described_and_every_number_bounded() -> None:
    for name, field in Settings.model_fields.items():
        assert len(field.description or "") > 15, name
        if field.annotation in (int, float):
            kinds = {type(bound) for bound in field.metadata}
            assert kinds & {Ge, Gt}, name
            assert kinds & {Le, Lt}, name


def test_reference_lists_exactly_the_settings() -> None:
    shown = REFERENCE.read_text(encoding="utf-8").partition("<!-- settings -->")[2].partition("<!-- /settings -->")[0]
    rows = [line for line in shown.strip().splitlines() if line.startswith("| `")]
    assert rows == [
        f"| `{name}` | {f'`{default}`' if default else ''} | {description} |"
        for name, default, description in settings.table()
    ]


def test_only_settings_and_four_exceptions_read_the_environment() -> None:
    reading = re.compile(r"\benviron\b|\bgetenv\b|BaseSettings")
    found = [path.name for path in PACKAGE.rglob("*.py") if reading.search(path.read_text(encoding="utf-8"))]
    # The executor passes a pod's deadline to its step by a variable; it is not a setting.
    # ffmpeg gets a part of this process's environment that contains no settings.
    # Worker processes get the whole of it, with their share of the cores and GPUs.
    # The package turns off the usage reports of libraries before they are imported.
    assert sorted(found) == ["__init__.py", "batch.py", "ffmpeg_process.py", "settings.py", "subprocesses.py"]


def test_encoder_device_defaults_to_the_speech_device() -> None:
    assert Settings.model_validate({"device": "cuda"}).encodes_on == "cuda"
    assert Settings.model_validate({"device": "cuda", "encoder_device": "cpu"}).encodes_on == "cpu"


@pytest.mark.parametrize("name", ["serve_hosts", "dagster_hosts"])
def test_an_invalid_host_name_is_refused(name: str) -> None:
    assert getattr(Settings(**{name: "a.example.com, b.example.com:8000"}), name)
    with pytest.raises(ValidationError):
        Settings(**{name: "a.example.com b.example.com"})


@pytest.mark.parametrize("name", ["SPEECH_URL", "EMBEDDING_URL", "ASK_URL"])
@pytest.mark.parametrize("place", ["me:secret@host/v1", "secret@host", "host\\@secret", "", "/v1"])
def test_a_url_of_a_service_has_no_password(name: str, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"TRANSCRIPTION_{name}", f"https://{place}")
    with pytest.raises(settings.InvalidSettings) as failure:
        settings.load()
    assert "secret@" not in str(failure.value)
    monkeypatch.setenv(f"TRANSCRIPTION_{name}", "https://host:80/v1/@me")
    settings.load()
