"""Word error rate: counts of word errors after Whisper's normalisation, and their sums."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Any

from transcription_assets.errors import PermanentFailure


@dataclass(frozen=True, slots=True)
class Errors:
    """Word errors against a reference of `words` words, after Whisper's normaliser (case, punctuation, numbers)."""

    words: int = 0
    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0

    @property
    def rate(self) -> float:
        """Word error rate: errors per word of the reference; with an empty reference, the number of errors."""
        return (self.substitutions + self.deletions + self.insertions) / max(self.words, 1)

    def __add__(self, other: "Errors") -> "Errors":
        return Errors(
            self.words + other.words,
            self.substitutions + other.substitutions,
            self.deletions + other.deletions,
            self.insertions + other.insertions,
        )


def errors(reference_text: str, text: str, language: str = "en") -> Errors:
    """Count the word errors of the hypothesis `text` against `reference_text`."""
    import jiwer

    normalise = _normaliser(english=language == "en")
    reference, hypothesis = normalise(reference_text), normalise(text)
    if not reference:  # jiwer rejects an empty reference
        return Errors(insertions=len(hypothesis.split()))
    found = jiwer.process_words(reference, hypothesis)
    return Errors(len(reference.split()), found.substitutions, found.deletions, found.insertions)


def require() -> None:
    """Check that the packages that count word errors are installed.

    Raises:
        PermanentFailure: one of them is missing.

    """
    missing = [name for name in ("jiwer", "whisper_normalizer") if find_spec(name) is None]
    if missing:
        hint = "pip install '.[eval]'"
        raise PermanentFailure(
            f"{' and '.join(missing)} not installed (needed to count word errors): {hint}", hint=hint
        )


def total(parts: Iterable[Errors]) -> Errors:
    """Sum errors over several recordings, so that longer ones weigh more."""
    return sum(parts, Errors())


@cache
def _normaliser(*, english: bool) -> Any:
    from whisper_normalizer.basic import BasicTextNormalizer
    from whisper_normalizer.english import EnglishTextNormalizer

    return EnglishTextNormalizer() if english else BasicTextNormalizer()
