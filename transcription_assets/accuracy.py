"""How much of what was said was written down: word errors as the papers count them, and sums of them."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Any

from transcription_assets.failures import PermanentFailure


@dataclass(frozen=True, slots=True)
class Errors:
    """Word errors against a text of `words` words, after Whisper's normaliser (case, punctuation, figures)."""

    words: int = 0
    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0

    @property
    def rate(self) -> float:
        """Errors for each word of the text; 0.0 for no text and no errors, and never infinite."""
        return (self.substitutions + self.deletions + self.insertions) / max(self.words, 1)

    def __add__(self, other: "Errors") -> "Errors":
        return Errors(
            self.words + other.words,
            self.substitutions + other.substitutions,
            self.deletions + other.deletions,
            self.insertions + other.insertions,
        )


def errors(said: str, heard: str, language: str = "en") -> Errors:
    """Compare what was heard with what was said."""
    import jiwer

    normalise = _normaliser(english=language == "en")
    reference, hypothesis = normalise(said), normalise(heard)
    if not reference:  # jiwer refuses to compare with nothing
        return Errors(insertions=len(hypothesis.split()))
    found = jiwer.process_words(reference, hypothesis)
    return Errors(len(reference.split()), found.substitutions, found.deletions, found.insertions)


def require() -> None:
    """PermanentFailure where what counts the errors is not installed."""
    missing = [name for name in ("jiwer", "whisper_normalizer") if find_spec(name) is None]
    if missing:
        raise PermanentFailure(f"{' and '.join(missing)} missing, which count word errors: pip install '.[eval]'")


def total(parts: Iterable[Errors]) -> Errors:
    """Errors over several recordings: a long one weighs more."""
    return sum(parts, Errors())


@cache
def _normaliser(*, english: bool) -> Any:
    from whisper_normalizer.basic import BasicTextNormalizer
    from whisper_normalizer.english import EnglishTextNormalizer

    return EnglishTextNormalizer() if english else BasicTextNormalizer()
