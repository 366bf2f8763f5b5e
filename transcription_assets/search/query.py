"""Questions and answers of the search: parsing, limits, folding of words, hits and their highlights. Pure."""

import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple, Protocol

from rapidfuzz.distance import OSA

from transcription_assets.domain.text import is_unspaced
from transcription_assets.search.filters import Filters, InvalidQuery, is_encodable

MAX_TEXT = 1000
MAX_LIMIT = 100
MAX_OFFSET = 1000
MAX_TERMS = 24
"""Words of a question that are looked up; a longer question is still found by its meaning."""
FUZZY_LENGTH = 4
"""Shorter words are not treated as misspelt: too many other words differ from them by one letter."""
STEM_LETTERS = FUZZY_LENGTH - 1
"""First letters that two words have in common if they differ by an ending only (`is_inflected`)."""
FUZZY_LONGEST = 40
"""Longer words are not either: no language has many, and LanceDB refuses fuzzy queries of some hundred letters."""

# Combining signs above, below or after a letter (vowels of Hindi, Thai, Arabic …) are part of its word.
_SIGNS = "".join(chr(point) for point in range(0x300, 0x3100) if unicodedata.category(chr(point)).startswith("M"))
_WORD = re.compile(rf"\w+(?:[{_SIGNS}]+\w*)*")
_QUOTE = re.compile(r"[\"“”„«»]")
_INITIALS = re.compile(r"\b\w{1,2}(?:[&/]\w{1,2})+\b")
"""Short names such as AT&T, Q&A and I/O."""
# Stop words: they say little about a moment.
_STOP_WORD_LISTS = {
    "en": """a am an and are as at be been but by can could did do does for from had has have he her him his how i if in
        into is it its me my no not of on one or our out she should so some than that the their them then there these
        they this to up us was we were what when where which who why will with would you your""",
    "de": """aber als am an auf aus bei bin bis das dass dem den der des die dies doch du ein eine einem einen einer er
        es für hat hatte her ich ihm ihn ihr im in ist ja kein man mein mich mir mit nach nicht noch nur oder sich sie
        sind so um und uns von vor wann war warum was wer wie will wir wo zu zum zur""",
    "fr": """a au aux avec ce ces dans de des du elle en es est et eux il ils je l la le les leur lui ma mais me même
        mes mon ne nos notre nous on ou où par pas pour qu que qui sa se ses si son sur ta te tes toi ton tu un une
        vous y""",
    "es": """a al con cuando de del donde e el ella ellos en era es esta este ha has hay la las le lo los me mi muy
        no nos o para pero por que quien se si sin son su sus te tu un una uno y yo""",
    "it": """a al che chi ci come con cui da dal dalla dei del della di dove e era gli ha ho i il in io l la le lo ma me
        mi nel nella no non o per più perché quale quando questo se si sono su sua suo te tra tu un una uno""",
}
_STOPPED_IN: dict[str, set[str]] = {}
for _language, _words in _STOP_WORD_LISTS.items():
    for _word in _words.split():
        _STOPPED_IN.setdefault(_word, set()).add(_language)
