"""Which model a name means, and what is here of it."""

import re
from pathlib import Path

import pytest

from transcription_assets import models
from transcription_assets.errors import PermanentFailure
from transcription_assets.models import CATALOGUE, Model
from transcription_assets_tests.models.hub import COMMIT, CONTENT, REPOSITORY, WEIGHTS, Hub
from transcription_assets_tests.models.pulls import kept, run


def test_a_repository_outside_the_catalogue_stays_at_the_commit_of_its_first_pull(hub: Hub, folder: Path) -> None:
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


def test_a_missing_model_says_how_to_get_it(folder: Path) -> None:
    for name in ("base", REPOSITORY, f"{REPOSITORY}@{COMMIT}"):
        with pytest.raises(PermanentFailure, match="`transcription-assets models pull`"):
            models.locate(name, "speech", folder)
        assert models.verify(name, "speech", folder)


def test_a_model_of_the_other_kind_is_refused(folder: Path) -> None:
    with pytest.raises(PermanentFailure, match=r"all-MiniLM-L6-v2"):
        models.locate("base", "encoder", folder)


@pytest.mark.parametrize("name", ["bse", "", "/no/such/folder", "../up", "a/b/c", "a/b@", "owner/name; rm"])
def test_a_name_that_can_be_no_model_lists_those_that_can(name: str, folder: Path) -> None:
    with pytest.raises(PermanentFailure, match=r"take one of .*base.*owner/name"):
        models.locate(name, "speech", folder)


def test_a_catalogue_model_is_the_same_by_its_name_on_the_hub(hub: Hub, folder: Path, toy: Model) -> None:
    path = Path(run(folder, hub.url)["path"])
    for name in (toy.repository, f"{toy.repository}@{toy.revision}"):
        assert models.locate(name, "speech", folder) == models.Located(path, "toy", COMMIT)


def test_a_folder_of_ones_own_is_taken_as_it_is_and_changes_its_revision_with_its_weights(
    tmp_path: Path, folder: Path
) -> None:
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


def test_every_catalogue_model_is_pinned_to_the_byte() -> None:
    for name, model in CATALOGUE.items():
        assert (name, model.kind in {"speech", "encoder"}) == (model.name, True)
        assert re.fullmatch(r"[0-9a-f]{40}", model.revision), name
        assert all(re.fullmatch(r"[0-9a-f]{64}", digest) for digest in model.files.values()), name
        carried = {file for wheel in model.wheels for file in wheel.members.values()}
        assert carried in (set(), set(model.files)), name
        assert all(re.fullmatch(r"[\w-]+==[\d.]+", wheel.requirement) for wheel in model.wheels), name
