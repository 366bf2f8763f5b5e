"""The vocabulary of a search table: every word of its passages, so that a question finds other forms of its words.

A word that does not occur is taken for a misspelt one, or for the beginning of one.

`Index.maintain` writes it beside the table (`words/<table>.parquet`), and each searching process keeps it in memory.
Words of passages written since then are still found as they were typed. Scripts without spaces have no words here.
"""

import io
import unicodedata
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice, product, zip_longest

import polars as pl
from rapidfuzz import process
from rapidfuzz.distance import OSA

from transcription_assets.domain.text import is_unspaced
from transcription_assets.search.query import ParsedQuery, Token, allowed_edits, fold, is_like, tokens
from transcription_assets.search.word_forms import (
    NUMBER_LANGUAGES,
    STEMMERS,
    numbers,
    parts,
    read_question,
    stem,
    stems,
    value_of,
    ways,
)

MAX_WORDS = 500_000
"""The rarest words beyond this are left out: names and errors that are spelt the same everywhere."""
SHORTEST = 3
"""Letters of the shortest word that has other forms here, and of the shortest prefix that is completed."""
LONGEST_ENDING = 3
"""Letters at the end of a word in which its inflections may differ."""
MAX_FORMS = 24
VERSION = "version"
LANGUAGES = "languages"
ROWS = "rows"
MADE_S = "made_s"
NEW_SHARE = 0.02
LONGEST_S = 86400.0
"""A vocabulary is made again if this share of the rows is new or gone, or if it is older than this (seconds)."""
_WORD = r"[\p{L}\p{N}][\p{L}\p{M}\p{N}]*"
_SCHEMA = {
    "word": pl.String(),
    "folded": pl.String(),
    "count": pl.Int64(),
    "languages": pl.List(pl.String),
    "numbers": pl.List(pl.Int64),
}
"""`languages` are those of the word's passages."""
_STEMS_SCHEMA = {"stem": pl.String(), "word": pl.String()}
"""The stems of a word in the languages that have a stemmer (`_stem_key`)."""


@dataclass(frozen=True, slots=True)
class SaidNumber:
    """The terms of a question that are a number, and the ways to say it: for each part, the words that may say it."""

    terms: tuple[str, ...]
    ways: tuple[tuple[tuple[str, ...], ...], ...]


@dataclass(frozen=True, slots=True)
class Forms:
    """Other forms of a question's words in the passages.

    `words` has for each term the words that are spelt like it, as in the index, `inflections` its inflections in each
    language, which count in passages of that language only, `number_words` those that are part of its number: they lead
    to passages, but only the whole number counts. `completions` are the words that begin with the last term: they lead
    to passages, but do not count, since the term may be a whole word. `numerals` are the words of the question with its
    numbers merged (`word_forms.read_question`), None if it has none, and `numbers` the ways to say each of these.
    `spellings` has the words that are equal to a term but not in the index (`_indexed`), `phrases` the other spellings
    of each quoted phrase.
    """

    words: Mapping[str, Sequence[str]] = field(default_factory=dict)
    inflections: Mapping[str, Mapping[str, Sequence[str]]] = field(default_factory=dict)
    number_words: Mapping[str, Sequence[str]] = field(default_factory=dict)
    completions: Mapping[str, Sequence[str]] = field(default_factory=dict)
    numerals: Sequence[Token] | None = None
    numbers: Sequence[SaidNumber] = ()
    spellings: Mapping[str, Sequence[str]] = field(default_factory=dict)
    phrases: Mapping[int, Sequence[str]] = field(default_factory=dict)

    @property
    def looked_up(self) -> Mapping[str, Sequence[str]]:
        """The words by which passages are looked up, for each term that has others."""
        found: dict[str, list[str]] = {}
        kinds = (self.spellings, *self.inflections.values(), self.words, self.number_words, self.completions)
        for others in kinds:
            for term, words in others.items():
                found.setdefault(term, []).extend(words)
        return {term: tuple(dict.fromkeys(words)) for term, words in found.items()}

    def counted(self, language: str) -> Mapping[str, frozenset[str]]:
        """Return the folded other forms that count as each term in a passage of this language."""
        inflected = self.inflections.get(language, {})
        terms = {*self.words, *inflected}
        return {term: frozenset(map(fold, (*self.words.get(term, ()), *inflected.get(term, ())))) for term in terms}


