"""Entry points on a real S3 server: the graph with dagster-aws's resource, the CLI with environment variables only."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.request import Request, urlopen

import dagster as dg
import pytest
from click.testing import CliRunner
from dagster_aws.s3 import S3Resource

from transcription_assets import definitions
from transcription_assets.cli import doctor, main, put
from transcription_assets.defs import assets, jobs
from transcription_assets.defs.inbox.queue import Queue
from transcription_assets.defs.jobs import recordings as partitions
from transcription_assets.defs.resources import DecoderResource, StoreResource
from transcription_assets.defs.s3_resource import BucketResource
from transcription_assets.errors import PermanentFailure
from transcription_assets.settings import Settings
from transcription_assets.storage import Store
from transcription_assets_tests import recordings, seaweed
from transcription_assets_tests.fake_resources import HashEncoding, ScriptedSpeech
from transcription_assets_tests.fakes import HashEncoder, ScriptedEngine

SECONDS = 6


@pytest.mark.parametrize(
    "open_it",
    [
        lambda: Store.open("s3://bucket/prefix"),
        lambda: BucketResource(url="s3://bucket/prefix", s3=S3Resource(profile_name="nobody")).open(),
        lambda: Queue("https://sqs.eu-west-1.amazonaws.com/1/queue"),
    ],
    ids=["store", "resource", "queue"],
)
def test_missing_aws_profile_is_a_permanent_failure(
    monkeypatch: pytest.MonkeyPatch, open_it: Callable[[], object]
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(PermanentFailure, match="nobody"):
        open_it()


@pytest.fixture
def environment(s3_server: seaweed.S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """Set the variables that a user exports; return the URL of the store."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", seaweed.OWNER.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", seaweed.OWNER.secret_key)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3_server.endpoint)
    url = f"s3://{s3_server.bucket}/doors/{tmp_path.name}"
    monkeypatch.setenv("TRANSCRIPTION_STORE", url)
    return url


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test(temp_dir=str(tmp_path)) as made:
        yield made


