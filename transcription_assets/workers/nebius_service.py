"""The SDK of Nebius (extra `nebius`): connection, retries, and its errors as failures of this library."""

import json
import logging
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from transcription_assets.errors import PermanentFailure, TranscriptionError, TransientFailure

if TYPE_CHECKING:
    from nebius.aio.request_kwargs import RequestKwargs
    from nebius.sdk import SDK

USER_AGENT = "transcription-assets/0.1"
REQUEST: "RequestKwargs" = {"timeout": 60.0, "retries": 3}
SERVICE_CONFIG = {
    "methodConfig": [
        {
            "name": [{}],
            "retryPolicy": {
                "maxAttempts": 5,
                "initialBackoff": "0.5s",
                "maxBackoff": "10s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED"],
            },
        }
    ]
}
CHANNEL_OPTIONS = [("grpc.service_config", json.dumps(SERVICE_CONFIG))]
"""The retries of the SDK follow one another at once; those of its gRPC channel wait between attempts."""
TRANSIENT = frozenset({"UNAVAILABLE", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED", "ABORTED", "INTERNAL", "UNKNOWN"})

log = logging.getLogger(__name__)


def connect(project: str, credentials_file: str) -> "SDK":
    """Return the SDK with the credentials of its standard environment.

    These are `credentials_file` of a service account, if it is given, else `NEBIUS_IAM_TOKEN`, else the profile of the
    command-line tool `nebius` (`NEBIUS_PROFILE`).

    Raises:
        ImportError: the extra `nebius` is not installed.
        Exception: there are no credentials; the SDK has no common class of its errors.

    """
    from nebius.aio.cli_config import Config
    from nebius.aio.token.static import EnvBearer, NoTokenInEnvError
    from nebius.sdk import SDK

    common: dict[str, Any] = {
        "user_agent_prefix": USER_AGENT,
        "options": CHANNEL_OPTIONS,
        "parent_id": project or None,
    }
    if credentials_file:
        return SDK(credentials_file_name=credentials_file, **common)
    try:
        return SDK(credentials=EnvBearer(), **common)
    except NoTokenInEnvError:
        return SDK(config_reader=Config(), **common)


async def is_accepted(request: Awaitable[object]) -> bool:
    """Return whether a request to end a job was accepted; it is refused if the job has just ended or is gone."""
    try:
        with failures("Nebius"):
            await request
    except TranscriptionError as error:
        log.warning("%s", error)
        return False
    return True


@contextmanager
def failures(what: str) -> Iterator[None]:
    """Raise errors of the SDK as failures of this library.

    Raises:
        TransientFailure: the service does not answer, or is busy.
        PermanentFailure: it refuses, there are no credentials, or the SDK is missing.

    """
    try:
        yield
    except TranscriptionError:
        raise
    except ImportError as error:
        raise PermanentFailure(
            f"{what}: {error}; install the extra: pip install 'transcription_assets[nebius]'"
        ) from error
    except TimeoutError as error:
        raise TransientFailure(f"{what}: no answer in time") from error
    except Exception as error:  # the SDK has no common class of its errors
        status = getattr(error, "status", None)
        code = getattr(getattr(status, "code", None), "name", "")
        if code in TRANSIENT:
            raise TransientFailure(f"{what}: {error}") from error
        hint = {
            "UNAUTHENTICATED": "; are NEBIUS_IAM_TOKEN or the credentials file valid?",
            "PERMISSION_DENIED": "; may the service account create jobs in TRANSCRIPTION_NEBIUS_PROJECT?",
            "": "; see docs/how-to/serverless.md for credentials",
        }.get(code, "")
        raise PermanentFailure(f"{what}: {error}{hint}") from error