@dataclass(frozen=True)
class Vocabulary:
    """Words of a table at a version, sorted by their folded forms, with the languages of its passages.

    `by_stem` has their stems, sorted, the most frequent word of each stem first. Both are looked up by bisection of
    the columns, without Python objects for all words, so that a new vocabulary costs little more than its reading.
    """

    table: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=_SCHEMA))
    by_stem: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=_STEMS_SCHEMA))
    languages: tuple[str, ...] = ()
    version: int = -1
    rows: int = 0
    made_s: float = 0.0
    """Passages of the table at that version, and the time of its making (seconds since 1970)."""

    def is_current(self, version: int, rows: int, now_s: float) -> bool:
        """Return whether it still serves a table at this version with so many passages."""
        if version == self.version:
            return True
        is_young = 0 <= now_s - self.made_s < LONGEST_S
        return is_young and abs(rows - self.rows) < NEW_SHARE * max(rows, self.rows)

    def __bool__(self) -> bool:
        """Return whether there are words."""
        return self.table.height > 0

    def __contains__(self, folded: str) -> bool:
        """Return whether a word with this folded form occurs."""
        return self._at(folded).height > 0

    def has_spelling(self, word: str) -> bool:
        """Return whether this word occurs, spelt exactly so (lower case)."""
        return word in self._at(fold(word))["word"].to_list()

    def spelt(self, folded: str) -> list[str]:
        """Return the words with this folded form."""
        return self._at(folded)["word"].to_list()

    def languages_of(self, folded: str) -> set[str]:
        """Return the languages of the passages with a word of this folded form."""
        return {language for languages in self._at(folded)["languages"].to_list() for language in languages}

    def occurs(self, word: str, language: str) -> bool:
        """Return whether a word (lower case) or an inflection of it occurs in passages of this language."""
        if any(language in languages for languages in self._at(fold(word))["languages"].to_list()):
            return True
        return bool(self._stemmed(word, language))

    def completions(self, prefix: str) -> list[str]:
        """Return the most frequent words that start with this folded prefix, at most MAX_FORMS."""
        return self._range(prefix).sort("count", descending=True)["word"].head(MAX_FORMS).to_list()

    def inflections(self, word: str) -> dict[str, list[str]]:
        """Return the words that occur in each language with the same stem as this one (lower case), without itself.

        These are the most frequent ones, at most MAX_FORMS in a language.
        """
        folded = fold(word)
        if len(folded) < SHORTEST or any(map(str.isdigit, folded)):
            return {}
        shared = folded[: max(SHORTEST, len(folded) - LONGEST_ENDING)]
        found = {}
        for language in self.languages:
            if language in STEMMERS:
                root = stem(word, language)
                others = ((other, fold(other)) for other in self._stemmed(word, language))
                found[language] = [
                    other
                    for other, form in others
                    if form != folded and (form.startswith(shared) or _has_prefix(root, folded, form))
                ][:MAX_FORMS]
        return {language: others for language, others in found.items() if others}

    def _stemmed(self, word: str, language: str) -> list[str]:
        """Return the words that occur in the language with the stem of this one, the most frequent first."""
        key, keys = _stem_key(language, stem(word, language)), self.by_stem["stem"]
        return self.by_stem["word"][bisect_left(keys, key) : bisect_right(keys, key)].to_list()

    def similar(self, word: str) -> list[str]:
        """Return the words that are spelt like this folded one (`query.is_like`), the most similar first."""
        edits = allowed_edits(word)
        if not edits:
            return []
        shared = self._range(word[0])
        close = shared.filter(
            pl.col("folded").str.len_chars().is_between(len(word) - edits, len(word) + edits)
            & (pl.col("folded") != word)
        )
        found = process.extract(
            word, close["folded"].to_list(), scorer=OSA.distance, score_cutoff=edits, limit=MAX_FORMS
        )
        spelt = close["word"].to_list()
        return [spelt[place] for other, _, place in found if is_like(word, other)]

    def number_words(self, values: Iterable[int]) -> list[str]:
        """Return the words that say one of these values."""
        return [word for value in sorted(values) for word in self._by_number.get(value, ())][: 2 * MAX_FORMS]

    @cached_property
    def _by_number(self) -> dict[int, list[str]]:
        said = self.table.filter(pl.col("numbers").is_not_null()).explode("numbers")
        found: dict[int, list[str]] = {}
        for word, value in zip(said["word"].to_list(), said["numbers"].to_list(), strict=True):
            found.setdefault(value, []).append(word)
        return found

    def _range(self, prefix: str) -> pl.DataFrame:
        folded = self.table["folded"]
        return self.table[bisect_left(folded, prefix) : bisect_left(folded, prefix + "\U0010ffff")]

    def _at(self, word: str) -> pl.DataFrame:
        """Return the words with this folded form."""
        folded = self.table["folded"]
        return self.table[bisect_left(folded, word) : bisect_right(folded, word)]

    def values(self) -> dict[tuple[str, tuple[str, ...]], list[int] | None]:
        """Return the numbers that each word says, by the word and its languages."""
        rows = self.table.select("word", "languages", "numbers").iter_rows()
        return {(word, tuple(languages)): values for word, languages, values in rows}

    def to_parquet(self) -> bytes:
        """Return the vocabulary as a file: the rows of the words, then those of the stems."""
        target = io.BytesIO()
        metadata = {VERSION: str(self.version), LANGUAGES: " ".join(self.languages)}
        metadata |= {ROWS: str(self.rows), MADE_S: str(self.made_s)}
        rows = pl.concat([self.table.with_columns(stem=pl.lit(None, pl.String())), self.by_stem], how="diagonal")
        rows.write_parquet(target, metadata=metadata)
        return target.getvalue()