@pytest.mark.usefixtures("environment")
def test_graph_runs_on_a_bucket_and_logs_no_secret(
    environment: str, instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    store = Store.open(environment)
    key = store.put_media("video/a.mp4", recordings.video(tmp_path / "a.mp4", SECONDS))
    instance.add_dynamic_partitions(str(partitions.name), [key])
    graph = dg.Definitions(
        assets=assets.GRAPH,
        jobs=[jobs.process_recordings()],
        resources={
            "store": definitions.build(Settings()).resources["store"],  # type: ignore[index]
            "decoder": DecoderResource(ffmpeg=recordings.wheel_ffmpeg()),
            "speech": ScriptedSpeech(scripted=ScriptedEngine()),
            "encoder": HashEncoding(encoder=HashEncoder()),
        },
        executor=dg.in_process_executor,
    )
    result = graph.resolve_job_def("process_recordings").execute_in_process(instance=instance, partition_key=key)
    assert result.success
    (seen,) = result.asset_materializations_for_node("video")
    (heard,) = result.asset_materializations_for_node("audio")
    size = store.stat(key).size
    assert 0 < seen.metadata["bytes_read"].value < 2 * size
    assert 0.9 * size < heard.metadata["bytes_read"].value < 1.2 * size
    log = "".join(str(entry) for entry in instance.all_logs(result.run_id))
    assert key in log
    for secret in (seaweed.OWNER.secret_key, "X-Amz-", "Signature="):
        assert secret not in log


def kind_of_store(chosen: Settings) -> type:
    """Return the class of the `store` resource that the assets receive."""
    with dg.build_resources({"store": definitions.build(chosen).resources["store"]}) as made:  # type: ignore[index]
        return type(made.store)


def test_aws_libraries_are_loaded_only_for_a_bucket(environment: str, tmp_path: Path) -> None:
    assert kind_of_store(Settings()) is BucketResource
    loading = (
        "import sys, transcription_assets.definitions as d; print('boto3' in sys.modules, 'dagster_aws' in sys.modules)"
    )
    said = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", loading],
        env={**os.environ, "TRANSCRIPTION_STORE": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.split() == ["False", "False"]
    assert kind_of_store(Settings(store=str(tmp_path))) is StoreResource
    assert environment.startswith("s3://")


def test_resource_settings_override_the_environment(
    s3_server: seaweed.S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    import lancedb

    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
    given = S3Resource(
        endpoint_url=s3_server.endpoint,
        aws_access_key_id=seaweed.OWNER.access_key,
        aws_secret_access_key=seaweed.OWNER.secret_key,
        region_name="us-east-1",
    )
    opened = BucketResource(url=f"s3://{s3_server.bucket}/given", s3=given).open()
    opened.write("transcripts/a.json", b"{}")
    assert opened.read("transcripts/a.json") == b"{}"
    database = lancedb.connect(opened.lancedb_uri, storage_options=opened.lancedb_options)
    assert database.create_table("given", [{"id": "a"}], mode="overwrite").count_rows() == 1


# --- commands


@pytest.mark.parametrize("place", ["folder", "bucket"])
def test_put_copies_only_recordings(place: str, environment: str, tmp_path: Path) -> None:
    url = environment if place == "bucket" else str(tmp_path / "store")
    source = tmp_path / "from"
    for name in ("talks/a.mp4", "talks/b.MP3", "notes.txt", "._a.mp4"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(name.encode())
    said = CliRunner().invoke(
        main.main, ["put", "--into", "2026", str(source)], env={"TRANSCRIPTION_STORE": url}, catch_exceptions=False
    )
    assert said.exit_code == 0
    store = Store.open(url)
    assert store.list_media().frame["key"].to_list() == ["audio/2026/talks/b.MP3", "video/2026/talks/a.mp4"]
    before = store.stat("video/2026/talks/a.mp4").etag
    store.put_media("video/2026/talks/a.mp4", source / "talks" / "a.mp4")
    assert store.stat("video/2026/talks/a.mp4").etag == before  # copying the same file again creates no new version


def test_put_refuses_other_files_and_name_collisions(tmp_path: Path) -> None:
    for name in ("a/x.mp4", "b/x.mp4", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    said = CliRunner().invoke(main.main, ["put", str(tmp_path / "notes.txt")])
    assert said.exit_code == 1
    assert "notes.txt" in said.output
    with pytest.raises(PermanentFailure, match=r"video/x\.mp4"):
        put.select([tmp_path / "a", tmp_path / "b"], "")
    with pytest.raises(PermanentFailure, match=r"\.\./transcripts"):
        put.select([tmp_path / "a"], "../transcripts")


def test_put_skips_other_files_and_names_them(tmp_path: Path) -> None:
    for name in ("talk.mp4", "README.md"):
        (tmp_path / name).write_bytes(name.encode())
    said = CliRunner().invoke(
        main.main,
        ["put", *map(str, sorted(tmp_path.iterdir()))],
        env={"TRANSCRIPTION_STORE": str(tmp_path / "store")},
        catch_exceptions=False,
    )
    assert said.exit_code == 0
    assert "README.md" in said.output  # the skipped file is reported
    assert Store.open(str(tmp_path / "store")).list_media().frame["key"].to_list() == ["video/talk.mp4"]


def test_playable_url_serves_inline_video_for_an_hour(environment: str, tmp_path: Path) -> None:
    store = Store.open(environment)
    film = recordings.video(tmp_path / "a film.mp4", 1)
    link = store.playable_url(store.put_media("video/a film.mp4", film))
    assert "X-Amz-Expires=3600" in link
    with urlopen(Request(link, headers={"Range": "bytes=0-9"})) as answer:  # noqa: S310 - a URL that the store signed
        assert answer.status == 206
        assert answer.headers["Content-Type"] == "video/mp4"
        assert answer.headers["Content-Disposition"] == "inline"
        assert answer.read() == film.read_bytes()[:10]


def diagnosis() -> doctor.Diagnosis:
    return next(item for item in doctor.examine(Settings()) if item.name == "store")


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({}, "readable and writable"),
        ({"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9"}, "AWS_ENDPOINT_URL_S3"),
        ({"TRANSCRIPTION_STORE": "s3://nobody-made-this/x"}, "nobody-made-this"),
        ({"AWS_SECRET_ACCESS_KEY": "wrong"}, "credentials"),
        (
            {
                "AWS_ACCESS_KEY_ID": seaweed.READER.access_key,
                "AWS_SECRET_ACCESS_KEY": seaweed.READER.secret_key,
            },
            "catalog/doctor",
        ),
    ],
    ids=["healthy", "endpoint", "bucket", "credentials", "read-only"],
)
@pytest.mark.usefixtures("environment")
def test_doctor_explains_bucket_problems_in_one_line(
    variables: dict[str, str], named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    found = diagnosis()
    assert named in found.detail
    assert "\n" not in found.detail
    assert found.healthy == (not variables)
    assert "secret" not in json.dumps(found.detail)
