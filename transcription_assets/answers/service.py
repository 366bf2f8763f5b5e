"""The language model: any service with the chat completions of the OpenAI protocol."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from transcription_assets.answers.prompt import Message
from transcription_assets.domain.text import printable
from transcription_assets.errors import PermanentFailure
from transcription_assets.service_client import Deadline, Rejected, ServiceClient

MOST_BYTES = 1 << 18
"""Size of a response: an answer of six sentences has some thousand bytes."""
REPLY_TOKENS = 800
ATTEMPTS = 2
_BAD_REQUEST = 400


@dataclass(frozen=True, slots=True)
class Reply:
    """Text of a reply; it `is_cut` if it reached REPLY_TOKENS."""

    text: str
    is_cut: bool = False


class LanguageModel:
    """Client of `<url>/chat/completions`; thread-safe. `key` and redirects are treated as by `ServiceClient`.

    Raises:
        PermanentFailure: `model` is empty, or `key` holds characters that are not allowed in an HTTP header.

    """

    def __init__(self, url: str, model: str, *, key: str = "", timeout_s: float = 60.0) -> None:
        if not model:
            hint = "set TRANSCRIPTION_ASK_MODEL to the name of the model"
            raise PermanentFailure(f"TRANSCRIPTION_ASK_URL is set without a model; {hint}", hint=hint)
        self.name = model
        self._timeout_s = timeout_s
        self._service = ServiceClient(
            url, "ask", key=key, timeout_s=timeout_s, most_bytes=MOST_BYTES, attempts=ATTEMPTS
        )

    def reply(self, messages: Sequence[Message]) -> Reply:
        """Return the reply to a chat.

        Raises:
            TransientFailure: there was no whole response in time.
            PermanentFailure: the service refused, redirected, or sent an invalid response.

        """
        deadline = Deadline(self._timeout_s)
        request = {"model": self.name, "messages": [*messages], "stream": False}
        try:
            found = self._post(request | {"temperature": 0, "max_tokens": REPLY_TOKENS}, deadline)
        except Rejected as error:
            if error.status != _BAD_REQUEST:
                raise
            # Some models refuse a temperature, and have another name for the limit.
            found = self._post(request | {"max_completion_tokens": REPLY_TOKENS}, deadline)
        try:
            choice = found["choices"][0]
            content, ended = choice["message"]["content"], choice.get("finish_reason")
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            raise PermanentFailure(f"invalid response of {self.name}: no choice with a message") from error
        if content is None:
            why = f"it ended by {printable(str(ended))!r}; a model that reasons may have spent all tokens on that"
            raise PermanentFailure(f"{self.name} replied without any text: {why}")
        if not isinstance(content, str):
            raise PermanentFailure(f"invalid response of {self.name}: the message is not a text")
        return Reply(content, is_cut=ended == "length")

    def _post(self, request: Mapping[str, object], deadline: Deadline) -> Any:
        content, headers = json.dumps(request).encode(), {"Content-Type": "application/json"}
        return self._service.post("chat/completions", self.name, deadline, content=content, headers=headers)
