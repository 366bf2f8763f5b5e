"""The store: one local folder or one `s3://bucket/prefix` that holds everything, behind one interface.

Artefacts go through obstore, which writes both kinds atomically. Recordings carry names that people
chose, and obstore cannot express all of them, so the folder or the bucket itself lists and looks them up.
"""

import errno
import logging
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self
from urllib.parse import urlsplit
from urllib.request import url2pathname

import obstore
import polars as pl
from obstore.exceptions import BaseError, InvalidPathError, PermissionDeniedError, UnauthenticatedError
from obstore.store import LocalStore, ObjectStore, S3Store

from transcription_assets.catalog import SCHEMA
from transcription_assets.failures import NotFound, PermanentFailure, TranscriptionError, TransientFailure
from transcription_assets.keys import INBOXES, decode, encode, is_media

if TYPE_CHECKING:
    from obstore.store import S3Config

log = logging.getLogger(__name__)

URL_LIFETIME = timedelta(hours=1)
_BLOCK = 8 << 20
_LONGEST_ADDITION = ".parquet#1"  # the longest artefact suffix, while it is being written
_OBJECT_NAME_MAX = 1024  # bytes, S3's limit for the whole name
_BEING_WRITTEN = re.compile(r"#\d+$")  # obstore's temporary names in a folder

_AWS_ENDPOINT = re.compile(r"https://s3\.([a-z0-9-]+\.)?amazonaws\.com/?")

_REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS}
_FULL = {errno.ENOSPC, errno.EDQUOT}
_ILLEGAL = {errno.EEXIST, errno.EISDIR, errno.ELOOP, errno.ENOTDIR}
_HOPEFUL_STATUS = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.CONFLICT, HTTPStatus.TOO_MANY_REQUESTS}
_HOPEFUL_CODES = ("RequestTimeout", "ExpiredToken", "SlowDown")


@dataclass(frozen=True, slots=True)
class MediaObject:
    """One recording as the store has it now; `size` in bytes, `last_modified` in UTC."""

    key: str
    etag: str
    size: int
    last_modified: datetime


@dataclass(frozen=True, slots=True)
class Listing:
    """Every recording in the inboxes.

    `frame` has the columns of `catalog.SCHEMA`, one row a recording, by key; `ignored` counts the rest.
    """

    frame: pl.DataFrame
    ignored: int


