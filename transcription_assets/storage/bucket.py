"""A store in an S3 bucket, below a prefix."""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import obstore
import polars as pl
from obstore.exceptions import InvalidPathError
from obstore.store import ObjectStore, S3Store

from transcription_assets.failures import PermanentFailure, TransientFailure
from transcription_assets.keys import encode
from transcription_assets.storage.errors import by_status, explained, first_line, status
from transcription_assets.storage.place import LONGEST_ADDITION, Entry, check_length

if TYPE_CHECKING:
    from obstore.store import S3Config

log = logging.getLogger(__name__)

URL_LIFETIME = timedelta(hours=1)
_NAME_MAX = 1024  # bytes, S3's limit for the whole name
_AWS_ENDPOINT = re.compile(r"https://s3\.([a-z0-9-]+\.)?amazonaws\.com/?")


class Bucket:
    """A bucket, below a prefix. Names that obstore cannot express (a newline, `//`) go through boto3."""

    def __init__(self, bucket: str, prefix: str, session: Any | None) -> None:
        import boto3
        from botocore.config import Config

        self.url = f"s3://{bucket}/{prefix}".rstrip("/")
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._session = session or boto3.Session()
        retries = {"mode": "standard", "max_attempts": 6}
        with self._answered(self.url):
            self._client = self._session.client("s3", config=Config(signature_version="s3v4", retries=retries))
        self._region = self._check() or self._client.meta.region_name
        self.objects: ObjectStore = self._connect()

    def entries(self, folder: str) -> list[Entry]:
        """Every object below `folder`."""
        with self._answered(f"{self.url}/{folder}"):
            try:
                return self._listed(folder)
            except InvalidPathError as error:
                log.warning("%s/%s: listed by boto3, %s", self.url, folder, first_line(error))
                return self._paged(folder)

    def entry(self, name: str) -> Entry:
        """The object as it is now; its name has to leave room for its artefacts' names."""
        shown = f"{self.url}/{encode(name)}"
        with self._answered(shown):
            head = self._client.head_object(Bucket=self._bucket, Key=self._prefix + name)
        check_length(f"{self._prefix}transcripts/{encode(name)}{LONGEST_ADDITION}", _NAME_MAX, shown)
        return Entry(name, head["ETag"], head["ContentLength"], head["LastModified"])

    def readable_url(self, name: str) -> str:
        """A signed GET, good for one hour or for as long as the session's credentials."""
        with self._answered(f"{self.url}/{encode(name)}"):
            url: str = self._client.generate_presigned_url(
                "get_object",
                Params={"Bucket": self._bucket, "Key": self._prefix + name},
                ExpiresIn=int(URL_LIFETIME.total_seconds()),
            )
        return url

    def public_url(self, name: str) -> str:
        """The `s3://` URL."""
        return f"{self.url}/{name}"

    def lancedb_options(self) -> dict[str, str]:
        """The session's credentials as they are now, the region and the endpoint."""
        credentials = self._session.get_credentials().get_frozen_credentials()
        options = {
            "aws_access_key_id": credentials.access_key,
            "aws_secret_access_key": credentials.secret_key,
            "aws_region": self._region,
        }
        if credentials.token:
            options["aws_session_token"] = credentials.token
        if endpoint := self._endpoint():
            options |= {"aws_endpoint": endpoint, "allow_http": str(endpoint.startswith("http://")).lower()}
        return options

    def _connect(self) -> S3Store:
        from obstore.auth.boto3 import Boto3CredentialProvider

        endpoint = self._endpoint()
        config: S3Config = {"region": self._region}
        if endpoint:
            config["endpoint"] = endpoint
        with self._answered(self.url):
            return S3Store(
                self._bucket,
                prefix=self._prefix or None,
                config=config,
                credential_provider=Boto3CredentialProvider(self._session),
                client_options={
                    "allow_http": bool(endpoint and endpoint.startswith("http://")),
                    "connect_timeout": timedelta(seconds=10),
                    "read_timeout": timedelta(seconds=60),
                    "timeout": timedelta(minutes=10),
                },
                retry_config={"max_retries": 8, "retry_timeout": timedelta(minutes=2)},
            )

    def _endpoint(self) -> str | None:
        """The endpoint that the session was given; None for AWS, where it follows from the region."""
        endpoint: str = self._client.meta.endpoint_url
        return None if _AWS_ENDPOINT.fullmatch(endpoint) else endpoint

    def _check(self) -> str | None:
        """Fail where the bucket is missing or closed to us; its region where the server tells it."""
        with self._answered(self.url):
            try:
                head = self._client.head_bucket(Bucket=self._bucket)
            except self._client.exceptions.ClientError as error:
                if status(error) == HTTPStatus.NOT_FOUND:
                    raise PermanentFailure(f"{self.url}: there is no such bucket; make it first") from error
                raise
        region: str | None = head.get("BucketRegion")
        return region

    def _listed(self, folder: str) -> list[Entry]:
        found: list[Entry] = []
        for batch in obstore.list(self.objects, folder, chunk_size=10_000, return_arrow=True):
            frame = pl.DataFrame(batch).select("path", "e_tag", pl.col("size").cast(pl.Int64), "last_modified")
            found.extend(map(Entry._make, frame.iter_rows()))
        return found

    def _paged(self, folder: str) -> list[Entry]:
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=f"{self._prefix}{folder.rstrip('/')}/"
        )
        return [
            Entry(item["Key"].removeprefix(self._prefix), item["ETag"], item["Size"], item["LastModified"])
            for page in pages
            for item in page.get("Contents", [])
            if not item["Key"].endswith("/")
        ]

    @contextmanager
    def _answered(self, what: str) -> Iterator[None]:
        """`explained` for boto3's errors too."""
        from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

        with explained(what):
            try:
                yield
            except NoCredentialsError as error:
                raise PermanentFailure(f"{what}: no AWS credentials; give a key, a profile or a role") from error
            except ClientError as error:
                raise by_status(status(error), str(error), what) from error
            except BotoCoreError as error:
                raise TransientFailure(f"{what}: {error}") from error
