"""Parameters of a request for a transcription. Pure functions of its form fields."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from transcription_assets.asr.problems import ApiError
from transcription_assets.speech.language_names import code_of

Format = Literal["json", "text", "srt", "verbose_json", "vtt"]
FORMATS: tuple[Format, ...] = get_args(Format)
GRANULARITIES = ("word", "segment")
LONGEST_PROMPT = 2000
"""Characters of a prompt that are used; Whisper takes some hundred words."""


@dataclass(frozen=True, slots=True)
class Parameters:
    """Parameters of a request; `vocabulary` are the words to expect, from its prompt."""

    response_format: Format = "json"
    language: str = ""
    vocabulary: tuple[str, ...] = ()
    granularities: frozenset[str] = frozenset({"segment"})
    stream: bool = False


def parse(fields: Mapping[str, Sequence[str]], models: Collection[str]) -> Parameters:
    """Return the parameters in the fields of a form; unknown fields are ignored, as by other services.

    Raises:
        ApiError: a parameter is missing or invalid, or the model is none of `models`.

    """
    _require_model(_one(fields, "model"), models)
    _require_temperature(_one(fields, "temperature"))
    response_format = _one(fields, "response_format") or "json"
    if response_format not in FORMATS:
        raise _invalid("response_format", f"{response_format!r} is none of {', '.join(FORMATS)}")
    stream = _flag("stream", _one(fields, "stream"))
    if stream and response_format in ("srt", "vtt"):
        raise _invalid("stream", f"{response_format} cannot be streamed")
    return Parameters(
        response_format=response_format,
        language=_language(_one(fields, "language")),
        vocabulary=vocabulary(_one(fields, "prompt")),
        granularities=_granularities(fields, response_format),
        stream=stream,
    )


def vocabulary(prompt: str) -> tuple[str, ...]:
    """Return the words or phrases of a prompt, which commas and line breaks separate."""
    parts = (" ".join(part.split()) for part in re.split(r"[,\n]", prompt[:LONGEST_PROMPT].replace("\0", "")))
    return tuple(part for part in parts if part)


def _require_model(model: str, models: Collection[str]) -> None:
    if not model:
        raise _invalid("model", "a model is required")
    if model not in models:
        raise ApiError(
            404,
            f"the model {model!r} does not exist; this server has {', '.join(sorted(models))}",
            param="model",
            code="model_not_found",
        )


def _require_temperature(text: str) -> None:
    """Check the temperature, which is not used: chunks that fail the checks are decoded at higher ones."""
    try:
        valid = 0.0 <= float(text or "0") <= 1.0
    except ValueError:
        valid = False
    if not valid:
        raise _invalid("temperature", f"{text!r} is not a number from 0 to 1")


def _language(text: str) -> str:
    code = code_of(text) if text else ""
    if text and not code:
        raise _invalid("language", f"{text!r} is not a language code such as 'en'")
    return code


def _granularities(fields: Mapping[str, Sequence[str]], response_format: str) -> frozenset[str]:
    name = "timestamp_granularities[]"
    given = [*fields.get(name, ()), *fields.get("timestamp_granularities", ())]
    if unknown := set(given) - set(GRANULARITIES):
        raise _invalid(name, f"{min(unknown)!r} is none of {', '.join(GRANULARITIES)}")
    if given and response_format != "verbose_json":
        raise _invalid(name, "timestamps need response_format=verbose_json")
    return frozenset(given or ("segment",))


def _flag(name: str, text: str) -> bool:
    values = {"": False, "false": False, "0": False, "true": True, "1": True}
    if text.lower() not in values:
        raise _invalid(name, f"{text!r} is neither true nor false")
    return values[text.lower()]


def _one(fields: Mapping[str, Sequence[str]], name: str) -> str:
    given = fields.get(name, ())
    if len(given) > 1:
        raise _invalid(name, "it is given more than once")
    return given[0].strip() if given else ""


def _invalid(name: str, reason: str) -> ApiError:
    return ApiError(400, f"invalid {name}: {reason}", param=name, code="invalid_value")
