"""What LanceDB raises, as the failures of this library."""

import functools
import re
from collections.abc import Callable
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from transcription_assets.failures import PermanentFailure, TransientFailure


class FilesGone(PermanentFailure):
    """Files of the table that was looked into are not there any more; there may be a new table in its place."""


class Placed(Protocol):
    """Anything that knows where its tables are."""

    @property
    def uri(self) -> str:
        """The folder or `s3://…` of the tables."""
        ...


Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
Owner = TypeVar("Owner", bound=Placed)

_AWAY = re.compile(
    r"conflict|time[d ]*out|connect|reset|throttl|slow ?down|dispatch|\b(?:429|50[0234])\b", re.IGNORECASE
)


def explained(
    method: Callable[Concatenate[Owner, Arguments], Result],
) -> Callable[Concatenate[Owner, Arguments], Result]:
    """Turn what LanceDB raises into the failures of this library; it has retried what it can by itself by then."""

    @functools.wraps(method)
    def wrapped(index: Owner, /, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        try:
            return method(index, *args, **kwargs)
        except (OSError, RuntimeError, ValueError) as error:
            # Not chained, and without the store's own document: it can quote the token that it refused.
            told = re.split(r"<\?xml|<Error", str(error), maxsplit=1)[0]
            said = f"the search table at {index.uri} cannot be used: {told}"
            if _AWAY.search(str(error)):
                raise TransientFailure(said) from None
            kind = FilesGone if "not found" in told.lower() else PermanentFailure
            raise kind(
                f"{said}. If it is damaged, delete the folder lancedb/ of the store and materialise `embeddings` for "
                "all partitions, or run `transcription-assets index rebuild`: nothing is transcribed again."
            ) from None

    return wrapped