class Store:
    """A folder or a bucket. Paths are relative to its root; media keys are those of `keys.encode`."""

    def __init__(self, place: "_Place") -> None:
        self._place = place
        self.url = place.url

    @classmethod
    def open(cls, url: str, *, s3_session: Any | None = None) -> Self:
        """Open the store at a local path, a `file://` or an `s3://bucket/prefix` URL.

        A local folder and its inboxes are made where they are missing; a bucket has to exist. `s3_session` is
        a `boto3.Session`, by default the environment's: credentials, region and endpoint are taken from it.
        """
        scheme, separator, rest = url.partition("://")
        if not separator:
            return cls(_Folder(Path(url)))
        if scheme == "file":
            return cls(_Folder(Path(url2pathname(urlsplit(url).path))))
        bucket, _, prefix = rest.partition("/")
        if scheme == "s3" and bucket:
            return cls(_Bucket(bucket, prefix.strip("/"), s3_session))
        raise PermanentFailure(f"{url}: not a store; give a folder, file:///folder or s3://bucket/prefix")

    @property
    def is_local(self) -> bool:
        """Whether it is a folder on this machine."""
        return isinstance(self._place, _Folder)

    def list_media(self) -> Listing:
        """All recordings below the inboxes.

        One odd entry is logged and left out; TransientFailure where an inbox or a folder in it cannot be
        read, since what could not be read is not empty.
        """
        try:
            entries = [entry for inbox in INBOXES for entry in self._place.entries(inbox)]
        except NotFound as error:
            raise TransientFailure(f"{error}; is the store mounted?") from error
        rows = [(encode(entry.name), *entry[1:]) for entry in entries if is_media(entry.name)]
        return Listing(pl.DataFrame(rows, SCHEMA, orient="row").sort("key"), len(entries) - len(rows))

    def stat(self, key: str) -> MediaObject:
        """The recording as it is now; NotFound where it is gone."""
        found = self._place.entry(decode(key))
        return MediaObject(encode(found.name), found.etag, found.size, found.last_modified)

    def media_url(self, key: str) -> str:
        """What ffmpeg reads the recording from: `file:/path`, or an https URL that is good for one hour."""
        return self._place.readable_url(decode(key))

    def public_url(self, key: str) -> str:
        """Where the recording is, for people: a `file://` or `s3://` URL."""
        return self._place.public_url(decode(key))

    def artefact_url(self, path: str) -> str:
        """Where an artefact is, for people: a `file://` or `s3://` URL."""
        return self._place.public_url(path)

    def readable_url(self, path: str) -> str:
        """What ffmpeg reads an artefact from, as `media_url` is for a recording."""
        return self._place.readable_url(path)

    def exists(self, path: str) -> bool:
        """Whether the artefact is there."""
        try:
            with _explained(f"{self.url}/{path}"):
                obstore.head(self._place.objects, path)
        except NotFound:
            return False
        return True

    def read(self, path: str) -> bytes:
        """The whole artefact; NotFound where there is none."""
        with _explained(f"{self.url}/{path}"):
            return bytes(obstore.get(self._place.objects, path).bytes())

    def fetch(self, path: str, target: Path) -> None:
        """Copy the artefact to a local file, block by block; NotFound where there is none."""
        with _explained(f"{self.url}/{path}"):
            blocks = obstore.get(self._place.objects, path).stream(min_chunk_size=_BLOCK)
            with target.open("wb") as file:
                file.writelines(blocks)

    def write(self, path: str, data: bytes) -> None:
        """Write an artefact; readers see the old one or the new one, never a part."""
        with _explained(f"{self.url}/{path}"):
            obstore.put(self._place.objects, path, data)

    def upload(self, path: str, source: Path) -> None:
        """Write an artefact from a local file, block by block; as atomic as `write`."""
        with _explained(f"{self.url}/{path}"):
            obstore.put(self._place.objects, path, source)

    def delete(self, *paths: str) -> None:
        """Delete artefacts; those that are not there are fine."""
        for path in paths:
            try:
                with _explained(f"{self.url}/{path}"):
                    obstore.delete(self._place.objects, path)
            except NotFound:
                continue

    def list(self, prefix: str) -> list[str]:
        """The paths of all artefacts below a folder such as `transcripts/`, sorted; none if missing."""
        try:
            names = [entry.name for entry in self._place.entries(prefix)]
        except NotFound:
            return []
        return sorted(name for name in names if not (self.is_local and _BEING_WRITTEN.search(name)))

    @property
    def lancedb_uri(self) -> str:
        """Where LanceDB keeps its tables."""
        return f"{self.url}/lancedb"

    @property
    def lancedb_options(self) -> dict[str, str]:
        """LanceDB's `storage_options`, with the credentials of this moment: ask anew for each connection."""
        return self._place.lancedb_options()


class _Entry(NamedTuple):
    """A file or object by its name below the root."""

    name: str
    etag: str
    size: int
    last_modified: datetime


class _Place(Protocol):
    """What a folder and a bucket do differently."""

    url: str
    objects: ObjectStore

    def entries(self, folder: str) -> list[_Entry]: ...
    def entry(self, name: str) -> _Entry: ...
    def readable_url(self, name: str) -> str: ...
    def public_url(self, name: str) -> str: ...
    def lancedb_options(self) -> dict[str, str]: ...


