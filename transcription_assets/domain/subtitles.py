"""Subtitles: at most two lines each, broken at clauses where possible, and displayed long enough to be read.

The limits are those of the Netflix and BBC guides for subtitles.
"""

import html
import math
import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from transcription_assets.domain.text import ends_clause, phrases, sentence_runs, spoken_words, whole_words
from transcription_assets.domain.transcript import Transcript, Word

COLUMNS = 42
"""Maximum line width; a Chinese or Japanese character takes two columns."""

COLUMNS_PER_S = 17
"""Reading speed of an adult: a subtitle stays longer than its speech if reading takes longer."""

SHORTEST_MS = 833
LONGEST_MS = 7000
"""Five sixths of a second is the least in which text is noticed; after seven it is read a second time."""

GAP_MS = 80
"""Two frames: with less, the change of text is not visible."""

CHAIN_MS = 500
"""A shorter gap flickers: the subtitle stays until the next one."""

_BREATH_MS = 300
_BREAK_BONUS = 0.5  # may move a break by a quarter of the width, no further
_BACKSLASH = "\0"


@dataclass(frozen=True, slots=True)
class Cue:
    """One subtitle: seconds from the start of the medium, one or two lines of plain text."""

    start: float
    end: float
    text: str
    speaker: str = ""


def cues(words: Sequence[Word], *, duration: float | None = None) -> list[Cue]:
    """Lay words out as subtitles: in order, none lost, no overlap, in whole milliseconds.

    Only a word wider than COLUMNS makes a line wider than that; it has a subtitle of its own. A subtitle starts with
    its first word; it ends with its last one, or later if reading takes longer, but not after the next one starts nor
    after `duration` (seconds). None is longer than LONGEST_MS, and none has no length.
    """
    blocks = _blocks([phrases(run, _columns, COLUMNS) for run in sentence_runs(whole_words(words))])
    return _timed([part for block in blocks for part in _parts(block)], duration)


def _of_speakers(transcript: Transcript) -> list[Cue]:
    """Return the subtitles of all speakers by start time: simultaneous speech is displayed simultaneously."""
    speakers = dict.fromkeys(segment.speaker for segment in transcript.segments)
    found = [
        replace(cue, speaker=name)
        for name in speakers
        for cue in cues(
            spoken_words(item for item in transcript.segments if item.speaker == name), duration=transcript.duration
        )
    ]
    return sorted(found, key=lambda cue: cue.start)


def to_srt(transcript: Transcript) -> str:
    """Return the transcript as a SubRip file; empty if there is no speech."""
    return _written(transcript, "srt", _srt_text)


def to_vtt(transcript: Transcript) -> str:
    """Return the transcript as a WebVTT file; only its header if there is no speech."""
    return _written(transcript, "vtt", _vtt_text)


def _blocks(runs: Sequence[list[Word]]) -> list[list[Word]]:
    """Return the sentences; one too short to be read alone is joined to the previous one if that ended just before."""
    blocks: list[list[Word]] = []
    for run in runs:
        is_short = bool(blocks) and min(_span_ms(blocks[-1]), _span_ms(run)) < SHORTEST_MS
        if is_short and _ms(run[0].start) - _ms(blocks[-1][-1].end) < CHAIN_MS:
            blocks[-1] = blocks[-1] + run
        else:
            blocks.append(run)
    return blocks


def _parts(words: list[Word]) -> list[list[Word]]:
    """Split the block into parts that each fit a subtitle, as equal and as well ended as possible."""
    if len(words) == 1 or (_lines(words) and _span_ms(words) <= LONGEST_MS):
        return [words]
    middle = _best_break(words)
    return _parts(words[:middle]) + _parts(words[middle:])


def _lines(words: Sequence[Word]) -> list[str]:
    """Return one line, or two of about equal width; empty if the words do not fit."""
    whole = _text(words)
    if len(words) == 1 or _columns(whole) <= COLUMNS:
        return [whole]
    middle = _best_break(words, COLUMNS)
    lines = [_text(words[:middle]), _text(words[middle:])]
    return lines if max(map(_columns, lines)) <= COLUMNS else []


