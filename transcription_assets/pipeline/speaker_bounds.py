"""The bounds of the number of speakers of one recording, from a file beside it: `talk.mp4.speakers.json`."""

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from transcription_assets.domain import media_keys
from transcription_assets.errors import NotFound, NotRegular, PermanentFailure
from transcription_assets.speakers.diariser import Bounds
from transcription_assets.storage import Store

MOST_BYTES = 1024
MOST_SPEAKERS = 100


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    min: int = Field(0, ge=0, le=MOST_SPEAKERS)
    max: int = Field(0, ge=0, le=MOST_SPEAKERS)


def load(store: Store, key: str) -> Bounds | None:
    """Return the bounds that are given beside a recording, None if there is no such file.

    Raises:
        PermanentFailure: the file is not a regular file, has more than MOST_BYTES, does not hold bounds, or access is
            denied.
        TransientFailure: the store does not answer.

    """
    place = media_keys.speaker_bounds(key)
    if place is None:
        return None
    shown = media_keys.encode(place)
    try:
        found = _Document.model_validate_json(store.read_small(place, MOST_BYTES))
    except NotRegular as error:
        raise _invalid(key, f"{shown} is not a regular file", "remove it, or put a file there") from error
    except NotFound:
        return None
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"]))
        reason = f"{where}: {problem['msg']}" if where else problem["msg"]
        raise _invalid(key, f"{shown}: {reason}", 'write {"min": 2, "max": 4}, or remove it') from error
    if 0 < found.max < found.min:
        raise _invalid(key, f"{shown}: min={found.min} is above max={found.max}", "set one of them to 0")
    return Bounds(found.min, found.max)


def _invalid(key: str, problem: str, hint: str) -> PermanentFailure:
    return PermanentFailure(f"{problem}; {hint}", key=key, step="speakers", hint=hint)