class _Folder:
    """A local folder. Names are bytes to the system; they come as `os.fsdecode` gives them."""

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()
        self.url = str(self._root)
        with _explained(self.url):
            for inbox in INBOXES:
                (self._root / inbox).mkdir(parents=True, exist_ok=True)
            self.objects: ObjectStore = LocalStore(self._root)

    def entries(self, folder: str) -> list[_Entry]:
        """Every file below `folder`, by way of links too."""
        top = self._root / folder
        with _explained(str(top)):
            top.stat()
        return list(self._walk(str(top), frozenset()))

    def entry(self, name: str) -> _Entry:
        shown = f"{self.url}/{encode(name)}"
        with _explained(shown):
            found = _local_entry(name, Path(self._path(name)).stat())
            limit = os.pathconf(self._root, "PC_NAME_MAX")
        if found is None:
            raise NotFound(f"{shown}: not a file")
        _check_length(encode(name).rpartition("/")[2] + _LONGEST_ADDITION, limit, shown)
        return found

    def readable_url(self, name: str) -> str:
        return f"file:{self._path(name)}"

    def public_url(self, name: str) -> str:
        return Path(self._path(name)).as_uri()

    def lancedb_options(self) -> dict[str, str]:
        return {}

    def _path(self, name: str) -> str:
        if {"", ".", ".."} & set(name.split("/")):
            raise NotFound(f"{self.url}/{encode(name)}: not the name of a file")
        return f"{self.url}/{name}"

    def _name(self, path: str) -> str:
        return path.removeprefix(f"{self.url}/")

    def _walk(self, directory: str, above: frozenset[tuple[int, int]]) -> Iterator[_Entry]:
        try:
            here = Path(directory).stat()
            with os.scandir(directory) as scan:
                found = list(scan)
        except OSError as error:
            raise self._unreadable(directory, error) from error
        identity = (here.st_dev, here.st_ino)
        if identity in above:
            log.warning("%r: a link to a folder above it, not followed", directory)
            return
        for item in found:
            try:
                entry = None if item.is_dir() else _local_entry(self._name(item.path), item.stat())
            except OSError as error:
                self._leave_out(item, error)
                continue
            if entry is not None:
                yield entry
            elif item.is_dir():
                yield from self._walk(item.path, above | {identity})

    def _leave_out(self, item: os.DirEntry[str], error: OSError) -> None:
        """Go on without a file that vanished or a link that leads nowhere; anything else hides more than one."""
        if error.errno != errno.ENOENT and not item.is_symlink():
            raise self._unreadable(item.path, error) from error
        log.warning("%r: left out, %s", item.path, error.strerror)

    def _unreadable(self, path: str, error: OSError) -> TransientFailure:
        shown = f"{self.url}/{encode(self._name(path))}"
        return TransientFailure(f"{shown}: cannot be read ({error.strerror}); mend its mount or permissions")


def _local_entry(name: str, about: os.stat_result) -> _Entry | None:
    """The entry of a regular file. Its ctime says when it last changed: unlike its mtime, none can set it."""
    if not stat.S_ISREG(about.st_mode):
        return None
    etag = f'"{about.st_mtime_ns:x}-{about.st_size:x}"'
    return _Entry(name, etag, about.st_size, datetime.fromtimestamp(about.st_ctime, UTC))


class _Bucket:
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

    def entries(self, folder: str) -> list[_Entry]:
        """Every object below `folder`."""
        with self._answered(f"{self.url}/{folder}"):
            try:
                return self._listed(folder)
            except InvalidPathError as error:
                log.warning("%s/%s: listed by boto3, %s", self.url, folder, _first_line(error))
                return self._paged(folder)

    def entry(self, name: str) -> _Entry:
        shown = f"{self.url}/{encode(name)}"
        with self._answered(shown):
            head = self._client.head_object(Bucket=self._bucket, Key=self._prefix + name)
        _check_length(f"{self._prefix}transcripts/{encode(name)}{_LONGEST_ADDITION}", _OBJECT_NAME_MAX, shown)
        return _Entry(name, head["ETag"], head["ContentLength"], head["LastModified"])

    def readable_url(self, name: str) -> str:
        with self._answered(f"{self.url}/{encode(name)}"):
            url: str = self._client.generate_presigned_url(
                "get_object",
                Params={"Bucket": self._bucket, "Key": self._prefix + name},
                ExpiresIn=int(URL_LIFETIME.total_seconds()),
            )
        return url

    def public_url(self, name: str) -> str:
        return f"{self.url}/{name}"

    def lancedb_options(self) -> dict[str, str]:
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
                if _status(error) == HTTPStatus.NOT_FOUND:
                    raise PermanentFailure(f"{self.url}: there is no such bucket; make it first") from error
                raise
        region: str | None = head.get("BucketRegion")
        return region

    def _listed(self, folder: str) -> list[_Entry]:
        found: list[_Entry] = []
        for batch in obstore.list(self.objects, folder, chunk_size=10_000, return_arrow=True):
            frame = pl.DataFrame(batch).select("path", "e_tag", pl.col("size").cast(pl.Int64), "last_modified")
            found.extend(map(_Entry._make, frame.iter_rows()))
        return found

    def _paged(self, folder: str) -> list[_Entry]:
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=self._prefix + folder
        )
        return [
            _Entry(item["Key"].removeprefix(self._prefix), item["ETag"], item["Size"], item["LastModified"])
            for page in pages
            for item in page.get("Contents", [])
            if not item["Key"].endswith("/")
        ]

    @contextmanager
    def _answered(self, what: str) -> Iterator[None]:
        """`_explained` for boto3's errors too."""
        from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

        with _explained(what):
            try:
                yield
            except NoCredentialsError as error:
                raise PermanentFailure(f"{what}: no AWS credentials; give a key, a profile or a role") from error
            except ClientError as error:
                raise _by_status(_status(error), str(error), what) from error
            except BotoCoreError as error:
                raise TransientFailure(f"{what}: {error}") from error


