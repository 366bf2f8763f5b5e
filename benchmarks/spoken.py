"""Synthesised speech with word times, which the synthesiser reports. Linux, with Debian's packages.

Flite and eSpeak NG are called through their shared libraries: `apt-get install flite espeak-ng`.
"""

import ctypes
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

RATE = 16_000
AUDIBLE = 0.02
"""Share of a phrase's peak above which samples are speech and not the silence that the synthesiser adds at its ends."""

Samples = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class SpokenWord:
    """A word and its start and end in the samples, in seconds."""

    text: str
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Phrase:
    """Samples (float32, mono, 16 kHz) and the words in them."""

    samples: Samples
    words: tuple[SpokenWord, ...]

    def trimmed(self) -> "Phrase":
        """Return the phrase without silence at both ends; the first and last word are limited to the sound."""
        loud = np.flatnonzero(np.abs(self.samples) > AUDIBLE * np.abs(self.samples).max())
        first, last = int(loud[0]), int(loud[-1]) + 1
        moved = [
            SpokenWord(word.text, max(word.start - first / RATE, 0.0), min(word.end, last / RATE) - first / RATE)
            for word in self.words
        ]
        return Phrase(self.samples[first:last], tuple(moved))


def speak(text: str, voice: str) -> Phrase:
    """Synthesise one phrase; `voice` is `program:voice`, such as `flite:slt` or `espeak:en-gb`.

    Raises:
        OSError: the synthesiser is not installed.

    """
    program, name = voice.split(":")
    return _flite(text, name) if program == "flite" else _espeak(text, name)


class _FliteWave(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_char_p),
        ("sample_rate", ctypes.c_int),
        ("num_samples", ctypes.c_int),
        ("num_channels", ctypes.c_int),
        ("samples", ctypes.POINTER(ctypes.c_short)),
    )


@cache
def _flite_library() -> Any:
    for name in ("libflite_usenglish.so.1", "libflite_cmulex.so.1"):
        ctypes.CDLL(name, mode=ctypes.RTLD_GLOBAL)
    library = ctypes.CDLL("libflite.so.1", mode=ctypes.RTLD_GLOBAL)
    pointer: Any = ctypes.c_void_p
    string: Any = ctypes.c_char_p
    signatures: tuple[tuple[Any, Any, list[Any]], ...] = (
        (library.flite_synth_text, pointer, [string, pointer]),
        (library.utt_relation, pointer, [pointer, string]),
        (library.relation_head, pointer, [pointer]),
        (library.item_next, pointer, [pointer]),
        (library.ffeature_float, ctypes.c_float, [pointer, string]),
        (library.ffeature_string, string, [pointer, string]),
        (library.utt_wave, ctypes.POINTER(_FliteWave), [pointer]),
        (library.delete_utterance, None, [pointer]),
    )
    for function, result, arguments in signatures:
        function.restype, function.argtypes = result, arguments
    library.flite_init()
    return library


@cache
def _flite_voice(name: str) -> int:
    library = ctypes.CDLL(f"libflite_cmu_us_{name}.so.1", mode=ctypes.RTLD_GLOBAL)
    register = getattr(library, f"register_cmu_us_{name}")
    register.restype, register.argtypes = ctypes.c_void_p, [ctypes.c_char_p]
    return int(register(None))


def _flite(text: str, name: str) -> Phrase:
    library = _flite_library()
    utterance = library.flite_synth_text(text.encode(), _flite_voice(name))
    wave = library.utt_wave(utterance).contents
    samples = _as_float(wave.samples, wave.num_samples)
    words = []
    item = library.relation_head(library.utt_relation(utterance, b"Word"))
    while item:
        start = library.ffeature_float(item, b"R:SylStructure.daughter1.daughter1.R:Segment.p.end")
        end = library.ffeature_float(item, b"R:SylStructure.daughtern.daughtern.R:Segment.end")
        words.append(SpokenWord(library.ffeature_string(item, b"name").decode(), start, end))
        item = library.item_next(item)
    rate = wave.sample_rate
    library.delete_utterance(utterance)
    return Phrase(_resampled(samples, rate), tuple(words))


class _EspeakEvent(ctypes.Structure):
    """`espeak_EVENT` of speak_lib.h; `id` is a union of 8 bytes."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", ctypes.c_char * 8),
    )


_SYNCHRONOUS, _UTF8, _WORD, _END = 2, 1, 1, 5
_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_EspeakEvent))


@cache
def _espeak_library() -> tuple[Any, int]:
    library = ctypes.CDLL("libespeak-ng.so.1")
    return library, library.espeak_Initialize(_SYNCHRONOUS, 200, None, 0)


def _espeak(text: str, name: str) -> Phrase:
    library, rate = _espeak_library()
    pieces: list[Samples] = []
    marks: list[tuple[int, int, int]] = []
    ends: list[int] = []

    def take(wave: Any, count: int, events: Any) -> int:
        if wave and count:
            pieces.append(_as_float(wave, count))
        number = 0
        while events[number].type:
            event = events[number]
            if event.type == _WORD:
                marks.append((event.text_position, event.length, event.audio_position))
            elif event.type == _END:
                ends.append(event.audio_position)
            number += 1
        return 0

    callback = _CALLBACK(take)  # referenced until the speech is made: the library holds no reference
    library.espeak_SetSynthCallback(callback)
    library.espeak_SetVoiceByName(name.encode())
    data = text.encode()
    library.espeak_Synth(data, len(data) + 1, 0, 1, 0, _UTF8, None, None)
    samples = _resampled(np.concatenate(pieces), rate)
    starts = [at / 1000 for _, _, at in marks]
    limits = [*starts[1:], len(samples) / RATE]
    words = [
        SpokenWord(text[at - 1 : at - 1 + length], start, end)
        for (at, length, _), start, end in zip(marks, starts, limits, strict=True)
    ]
    return Phrase(samples, tuple(words))


def _as_float(wave: Any, count: int) -> Samples:
    """Copy 16-bit samples of a library to float32 in [-1, 1)."""
    return np.ctypeslib.as_array(wave, (count,)).astype(np.float32) / np.float32(32768)


def _resampled(samples: Samples, rate: int) -> Samples:
    """Resample to 16 kHz; linear interpolation is enough for a voice."""
    if rate == RATE:
        return samples
    seconds = len(samples) / rate
    at = np.arange(int(seconds * RATE)) / RATE
    return np.interp(at, np.arange(len(samples)) / rate, samples).astype(np.float32)


def joined(phrases: Sequence[Phrase], pauses: Sequence[float]) -> Phrase:
    """Join the phrases, each after a pause of silence in seconds."""
    samples: list[Samples] = []
    words: list[SpokenWord] = []
    length = 0
    for phrase, pause in zip(phrases, pauses, strict=True):
        silent = round(pause * RATE)
        samples += [np.zeros(silent, np.float32), phrase.samples]
        start = (length + silent) / RATE
        words += [SpokenWord(word.text, word.start + start, word.end + start) for word in phrase.words]
        length += silent + len(phrase.samples)
    return Phrase(np.concatenate(samples), tuple(words))


def phrases_of(text: str, cut: Iterator[float]) -> list[str]:
    """Split a sentence after its commas, and after other words if the next number of `cut` is below 0.12."""
    parts: list[list[str]] = [[]]
    for word in text.split():
        parts[-1].append(word)
        if word[-1] in ",;:" or (len(parts[-1]) > 1 and next(cut) < 0.12):
            parts.append([])
    return [" ".join(part) for part in parts if part]
