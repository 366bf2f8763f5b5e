"""Another bucket, prefix or folder as a source: its recordings are copied, never changed."""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Self

from transcription_assets.domain.media_keys import AUDIO_SUFFIXES, INBOXES, encode, is_media
from transcription_assets.errors import Refused, TooLarge, TransientFailure
from transcription_assets.sources.catalogue import StoreSource
from transcription_assets.sources.download import Downloaded
from transcription_assets.sources.feeds import Item
from transcription_assets.storage import Store

_BLOCK = 8 << 20


@dataclass(frozen=True, slots=True)
class OtherStore:
    """A store of this program, or any other bucket, prefix or folder, opened for reading."""

    store: Store

    @classmethod
    def open(cls, source: StoreSource, link_roots: tuple[Path, ...], own_url: str) -> Self:
        """Open the store of a source; `own_url` is that of the store into which is copied.

        Raises:
            Refused: one of the two contains the other, it is a folder outside of all link roots, or access is denied.
            TranscriptionError: there is no such store, or it does not answer.

        """
        if not source.url.startswith("s3://"):
            folder = Path(source.url).resolve()
            if not any(folder.is_relative_to(root.resolve()) for root in link_roots):
                hint = "add it to TRANSCRIPTION_LINK_ROOTS"
                raise Refused(f"{source.url}: the folder is not in a link root; {hint}", hint=hint)
        other = Store.open(source.url, read_only=True)
        one, own = (f"{_place(url)}/" for url in (other.url, own_url))
        if one.startswith(own) or own.startswith(one):
            raise Refused(f"{source.url}: this store, or a part of it or around it; its copies would be copied again")
        return cls(other)

    def items(self) -> tuple[Item, ...]:
        """Return the recordings by name; another version of a file is another item.

        Of a store of this program they are those in its inboxes, elsewhere all files with a media suffix.

        Raises:
            TranscriptionError: the store denies access or does not answer.

        """
        found = {name: etag for name, etag in self.store.versions("").items() if is_media(name)}
        chosen = [name for name in found if name.startswith(INBOXES)] or list(found)
        base = self.store.url.rstrip("/")
        return tuple(Item(f"{name}@{found[name]}", f"{base}/{name}", title=_stem(name)) for name in sorted(chosen))

    def copy(self, item: Item, part: Path, most_bytes: int) -> Downloaded:
        """Copy a recording to `part`, from where an earlier copy ended.

        Raises:
            TooLarge: it exceeds `most_bytes`.
            TransientFailure: it was replaced since it was listed, or the store does not answer.
            TranscriptionError: the store denies access, or the recording is gone.

        """
        name, _, etag = item.guid.rpartition("@")
        key = encode(name)
        found = self.store.stat(key)
        if found.etag != etag:
            raise TransientFailure(f"{item.media_url}: replaced since it was listed; it is tried again later")
        if found.size > most_bytes:
            raise TooLarge(
                f"{item.media_url}: larger than {most_bytes / 1e9:g} GB; see TRANSCRIPTION_SOURCE_MAX_GB",
                hint="raise TRANSCRIPTION_SOURCE_MAX_GB",
            )
        with part.open("ab") as file:
            begun = file.tell()
            while file.tell() < found.size:
                block = self.store.read_media(key, file.tell(), _BLOCK)
                if not block:
                    raise TransientFailure(f"{item.media_url}: received {file.tell()} of {found.size} bytes")
                file.write(block)
            size = file.tell()
        if size != found.size or self.store.stat(key).etag != etag:
            part.unlink()
            raise TransientFailure(f"{item.media_url}: replaced during the copy")
        return Downloaded(part, item.media_url, "", size, begun)


def name_in_inbox(source: str, item: Item) -> str:
    """Return the name of a copy: that of the original, below the folder of the source."""
    name = item.guid.rpartition("@")[0]
    rest = name.partition("/")[2] if name.startswith(INBOXES) else name
    inbox = "audio" if PurePosixPath(name).suffix.lower() in AUDIO_SUFFIXES else "video"
    return f"{inbox}/{source}/{rest}"


def _place(url: str) -> str:
    return url.rstrip("/") if "://" in url else str(Path(url).resolve()).rstrip("/")


def _stem(name: str) -> str:
    return PurePosixPath(name).stem