@contextmanager
def _explained(what: str) -> Iterator[None]:
    """Turn what obstore and the system raise into the failures of this library, naming what it was about."""
    try:
        yield
    except (OSError, ValueError, BaseError) as error:
        raise _failure(error, what) from error


def _failure(error: Exception, what: str) -> TranscriptionError:
    said = _first_line(error)
    number = _errno(error)
    status = re.search(r"status code: (\d{3})", str(error))
    if "NoSuchBucket" in str(error):
        return PermanentFailure(f"{what}: there is no such bucket; make it first")
    if isinstance(error, FileNotFoundError):
        return NotFound(f"{what}: not found")
    if isinstance(error, PermissionDeniedError | UnauthenticatedError) or "AccessDenied" in said:
        return _by_status(HTTPStatus.FORBIDDEN, said, what)
    if number is not None:
        return _by_errno(number, said, what)
    if status is not None:
        return _by_status(int(status[1]), str(error).partition("\n\nDebug source")[0], what)
    hopeless = isinstance(error, ValueError | InvalidPathError)
    return (PermanentFailure if hopeless else TransientFailure)(f"{what}: {said}")


def _by_errno(number: int, said: str, what: str) -> TranscriptionError:
    """The failure that a system error stands for."""
    if number in _REFUSED:
        return PermanentFailure(f"{what}: access refused; correct the permissions ({said})")
    if number == errno.ENAMETOOLONG:
        return PermanentFailure(f"{what}: the file system cannot hold so long a name; shorten the name")
    if number in _FULL:
        return TransientFailure(f"{what}: no space left; make room ({said})")
    return (PermanentFailure if number in _ILLEGAL else TransientFailure)(f"{what}: {said}")


def _by_status(status: int, said: str, what: str) -> TranscriptionError:
    """The failure that an HTTP status stands for."""
    if status == HTTPStatus.NOT_FOUND:
        return NotFound(f"{what}: not found")
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        return PermanentFailure(f"{what}: access refused; grant it, or correct the credentials ({said})")
    hopeful = status in _HOPEFUL_STATUS or any(code in said for code in _HOPEFUL_CODES)
    hopeful = hopeful or status >= HTTPStatus.INTERNAL_SERVER_ERROR
    return (TransientFailure if hopeful else PermanentFailure)(f"{what}: {said}")


def _check_length(name: str, limit: int, shown: str) -> None:
    """PermanentFailure where a name made from a recording's would be longer than the store allows."""
    if (excess := len(name.encode()) - limit) > 0:
        raise PermanentFailure(
            f"{shown}: too long for the files that are made from it; shorten the name by {excess} bytes"
        )


def _status(error: Any) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _errno(error: Exception) -> int | None:
    """The system's error number; obstore gives it in the text only."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    number = re.search(r"\(os error (\d+)\)", str(error))
    return int(number[1]) if number else None


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