def _best_break(words: Sequence[Word], widest: float = math.inf) -> int:
    """Return the index at which to split words: the middle, or a natural break near it."""
    text_widths = [_columns(word.word) for word in words]
    total = sum(text_widths)

    def cost(item: tuple[int, int]) -> tuple[bool, float]:
        index, left = item
        right = total - left - words[index].word.startswith(" ")
        left -= words[0].word.startswith(" ")
        bonus = _BREAK_BONUS if _is_natural(words[index - 1], words[index]) else 0.0
        return max(left, right) > widest, abs(left - right) / max(1, total) - bonus

    return min(enumerate(accumulate(text_widths[:-1]), start=1), key=cost)[0]


def _is_natural(word: Word, following: Word) -> bool:
    return ends_clause(word.word) or _ms(following.start) - _ms(word.end) >= _BREATH_MS


def _timed(parts: Sequence[Sequence[Word]], duration: float | None) -> list[Cue]:
    starts = _starts(parts)
    timed: list[Cue] = []
    for index, (part, start) in enumerate(zip(parts, starts, strict=True)):
        text = "\n".join(_lines(part))
        following = starts[index + 1] if index + 1 < len(starts) else None
        latest = _latest(start, following, duration)
        timed.append(Cue(start / 1000, _end(start, _ms(part[-1].end), latest, text) / 1000, text))
    return timed


def _latest(start: int, following: int | None, duration: float | None) -> int:
    """Return the latest end (ms): two frames before the next subtitle, the end of the medium, or after LONGEST_MS."""
    longest = start + LONGEST_MS
    if following is not None:
        has_room = following - start > 2 * GAP_MS
        return min(following - GAP_MS if has_room else following, longest)
    return longest if duration is None else min(max(int(duration * 1000), start + 1), longest)


def _starts(parts: Sequence[Sequence[Word]]) -> list[int]:
    """Return the starts (ms); parts at the same instant are moved apart, as players skip a cue of no length."""
    starts: list[int] = []
    for part in parts:
        start = _ms(part[0].start)
        starts.append(max(start, starts[-1] + 1) if starts else start)
    return starts


def _end(start: int, spoken: int, latest: int, text: str) -> int:
    """Return the end (ms): when it is spoken and can be read; `latest` if the gap would only flicker."""
    readable = start + max(SHORTEST_MS, math.ceil(_columns(text) * 1000 / COLUMNS_PER_S))
    end = min(max(spoken, readable), latest)
    return latest if latest - end < CHAIN_MS else end


def _written(transcript: Transcript, file_format: str, escape: Callable[[str, str], str]) -> str:
    import pysubs2

    subtitles = pysubs2.SSAFile()
    for cue in _of_speakers(transcript):
        # pysubs2 turns a backslash with `n` or `h` into white space: backslashes are replaced before and restored
        # after.
        text = escape(cue.text, cue.speaker).replace("\\", _BACKSLASH)
        subtitles.append(pysubs2.SSAEvent(start=_ms(cue.start), end=_ms(cue.end), text=text))
    # Otherwise text in braces would be parsed as a style and dropped.
    return subtitles.to_string(file_format, keep_ssa_tags=True).replace(_BACKSLASH, "\\")


def _vtt_text(text: str, speaker: str) -> str:
    """Escape text, which pysubs2 does not: in WebVTT `<` opens a tag, `&` an escape, and `-->` makes a time line."""
    escaped = html.escape(text, quote=False)
    return f"<v {html.escape(speaker, quote=False)}>{escaped}" if speaker else escaped


def _srt_text(text: str, speaker: str) -> str:
    """Break tags and time lines by an invisible word joiner: SubRip has no escapes."""
    return re.sub(r"[<{]|--(?=>)", "\\g<0>\N{WORD JOINER}", f"{speaker}: {text}" if speaker else text)


def _text(words: Sequence[Word]) -> str:
    return "".join(word.word for word in words).strip()


def _columns(text: str) -> int:
    return len(text) if text.isascii() else sum(_width(character) for character in text)


def _width(character: str) -> int:
    if unicodedata.category(character) in {"Mn", "Me", "Cf", "Cc"}:
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _span_ms(words: Sequence[Word]) -> int:
    return _ms(words[-1].end) - _ms(words[0].start)


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