_HOMOGRAPH_LISTS = {
    "en": "war hat bin man pour son ton con era hay sin come dove par",
    "de": "mais not",
    "fr": "an as but or",
    "es": "che mes sur",
}
_HOMOGRAPHS = {word: language for language, words in _HOMOGRAPH_LISTS.items() for word in words.split()}
"""The language in which a stop word of another one is a noun, a verb or a name (`cold war`, `red hat`, `dove`)."""
_FIRST_LANGUAGE = 0.5
"""Votes of the main language of an archive when the language of a question is judged, so that it decides ties."""
# Latin letters that Unicode does not decompose into a letter and an accent, replaced as LanceDB does.
_LETTERS = str.maketrans(
    {"æ": "ae", "œ": "oe", "ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "ħ": "h", "\u0131": "i"}
)

Span = tuple[int, int]


class Mode(StrEnum):
    """Basis of the comparison: words, vectors, or both."""

    HYBRID = "hybrid"
    VECTOR = "vector"
    TEXT = "text"


@dataclass(frozen=True, slots=True)
class Query:
    """A question with its page of the answer (`limit`, `offset`), its mode and its filters.

    Raises:
        InvalidQuery: a value exceeds a limit.

    """

    text: str
    limit: int = 10
    offset: int = 0
    mode: Mode = Mode.HYBRID
    filters: Filters = field(default_factory=Filters)

    def __post_init__(self) -> None:
        """Check the limits, so that no question delays the others."""
        if len(self.text) > MAX_TEXT:
            raise InvalidQuery(f"the query is too long: {len(self.text)} characters, at most {MAX_TEXT}")
        if not 1 <= self.limit <= MAX_LIMIT:
            raise InvalidQuery(f"invalid limit {self.limit}, expected 1 to {MAX_LIMIT}")
        if not 0 <= self.offset <= MAX_OFFSET:
            raise InvalidQuery(f"invalid offset {self.offset}, expected 0 to {MAX_OFFSET}")


@dataclass(frozen=True, slots=True)
class HitSlide:
    """A slide of a hit: its number in the recording, from 1, its times in seconds, and its text."""

    number: int
    start: float
    end: float
    text: str


@dataclass(frozen=True, slots=True)
class SimilarQuery:
    """A moment (`second` of the recording `media_key`) for which similar ones are looked up; the rest is as in `Query`.

    `moment_kind` is its kind, one of KINDS: what is said then, or the slide. Without one of that kind it is the other.

    Raises:
        InvalidQuery: a value exceeds a limit.

    """

    media_key: str
    second: float
    limit: int = 10
    offset: int = 0
    filters: Filters = field(default_factory=Filters)
    moment_kind: str = "speech"

    def __post_init__(self) -> None:
        """Check the limits as for a question."""
        Query("", self.limit, self.offset)
        Filters(recording=self.media_key, kinds=(self.moment_kind,))
        if not 0 <= self.second < float("inf"):
            raise InvalidQuery(f"invalid second {self.second}, expected at least 0")


@dataclass(frozen=True, slots=True)
class Hit:
    """A moment as the search returns it: times in seconds from the start of the recording, `score` in [0, 1].

    `sentence` and `matches` are character ranges in `text`. `slide` is the slide that was found there. If `text`
    is that of the slide, `said` is the best sentence meanwhile.
    """

    media_key: str
    recording: str
    start: float
    end: float
    text: str
    sentence: tuple[int, int]
    matches: tuple[tuple[int, int], ...]
    context_start: float
    context_end: float
    score: float
    weak: bool
    language: str
    speaker: str | None
    recorded: date | None
    duration_s: float | None
    kind: str = "speech"
    slide: HitSlide | None = None
    said: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """Moments, best first, and the number of searchable passages; `note` says why `mode` is not the one asked for."""

    hits: tuple[Hit, ...]
    more: bool
    passages: int
    mode: Mode
    note: str = ""


class Spoken(Protocol):
    """The languages of an archive, that of most passages first (`Vocabulary`)."""

    @property
    def languages(self) -> Sequence[str]:
        """The languages of the passages."""
        ...

    def languages_of(self, folded: str) -> Collection[str]:
        """Return the languages of the passages with a word of this folded form."""
        ...


class Token(NamedTuple):
    """A word of a text: its character range, and its folded form (lower case, without accents)."""

    start: int
    end: int
    text: str
    folded: str


@dataclass(frozen=True, slots=True)
class ParsedQuery:
    """A parsed question: `phrases` and `terms` are folded words, `meaning` is the text to encode.

    `typed` is every word outside of phrases, including frequent words and repetitions. `quoted` (the phrases), `loose`
    (the terms) and `spelt` (each term) are the texts for LanceDB, as typed: its index removes accents from Latin
    letters only, and splits words where `tokens` splits characters. `unquoted` is the text outside of phrases;
    `unfinished` is its last term if nothing follows it, since it may be being typed, else "".
    """

    phrases: tuple[tuple[str, ...], ...]
    terms: tuple[str, ...]
    typed: tuple[str, ...]
    meaning: str
    quoted: tuple[str, ...]
    loose: str
    spelt: Mapping[str, str]
    unquoted: str
    unfinished: str

    @property
    def words(self) -> tuple[str, ...]:
        """Every word that may be highlighted, phrases first."""
        return tuple(dict.fromkeys([word for phrase in self.phrases for word in phrase] + list(self.terms)))

    def terms_in(self, span: Span) -> list[str]:
        """Return the terms in a character range of `unquoted`."""
        return [
            token.folded
            for token in tokens(self.unquoted)
            if span[0] <= token.start < span[1] and token.folded in self.terms
        ]


def parse_query(text: str, spoken: Spoken | None = None) -> ParsedQuery:
    """Parse a question: text in double quotes is a phrase; frequent words count only if there are no others.

    A stop word that may be a word of another language is frequent unless the words beside it, as they occur in the
    archive `spoken`, are rather of that language.
    """
    clean = "".join(c if is_encodable(c) and unicodedata.category(c) != "Cc" else " " for c in text)
    plain = unicodedata.normalize("NFC", clean)
    quotes = _quotes(plain)
    phrases = [found for first, last in quotes if (found := tuple(tokens(plain[first + 1 : last])))]
    edges = [0, *(edge for first, last in quotes for edge in (first, last + 1)), len(plain)]
    unquoted = " ".join(plain[start:end] for start, end in zip(edges[::2], edges[1::2], strict=True))
    loose = tuple(tokens(unquoted))
    informative = _informative(loose, unquoted, [token for phrase in phrases for token in phrase], spoken)
    used = informative or (() if phrases else loose)
    terms = tuple(dict.fromkeys(token.folded for token in used))[:MAX_TERMS]
    used = tuple(token for token in used if token.folded in terms)
    is_open = bool(used) and used[-1] == loose[-1] and used[-1].end == len(unquoted)
    marks = {edge for span in quotes for edge in span}
    meaning = " ".join("".join(" " if at in marks else c for at, c in enumerate(plain)).split())
    return ParsedQuery(
        phrases=tuple(tuple(token.folded for token in phrase) for phrase in phrases),
        terms=terms,
        typed=tuple(token.folded for token in loose),
        meaning=meaning if _WORD.search(meaning) else "",
        quoted=tuple(map(_typed, phrases)),
        loose=_typed(used),
        spelt={token.folded: token.folded if token.folded.isascii() else token.text.lower() for token in used},
        unquoted=unquoted,
        unfinished=used[-1].folded if is_open else "",
    )


def _quotes(text: str) -> list[Span]:
    """Return the positions of the opening and the closing quote of each phrase.

    A quote opens at the start of a word, so inch marks (`12"`) open no phrase. The next one closes it, except inside
    of a Hebrew word (`צה"ל`).
    """
    found = []
    opened: int | None = None
    for match in _QUOTE.finditer(text):
        at = match.start()
        if opened is None:
            opened = None if at and _joins(text[at - 1]) else at
        elif not (_is_hebrew(text[at - 1]) and _is_hebrew(text[at + 1 : at + 2])):
            found.append((opened, at))
            opened = None
    return found


def _joins(character: str) -> bool:
    """Return whether a quote beside this character is beside a word; scripts without spaces have no such edges."""
    return (character.isalnum() or unicodedata.category(character)[0] == "M") and not is_unspaced(character)


def _is_hebrew(character: str) -> bool:
    return "\u0590" <= character <= "\u05ff"


def _informative(
    loose: Sequence[Token], text: str, quoted: Sequence[Token], spoken: Spoken | None
) -> tuple[Token, ...]:
    """Return the words of a question that say something about a moment."""
    names = [match.span() for match in _INITIALS.finditer(text)]
    if not all(token.text.isupper() for token in (*loose, *quoted)):
        names += [(token.start, token.end) for token in loose if _is_abbreviation(token)]
    kept = [
        token
        for token in loose
        if not is_frequent(token) or any(_covers(name, token.start, token.end) for name in names)
    ]
    homographs = [token for token in loose if token.text.lower() in _HOMOGRAPHS and token not in kept]
    if homographs and spoken is not None:
        votes = _votes([token for token in (*loose, *quoted) if token.text.lower() not in _HOMOGRAPHS], spoken)
        kept += [token for token in homographs if not _is_stopped(token, votes)]
    return tuple(sorted(kept))


def _is_abbreviation(token: Token) -> bool:
    return token.text.isupper() and len(token.text) > 1


def _votes(words: Sequence[Token], spoken: Spoken) -> Mapping[str, float]:
    """Return the number of words of a question in each language: its stop words, and words of the archive."""
    votes = {(*spoken.languages, "en")[0]: _FIRST_LANGUAGE}
    for token in words:
        for language in _STOPPED_IN.get(token.text.lower()) or spoken.languages_of(token.folded):
            votes[language] = votes.get(language, 0.0) + 1
    return votes


def _is_stopped(token: Token, votes: Mapping[str, float]) -> bool:
    """Return whether the question is rather of a language in which this word is a stop word."""
    word = token.text.lower()
    as_stop_word = max(votes.get(language, 0.0) for language in _STOPPED_IN[word])
    return as_stop_word >= votes.get(_HOMOGRAPHS[word], 0.0)


def _typed(words: Sequence[Token]) -> str:
    """Join words as they were typed; characters without a space between them stay together."""
    text, end = "", -1
    for token in words:
        text += token.text if token.start == end else f" {token.text}"
        end = token.end
    return text.strip()


@lru_cache(maxsize=512)
def tokens(text: str) -> tuple[Token, ...]:
    """Return the words of a text; in scripts without spaces, each character is a word."""
    if text.isascii():
        words = zip(_WORD.finditer(text), _WORD.findall(text.lower()), strict=True)
        return tuple(Token(*match.span(), match[0], folded) for match, folded in words)
    return tuple(_tokens(text))


def _tokens(text: str) -> Iterator[Token]:
    for match in _WORD.finditer(text):
        start = match.start()
        run = match[0]
        if run.isascii() or not any(map(is_unspaced, run)):
            yield Token(start, match.end(), run, fold(run))
            continue
        for offset, character in enumerate(run):
            yield Token(start + offset, start + offset + 1, character, fold(character))


def is_frequent(token: Token) -> bool:
    """Return whether the word is so frequent that it says little about a moment."""
    return token.text.lower() in _STOPPED_IN


def fold(word: str) -> str:
    """Return the word in lower case and without accents, so that `Café` and `CAFE` are equal."""
    if word.isascii():
        return word.lower()
    decomposed = unicodedata.normalize("NFKD", word.casefold().translate(_LETTERS))
    return "".join(character for character in decomposed if not unicodedata.combining(character)) or word


@lru_cache(maxsize=8192)
def words_of(text: str) -> frozenset[str]:
    """Return the folded words of a text."""
    if text.isascii():
        return frozenset(_WORD.findall(text.lower()))
    return frozenset(token.folded for token in _tokens(text))


def count_held(text: str, groups: Iterable[Iterable[str]]) -> int:
    """Return in how many of the groups a text holds one of the (folded) words."""
    if not text.isascii():
        held = words_of(text)
        return sum(not held.isdisjoint(words) for words in groups)
    # Texts in ASCII, the most, are not split into words for that.
    lower = text.lower()
    return sum(_holds_any(lower, words) for words in groups)


def _holds_any(lower: str, words: Iterable[str]) -> bool:
    return any(word in lower and _is_word_in(lower, word) for word in words)


def _is_word_in(text: str, word: str) -> bool:
    """Return whether an ASCII text in lower case holds the word, not only as a part of longer words."""
    start = text.find(word)
    while start >= 0:
        end = start + len(word)
        if not _is_in_word(text[start - 1 : start]) and not _is_in_word(text[end : end + 1]):
            return True
        start = text.find(word, start + 1)
    return False


def _is_in_word(character: str) -> bool:
    return character.isalnum() or character == "_"


def spans(text: str, words: frozenset[str]) -> list[tuple[int, int]]:
    """Return the character ranges of these folded words in a text."""
    if text.isascii():
        return [match.span() for match in _WORD.finditer(text.lower()) if match[0] in words]
    return [(token.start, token.end) for token in tokens(text) if token.folded in words]


def is_like(word: str, other: str) -> bool:
    """Return whether two folded words are equal but for one letter (two in long words) or an ending."""
    if word == other:
        return True
    shorter, longer = sorted((word, other), key=len)
    if len(shorter) < FUZZY_LENGTH or shorter[0] != longer[0]:
        return False
    if len(longer) - len(shorter) <= 2 and longer.startswith(shorter):  # noqa: PLR2004 -- -s, -ed, -es, -en
        return not any(map(str.isdigit, longer))
    if any(map(str.isdigit, word + other)):
        return False
    edits = allowed_edits(shorter)
    return OSA.distance(shorter, longer, score_cutoff=edits) <= edits  # a swap of neighbours counts once


def is_inflected(word: str, other: str) -> bool:
    """Return whether two folded words differ by an ending of at most two letters (`-s`, `-ed`, `-en`)."""
    shorter, longer = sorted((word, other), key=len)
    if len(shorter) < FUZZY_LENGTH:
        return longer == f"{shorter}s" and len(shorter) == FUZZY_LENGTH - 1
    return 0 < len(longer) - len(shorter) <= 2 and longer.startswith(shorter) and longer.isalpha()  # noqa: PLR2004


def allowed_edits(word: str) -> int:
    """Return the number of wrong letters that a word may have in a fuzzy match."""
    if not FUZZY_LENGTH <= len(word) <= FUZZY_LONGEST or any(map(str.isdigit, word)):
        return 0
    return 1 if len(word) < 2 * FUZZY_LENGTH else 2


@dataclass(frozen=True, slots=True)
class HighlightPart:
    """A run of text with the same highlighting: in the best sentence or not, a word of the question or not."""

    text: str
    sentence: bool
    match: bool


def split_highlights(text: str, sentence: Span, matches: Sequence[Span]) -> list[HighlightPart]:
    """Split the text into parts that join to the whole; spans are clipped to the text."""
    edges = {0, len(text)} | {edge for span in (sentence, *matches) for edge in span if 0 < edge < len(text)}
    borders = sorted(edges)
    return [
        HighlightPart(text[a:b], _covers(sentence, a, b), any(_covers(match, a, b) for match in matches))
        for a, b in pairwise(borders)
    ]


def _covers(span: Span, start: int, end: int) -> bool:
    return span[0] <= start and end <= span[1]