def from_parquet(content: bytes) -> Vocabulary:
    """Read a vocabulary from its file.

    Raises:
        ValueError: the file is damaged.

    """
    source = io.BytesIO(content)
    try:
        metadata = pl.read_parquet_metadata(source)
        source.seek(0)
        rows = pl.read_parquet(source)
    except pl.exceptions.PolarsError as error:
        raise ValueError(f"damaged vocabulary: {error}") from error
    if dict(rows.schema) != {**_SCHEMA, "stem": pl.String()}:
        raise ValueError(f"vocabulary with other columns: {', '.join(rows.columns)}")
    words = rows.height - rows["folded"].null_count()
    return Vocabulary(
        rows[:words].drop("stem"),
        rows[words:].select(list(_STEMS_SCHEMA)),
        tuple(metadata.get(LANGUAGES, "").split()),
        int(metadata.get(VERSION, "-1")),
        int(metadata.get(ROWS, "0")),
        float(metadata.get(MADE_S, "0")),
    )


def build(
    passages: Iterable[pl.DataFrame], version: int, before: Vocabulary | None = None, now_s: float = 0.0
) -> Vocabulary:
    """Collect the words of passages, batches with the columns `text` and `language`.

    The numbers of words that the vocabulary `before` has in the same languages are taken from there.
    """
    rows_read = 0
    counted: Counter[str] = Counter()
    said_in: dict[str, set[str]] = {}
    languages: Counter[str] = Counter()
    for batch in passages:
        rows_read += batch.height
        words = batch.select("language", word=pl.col("text").str.to_lowercase().str.extract_all(_WORD)).explode("word")
        for word, language, count in words.drop_nulls("word").group_by("word", "language").len().iter_rows():
            counted[word] += count
            said_in.setdefault(word, set()).update((language,) if language else ())
        languages.update(dict(batch["language"].drop_nulls().value_counts(name="count").iter_rows()))
    spoken = tuple(language for language, _ in languages.most_common() if language)
    spaced = (one for one in counted.most_common() if one[0].isascii() or not any(map(is_unspaced, one[0])))
    kept = list(islice(spaced, MAX_WORDS))
    stemmed = _stems({word: said_in[word] for word, _ in kept})
    known = before.values() if before else {}
    rows = []
    for word, count in kept:
        spoken_in = tuple(sorted(said_in[word]))
        values = known[word, spoken_in] if (word, spoken_in) in known else _values(word, spoken_in) or None
        rows.append((word, fold(word), count, spoken_in, values))
    table = pl.DataFrame(rows, schema=_SCHEMA, orient="row").sort("folded", "word")
    pairs = sorted((key, -count, word) for word, count in kept for key in stemmed.get(word, ()))
    by_stem = pl.DataFrame([(key, word) for key, _, word in pairs], schema=_STEMS_SCHEMA, orient="row")
    return Vocabulary(table, by_stem, spoken, version, rows_read, now_s)


def _stems(said_in: Mapping[str, Collection[str]]) -> dict[str, list[str]]:
    """Return the stems of each word in its languages, as keys; words of languages without a stemmer have none."""
    found: dict[str, list[str]] = {}
    for language in STEMMERS:
        words = [word for word, languages in said_in.items() if language in languages]
        for word, root in zip(words, stems(words, language) if words else (), strict=True):
            found.setdefault(word, []).append(_stem_key(language, root))
    return found


def _stem_key(language: str, root: str) -> str:
    return f"{language}:{root}"


def _values(word: str, languages: Iterable[str]) -> list[int]:
    """Return the whole numbers that the word says alone in one of the languages."""
    found = set()
    for language in languages:
        if language in NUMBER_LANGUAGES:
            said = numbers(word, [Token(0, len(word), word, word)], language)
            found |= {int(number.value) for number in said if number.value == int(number.value)}
    return sorted(found)


