"""The store in an S3 bucket, below a prefix."""

import logging
import mimetypes
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

import obstore
import polars as pl
from obstore.exceptions import InvalidPathError
from obstore.store import ObjectStore, S3Store

from transcription_assets.domain import inbox_diff
from transcription_assets.domain.media_keys import bounded, encode
from transcription_assets.errors import PermanentFailure, StoreAway, TranscriptionError, TransientFailure
from transcription_assets.storage.backend import LONGEST_ADDITION, Listing, ObjectEntry, check_length, listing
from transcription_assets.storage.circuit_breaker import Availability
from transcription_assets.storage.errors import error_text, status, translate_errors

if TYPE_CHECKING:
    from obstore.store import S3Config

log = logging.getLogger(__name__)

URL_LIFETIME = timedelta(hours=1)
"""Validity of signed URLs: longer than any single call of ffmpeg should take, short in case a URL leaks."""

PROBE_S = 10.0
"""Timeout of a request that only checks whether the store answers."""

_NAME_MAX = 1024  # bytes; S3's limit for the whole name
_OBJECT = (pl.col("path").alias("name"), pl.col("e_tag").alias("etag"), "size", "last_modified")
_NOTHING = pl.DataFrame(
    schema={"name": pl.String(), **{name: inbox_diff.SCHEMA[name] for name in ("etag", "size", "last_modified")}}
)
_COPY_PART = 256 << 20  # S3 copies at most 5 GB in one part, which takes a minute
_COPIED_HEADERS = (
    "CacheControl",
    "ContentDisposition",
    "ContentEncoding",
    "ContentLanguage",
    "ContentType",
    "Metadata",
)
_PARTS_AT_ONCE = 4
_AWS_ENDPOINT = re.compile(r"https://s3\.([a-z0-9-]+\.)?amazonaws\.com/?")


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Timeouts of one request in seconds, and its limits for retries with back-off: attempts and seconds."""

    connect_s: float = 10.0
    silence_s: float = 60.0
    attempts: int = 6
    retries_s: float = 120.0


class Bucket:
    """A bucket, below a prefix; boto3 handles names that obstore cannot express (a newline, `//`).

    Raises:
        PermanentFailure: there is no such bucket, credentials are missing or invalid, or access is denied.
        TransientFailure: the bucket does not answer.

    """

    def __init__(self, bucket: str, prefix: str, session: Any | None, endpoint: str | None, timeouts: Timeouts) -> None:
        import boto3
        from botocore.config import Config

        self.url = f"s3://{bucket}/{prefix}".rstrip("/")
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        with translate_errors(self.url):
            self._session = session or boto3.Session()
        self._timeouts = timeouts
        config = Config(
            signature_version="s3v4",
            retries={"mode": "standard", "total_max_attempts": timeouts.attempts},
            connect_timeout=timeouts.connect_s,
            read_timeout=timeouts.silence_s,
        )
        probe_config = Config(
            signature_version="s3v4",
            retries={"total_max_attempts": 1},
            connect_timeout=min(timeouts.connect_s, PROBE_S),
            read_timeout=min(timeouts.silence_s, PROBE_S),
        )
        self._availability = Availability(self._answers)
        with self.translate_errors(self.url):
            self._client = self._session.client("s3", endpoint_url=endpoint, config=config)
            self._probe = self._session.client("s3", endpoint_url=endpoint, config=probe_config)
        self._region = self._check() or self._client.meta.region_name
        self.objects: ObjectStore = self._connect()

    @contextmanager
    def translate_errors(self, what: str) -> Iterator[None]:
        """Translate the errors of a request for `what`.

        Raises:
            TranscriptionError: the request failed; StoreAway at once while the bucket does not answer.

        """
        with self._availability.watched(what), translate_errors(what):
            yield

    def check(self, path: str) -> None:
        """Accept any path: a bucket has no links and no folders."""

    def entries(self, folder: str) -> list[ObjectEntry]:
        """List every object below `folder`.

        Raises:
            TranscriptionError: the bucket denies access or does not answer.

        """
        found = self._listed(folder)
        return self._paged(folder) if found is None else list(map(ObjectEntry._make, found.iter_rows()))

    def remove_empty(self, folder: str) -> None:
        """Do nothing: a bucket has no folders."""

    def recordings(self, folder: str) -> Listing:
        """List every recording below `folder`.

        Raises:
            TranscriptionError: the bucket denies access or does not answer.

        """
        found = self._listed(folder)
        if found is None:
            return listing(self._paged(folder))
        media = inbox_diff.recordings(found)
        return Listing(media, found.height - media.height)

    def entry(self, name: str) -> ObjectEntry:
        """Look up an object.

        Raises:
            NotFound: there is no such object.
            PermanentFailure: the names of its artefacts would be too long, or access is denied.
            TransientFailure: the bucket does not answer.

        """
        location = f"{self.url}/{encode(name)}"
        with self.translate_errors(location):
            head = self._client.head_object(Bucket=self._bucket, Key=self._prefix + name)
        check_length(f"{self._prefix}transcripts/{bounded(encode(name))}{LONGEST_ADDITION}", _NAME_MAX, location)
        return ObjectEntry(name, head["ETag"], head["ContentLength"], head["LastModified"])

    def read_range(self, name: str, start: int, length: int) -> bytes:
        """Return up to `length` (at least 1) bytes of an object from `start` on; empty if it ends before.

        Raises:
            NotFound: there is no such object.
            TranscriptionError: the bucket denies access or does not answer.

        """
        with self.translate_errors(f"{self.url}/{encode(name)}"):
            span = f"bytes={start}-{start + length - 1}"
            try:
                found = self._client.get_object(Bucket=self._bucket, Key=self._prefix + name, Range=span)
            except self._client.exceptions.ClientError as error:
                if status(error) == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                    return b""
                raise
            data: bytes = found["Body"].read(length)
        return data

    def move(self, source: str, target: str, etag: str, arrived: Callable[[ObjectEntry], None]) -> bool:
        """Copy the object inside the bucket, in parts if it is large, then delete it.

        Raises:
            NotFound: there is no such object.
            PermanentFailure: access is denied, or the object was replaced between the copy and the deletion.
            TransientFailure: the copy is incomplete, or the bucket does not answer.

        """
        if self.entry(source).etag != etag or not self._copied(source, target, etag):
            return False
        original, copied = self.entry(source), self.entry(target)
        if original.etag != etag:
            return False
        if copied.size != original.size:
            raise TransientFailure(
                f"{self.url}/{encode(target)}: incomplete copy ({copied.size} of {original.size} bytes); try again",
                hint="try again",
            )
        arrived(copied)
        with self.translate_errors(f"{self.url}/{encode(source)}"):
            self._client.delete_object(Bucket=self._bucket, Key=self._prefix + source, IfMatch=etag)
        return True

    def readable_url(self, name: str) -> str:
        """Return a URL signed for GET, valid for one hour or as long as the session's credentials.

        Raises:
            TranscriptionError: there are no valid credentials to sign with.

        """
        return self._signed(name)

    def playable_url(self, name: str) -> str:
        """Return a signed URL with a content type that makes browsers play the object instead of saving it.

        Raises:
            TranscriptionError: there are no valid credentials to sign with.

        """
        kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
        return self._signed(name, ResponseContentType=kind, ResponseContentDisposition="inline")

    def public_url(self, name: str) -> str:
        """Return the `s3://` URL."""
        return f"{self.url}/{name}"

    def put(self, name: str, source: Path, *, move: bool = False) -> None:  # noqa: ARG002 -- nothing can be renamed
        """Upload the file, in parts if it is large; the object appears when it is complete.

        Raises:
            TranscriptionError: `source` cannot be read, or the bucket denies access, is full or does not answer.

        """
        from boto3.s3.transfer import TransferConfig, create_transfer_manager

        kind = mimetypes.guess_type(name)[0]
        extra = {"ContentType": kind} if kind else None
        # By path: parts of a file object would be held in memory, many at once.
        transfers = create_transfer_manager(self._client, TransferConfig(max_concurrency=_PARTS_AT_ONCE))
        with self.translate_errors(f"{self.url}/{encode(name)}"), transfers:
            transfers.upload(str(source), self._bucket, self._prefix + name, extra).result()

    def lancedb_options(self) -> dict[str, str]:
        """Return LanceDB's `storage_options`: the session's current credentials, the region and the endpoint."""
        credentials = self._session.get_credentials().get_frozen_credentials()
        options = {
            "aws_access_key_id": credentials.access_key,
            "aws_secret_access_key": credentials.secret_key,
            "aws_region": self._region,
        }
        if credentials.token:
            options["aws_session_token"] = credentials.token
        if endpoint := self._endpoint():
            options |= {"aws_endpoint": endpoint, "aws_endpoint_url_s3": endpoint}
            options |= {"allow_http": str(endpoint.startswith("http://")).lower()}
        return options

    def _copied(self, source: str, target: str, etag: str) -> bool:
        """Copy an object with its headers and metadata; return False if its version is no longer `etag`."""
        from boto3.s3.transfer import TransferConfig

        original = {"Bucket": self._bucket, "Key": self._prefix + source}
        with self.translate_errors(f"{self.url}/{encode(source)}"):
            head = self._client.head_object(**original)
            headers = {name: head[name] for name in _COPIED_HEADERS if head.get(name)}
            try:
                self._client.copy(
                    original,
                    self._bucket,
                    self._prefix + target,
                    ExtraArgs={"CopySourceIfMatch": etag, "MetadataDirective": "REPLACE", **headers},
                    Config=TransferConfig(multipart_threshold=_COPY_PART, multipart_chunksize=_COPY_PART),
                )
            except self._client.exceptions.ClientError as error:
                if status(error) == HTTPStatus.PRECONDITION_FAILED:
                    return False
                raise
        return True

    def _answers(self) -> bool:
        """Return whether the bucket answers a single request, even with an error."""
        try:
            with translate_errors(self.url):
                self._probe.head_bucket(Bucket=self._bucket)
        except StoreAway:
            return False
        except TranscriptionError:
            return True
        return True

    def _signed(self, name: str, **answer: str) -> str:
        with self.translate_errors(f"{self.url}/{encode(name)}"):
            url: str = self._client.generate_presigned_url(
                "get_object",
                Params={"Bucket": self._bucket, "Key": self._prefix + name, **answer},
                ExpiresIn=int(URL_LIFETIME.total_seconds()),
            )
        return url

    def _connect(self) -> S3Store:
        from obstore.auth.boto3 import Boto3CredentialProvider

        endpoint = self._endpoint()
        config: S3Config = {"region": self._region}
        if endpoint:
            config["aws_endpoint_url_s3"] = endpoint  # AWS_ENDPOINT_URL_S3 would override a plain `endpoint`
        with self.translate_errors(self.url):
            return S3Store(
                self._bucket,
                prefix=self._prefix or None,
                config=config,
                credential_provider=Boto3CredentialProvider(self._session),
                client_options={
                    "allow_http": bool(endpoint and endpoint.startswith("http://")),
                    "connect_timeout": timedelta(seconds=self._timeouts.connect_s),
                    "read_timeout": timedelta(seconds=self._timeouts.silence_s),
                    "timeout": timedelta(minutes=10),
                },
                retry_config={
                    "max_retries": self._timeouts.attempts,
                    "retry_timeout": timedelta(seconds=self._timeouts.retries_s),
                },
            )

    def _endpoint(self) -> str | None:
        """Return the configured endpoint; None for AWS, whose endpoint follows from the region."""
        endpoint: str = self._client.meta.endpoint_url
        return None if _AWS_ENDPOINT.fullmatch(endpoint) else endpoint

    def _check(self) -> str | None:
        """Require that the bucket exists and can be accessed; return its region if the server states it."""
        with self.translate_errors(self.url):
            try:
                head = self._client.head_bucket(Bucket=self._bucket)
            except self._client.exceptions.ClientError as error:
                if status(error) == HTTPStatus.NOT_FOUND:
                    endpoint = self._client.meta.endpoint_url
                    raise PermanentFailure(
                        f"{self.url}: no such bucket at {endpoint}; create it first", hint="create it first"
                    ) from None
                raise
        region: str | None = head.get("BucketRegion")
        return region

    def _listed(self, folder: str) -> pl.DataFrame | None:
        """List every object below `folder` in the columns of `ObjectEntry`; None if obstore cannot express a name."""
        with self.translate_errors(f"{self.url}/{folder}"):
            try:
                stream = obstore.list(self.objects, folder, chunk_size=10_000, return_arrow=True)
                pages = [_NOTHING, *(pl.DataFrame(page).select(_OBJECT).cast(_NOTHING.schema) for page in stream)]
            except InvalidPathError as error:
                log.warning("%s/%s: listing with boto3 instead of obstore: %s", self.url, folder, error_text(error))
                return None
        return pl.concat(pages)

    def _paged(self, folder: str) -> list[ObjectEntry]:
        with self.translate_errors(f"{self.url}/{folder}"):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=f"{self._prefix}{folder.rstrip('/')}/"
            )
            return [
                ObjectEntry(item["Key"].removeprefix(self._prefix), item["ETag"], item["Size"], item["LastModified"])
                for page in pages
                for item in page.get("Contents", [])
                if not item["Key"].endswith("/")
            ]
