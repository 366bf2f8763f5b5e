"""Resolution of model names to local files."""

import re
from pathlib import Path

import pytest

from transcription_assets import models
from transcription_assets.errors import PermanentFailure
from transcription_assets.models import CATALOGUE, Model
from transcription_assets.models.weights import PULL
from transcription_assets_tests.models.hub import COMMIT, CONTENT, REPOSITORY, WEIGHTS, Hub
from transcription_assets_tests.models.pulls import kept, run


def test_another_repository_stays_at_its_first_pulled_commit(hub: Hub, folder: Path) -> None:
    hub.files |= {"README.md": b"no", "evil.py": b"no", "onnx/model.bin": b"no"}
    answer = run(folder, hub.url, model=None, name=REPOSITORY)
    assert answer["revision"] == COMMIT
    assert kept(Path(answer["path"])) == sorted([*CONTENT, "SHA256SUMS"])
    hub.commit = "c" * 40
    assert run(folder, hub.url, model=None, name=REPOSITORY)["revision"] == COMMIT
    assert models.locate(REPOSITORY, "speech", folder).revision == COMMIT
    other = run(folder, hub.url, model=None, name=f"{REPOSITORY}@v2/final")
    assert other["revision"] == hub.commit
    assert models.locate(f"{REPOSITORY}@v2/final", "speech", folder).path == Path(other["path"])
    assert models.verify(REPOSITORY, "speech", folder) == []


def test_a_missing_model_error_names_the_pull_command(folder: Path) -> None:
    for name in ("base", REPOSITORY, f"{REPOSITORY}@{COMMIT}"):
        with pytest.raises(PermanentFailure) as caught:
            models.locate(name, "speech", folder)
        assert PULL in caught.value.hint
        assert models.verify(name, "speech", folder)


def test_a_model_of_the_other_kind_is_refused(folder: Path) -> None:
    with pytest.raises(PermanentFailure, match=r"all-MiniLM-L6-v2"):
        models.locate("base", "encoder", folder)


@pytest.mark.parametrize("name", ["bse", "", "/no/such/folder", "../up", "a/b/c", "a/b@", "owner/name; rm"])
def test_an_invalid_name_error_lists_valid_names(name: str, folder: Path) -> None:
    with pytest.raises(PermanentFailure) as caught:
        models.locate(name, "speech", folder)
    assert "base" in caught.value.hint


def test_a_hub_name_means_the_same_catalogue_model(hub: Hub, folder: Path, toy: Model) -> None:
    path = Path(run(folder, hub.url)["path"])
    for name in (toy.repository, f"{toy.repository}@{toy.revision}"):
        assert models.locate(name, "speech", folder) == models.Located(path, "toy", COMMIT)


def test_the_revision_of_a_local_folder_depends_on_its_weights(tmp_path: Path, folder: Path) -> None:
    own = tmp_path / "mine"
    own.mkdir()
    for file, data in CONTENT.items():
        (own / file).write_bytes(data)
    located = models.pull(str(own), "speech", folder)
    assert located == models.locate(str(own), "speech", folder)
    assert (located.path, located.name) == (own, "mine")
    assert models.verify(str(own), "speech", folder) == []
    (own / "model.bin").write_bytes(WEIGHTS[::-1])
    assert models.locate(str(own), "speech", folder).revision != located.revision
    (own / "model.bin").unlink()
    with pytest.raises(PermanentFailure, match=r"model\.bin"):
        models.locate(str(own), "speech", folder)


def test_every_catalogue_model_has_pinned_digests() -> None:
    for name, model in CATALOGUE.items():
        assert (name, model.kind in {"speech", "encoder", "voice", "ocr"}) == (model.name, True)
        assert re.fullmatch(r"[0-9a-f]{40}", model.revision), name
        assert all(re.fullmatch(r"[0-9a-f]{64}", digest) for digest in model.files.values()), name
        carried = {file for wheel in model.wheels for file in wheel.members.values()}
        assert carried in (set(), set(model.files)), name
        assert all(re.fullmatch(r"[\w-]+==[\d.]+", wheel.requirement) for wheel in model.wheels), name