def forms_of(parsed: ParsedQuery, vocabulary: Vocabulary) -> Forms:
    """Return the other forms of the question's terms that occur.

    These are inflections, numbers, similar spellings of words that do not occur, and completions of the last word.
    """
    found: dict[str, list[str]] = {}
    spellings: dict[str, list[str]] = {}
    inflections: dict[str, dict[str, Sequence[str]]] = {}
    completions: dict[str, list[str]] = {}
    for term in parsed.terms:
        for language, others in vocabulary.inflections(parsed.spelt[term]).items():
            inflections.setdefault(language, {})[term] = others
        if spelt := vocabulary.spelt(term):
            spellings[term] = _other_spellings(parsed.spelt[term], spelt)
        else:
            found[term] = vocabulary.similar(term)
            if term == parsed.unfinished and len(term) >= SHORTEST:
                completions[term] = vocabulary.completions(term)
    numerals = read_question(parsed.unquoted, vocabulary.languages, vocabulary.occurs)
    number_words, numbers = _numbers_said(parsed, vocabulary, numerals or ())
    return Forms(
        _others(found),
        inflections,
        _others(number_words),
        _others(completions),
        numerals,
        numbers,
        {term: others for term, others in spellings.items() if others},
        _phrases(parsed, vocabulary),
    )


def _numbers_said(
    parsed: ParsedQuery, vocabulary: Vocabulary, numerals: Sequence[Token]
) -> tuple[dict[str, list[str]], list[SaidNumber]]:
    """Return the words that lead to the numbers of a question, by term, and the ways to say each number."""
    lead: dict[str, list[str]] = {}
    found = []
    for token, following in zip_longest(numerals, numerals[1:]):
        value = value_of(token.folded)
        terms = tuple(parsed.terms_in((token.start, token.end)))
        if value is None or value != int(value) or not terms:
            continue
        digits = f"{int(value)}"
        said = [digits, *vocabulary.number_words(parts(value, vocabulary.languages))]
        spoken = [[vocabulary.number_words(part) for part in way] for way in ways(value, vocabulary.languages)]
        spoken.append([[digits]])
        unit = following.folded if following and not following.folded.startswith("#") else ""
        if unit and following.start == token.end:  # 5km: the unit is a part of the term
            spoken = [[*way, [unit]] for way in spoken] + [[[digits + unit]]]
        elif unit and vocabulary.has_spelling(digits + unit):
            said.append(digits + unit)
            spoken.append([[digits + unit]])
            lead.setdefault(unit, []).append(digits + unit)
        spoken.append([[parsed.spelt[term]] for term in terms])
        for term in terms:
            lead.setdefault(term, []).extend(said)
        complete = (tuple(map(tuple, way)) for way in spoken if all(way))
        found.append(SaidNumber(terms, tuple(dict.fromkeys(complete))))
    return {term: words for term, words in lead.items() if term in parsed.terms}, found


def _has_prefix(root: str, one: str, other: str) -> bool:
    """Return whether two words have this stem, and one of them has a prefix before it, as in Arabic or Indonesian."""
    is_inside = len(root) >= SHORTEST and root in one and root in other
    return is_inside and not (one.startswith(root) and other.startswith(root))


def _indexed(word: str) -> str:
    """Return the word (lower case) as LanceDB's index has it: without the accents of precomposed Latin letters only."""
    if word.isascii():
        return word
    letters = unicodedata.normalize("NFC", word)
    return "".join(base if (base := fold(letter)).isascii() else letter for letter in letters)


def _other_spellings(word: str, spelt: Iterable[str]) -> list[str]:
    """Return those of these spellings of a word that the index has as other words."""
    own = _indexed(word)
    return [other for other in spelt if _indexed(other) != own][:MAX_FORMS]


def _phrases(parsed: ParsedQuery, vocabulary: Vocabulary) -> dict[int, list[str]]:
    """Return the other spellings of each quoted phrase that has some, by its position."""
    found = {}
    for at, phrase in enumerate(parsed.quoted):
        words = [token.text.lower() for token in tokens(phrase)]
        each = [[word, *_other_spellings(word, vocabulary.spelt(fold(word)))] for word in words]
        _, *others = islice(product(*each), MAX_FORMS)
        if others:
            found[at] = [" ".join(other) for other in others]
    return found


def _others(found: Mapping[str, Sequence[str]]) -> dict[str, Sequence[str]]:
    """Return the distinct words of each term other than itself, without terms that have none."""
    words = {term: tuple(dict.fromkeys(one for one in forms if fold(one) != term)) for term, forms in found.items()}
    return {term: forms for term, forms in words.items() if forms}
