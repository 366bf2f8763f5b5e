"""From the spool into the inbox: a complete upload is checked, gets its origin, and lands once."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from transcription_assets.domain.media_keys import encode
from transcription_assets.errors import NotFound, PermanentFailure, Refused, TranscriptionError, TransientFailure
from transcription_assets.media.ffmpeg_process import NotExecutable
from transcription_assets.pipeline import origin as origins
from transcription_assets.pipeline.origin import Origin
from transcription_assets.pipeline.video import MediaDecoder
from transcription_assets.sources import names
from transcription_assets.sources.spool import ENDED, Upload, UploadSpool
from transcription_assets.storage import Store

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Landing:
    """Moves complete uploads into the store, which `store` opens for writing, as `decoder` is found."""

    spool: UploadSpool
    store: Callable[[], Store]
    decoder: Callable[[], MediaDecoder]

    def land(self, upload: Upload) -> Upload:
        """Check a complete upload and put it into the inbox; return it with its new state.

        Its origin is stored before it, so that no step finds the recording without. An upload whose process was killed
        after it had landed is found in the store, and does not land again. A fault of the server (the store or ffmpeg)
        leaves it in the spool, with the reason, for another call.

        Raises:
            UploadInUse: another request or process has it.
            NotFound: it was cancelled.
            TransientFailure: no process can be started, or the spool fails.
            TranscriptionError: it was moved by a process that was killed, and the store does not answer.

        """
        path = self.spool.path(upload.identifier)
        has_bytes = path.exists()  # looked at first, as the state is final before the bytes are deleted
        upload = self.spool.get(upload.identifier)
        if upload.state in ENDED:
            return upload
        if not has_bytes and upload.state in {"checking", "storing"}:
            has_landed = _found(self.store(), encode(upload.name)) == upload.identifier
            reason = "" if has_landed else f"{upload.filename}: its bytes are lost; upload it again"
            return self.spool.mark(upload, "landed" if has_landed else "failed", reason)
        with self.spool.locked(upload.identifier):
            upload = self.spool.get(upload.identifier)
            if upload.state in ENDED:
                return upload
            if upload.state != "storing":
                upload = self._checked(self.spool.mark(upload, "checking"))
            return self._stored(upload) if upload.state == "storing" else upload

    def _checked(self, upload: Upload) -> Upload:
        """Return an upload as `storing`, as `failed` if it is no recording, or as `checking` if ffmpeg is missing."""
        try:
            decoder = self.decoder()
        except PermanentFailure as error:
            return self._waiting(upload, error)
        try:
            header = decoder.probe_file(self.spool.path(upload.identifier), upload.filename)
        except NotExecutable as error:
            return self._waiting(upload, error)
        except PermanentFailure as error:
            return self._failed(upload, error)
        return self.spool.mark(replace(upload, title=upload.title or header.title), "storing")

    def _stored(self, upload: Upload) -> Upload:
        """Put a checked upload into the store."""
        key = encode(upload.name)
        try:
            store = self.store()
            found = _found(store, key)
            if found == upload.identifier:
                return self.spool.mark(upload, "landed")
            if found is not None:
                return self.spool.mark(upload, "failed", f"{upload.filename}: its name is taken; upload it again")
            origins.write(store, key, _origin(upload))
        except TranscriptionError as error:
            return self._waiting(upload, error)
        try:
            store.put_media(upload.name, self.spool.path(upload.identifier), move=True)
        except (Refused, TransientFailure) as error:
            return self._waiting(upload, error)
        except PermanentFailure as error:
            return self._failed(upload, error)
        log.info("upload landed: %s (%s bytes)", key, upload.length)
        return self.spool.mark(upload, "landed")

    def _waiting(self, upload: Upload, error: TranscriptionError) -> Upload:
        log.warning("upload %s waits: %s", upload.identifier, error)
        return self.spool.mark(upload, upload.state, str(error))

    def _failed(self, upload: Upload, error: PermanentFailure) -> Upload:
        log.warning("upload %s failed: %s", upload.identifier, error)
        return self.spool.mark(upload, "failed", str(error))


def _found(store: Store, key: str) -> str | None:
    """Return which upload the recording of this key was, "" for any other recording; None if there is none."""
    try:
        store.stat(key)
    except NotFound:
        return None
    made = origins.load(store, key)
    return made.identity if made else ""


def _origin(upload: Upload) -> Origin:
    return Origin(
        source=names.UPLOADS,
        kind="upload",
        identity=upload.identifier,
        title=upload.title or names.uploaded_title(upload.filename),
        guid=upload.filename,
        fetched=datetime.now(UTC).isoformat(timespec="seconds"),
        size=upload.length,
        uploaded_by=upload.user,
    )
