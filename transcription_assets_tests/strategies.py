"""Hypothesis strategies for speech as decoders produce it, and worse."""

from hypothesis import strategies as st

from transcription_assets.domain.transcript import Segment, Word

PLAIN = [" the", " and", " so", " mountain", " we", " extraordinarily", " I", " sea", " over", " then"]
MARKED = [" home.", " well,", " why?", " no!", " Dr.", " 3", ".5", " U.S.", " wait...", " !", "'s", " (so)"]
UNSPACED = [
    "今日",
    "は",
    "。",
    "晴れ",
    "、",
    "「",
    "」",
    "ประ",
    "เทศ",
    "ไ",
    "ทย",
    "你",
    "好",
    "！",  # noqa: RUF001 (the mark itself)
    "っ",
    "ー",
    "ភាសាខ្មែរជា",
    "ພາ",
    "ສາ",
    "မြန်",
    "မာ",
]
HOSTILE = [
    " <b>",
    " &",
    " -->",
    " a\nb",
    "\r\n",
    " ",
    "",
    " {\\an8}",
    " C:\\new\\house",
    " &amp;",
    " مرحبا",
    " שלום",
    " 👩‍👩‍👧",
    " e\u0301",
    "\u0301",
    " \x00",
    " " + "x" * 200,
    " 42",
    "\u2028",
    " \ufeff",
]
texts = st.sampled_from(PLAIN * 4 + MARKED * 2 + UNSPACED + HOSTILE)
steps = st.sampled_from([0.0, 0.0, 0.02, 0.1, 0.25, 0.4, 0.9])
gaps = st.sampled_from([0.0, 0.0, 0.0, 0.0, 0.05, 0.2, 0.6, 1.6, 9.0, 300.0])


@st.composite
def words(draw: st.DrawFn, max_size: int = 80) -> list[Word]:
    """Words in time order, some of zero duration, some after a long silence."""
    clock, spoken = draw(gaps), []
    for text in draw(st.lists(texts, max_size=max_size)):
        start = round(clock + draw(gaps), 3)
        clock = round(start + draw(steps), 3)
        spoken.append(Word(start, clock, text, 0.5))
    return spoken


@st.composite
def segments(draw: st.DrawFn) -> tuple[Segment, ...]:
    """Words cut into segments at arbitrary places; some segments have lost their words."""
    rest, result = draw(words()), []
    while rest:
        size = draw(st.integers(1, 30))
        taken, rest = rest[:size], rest[size:]
        text = "".join(word.word for word in taken).strip()
        kept = taken if draw(st.integers(0, 4)) else []
        result.append(segment(text, taken[0].start, taken[-1].end, kept, number=len(result)))
    return tuple(result)


def segment(text: str, start: float, end: float, words: list[Word] | None = None, *, number: int = 0) -> Segment:
    """Return a segment; without `words`, the tokens of its text share its time evenly."""
    if words is None:
        tokens = text.split()
        step = (end - start) / max(1, len(tokens))
        words = [
            Word(round(start + i * step, 3), round(start + (i + 1) * step, 3), f" {token}", 0.9)
            for i, token in enumerate(tokens)
        ]
    return Segment(number, start, end, text, tuple(words), -0.2, 0.01, 1.3)


def letters(text: str) -> str:
    """Return the characters that must not get lost: all except white space and control characters."""
    return "".join(c for c in text if (c.isprintable() and not c.isspace()) or c in "\u200d\ufeff")
