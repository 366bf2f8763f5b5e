r"""Make the sample recordings from the texts in `talks/`.

Every talk is a TOML file (title, voice, language, colours, slides) with a picture of the same name beside it.
Its sentences are spoken one by one, so the second at which each starts is known: `recordings.json` keeps that
as the truth for tests and evaluation. The recordings are committed; run this only when a text, a voice or a
picture changes.

Needs Python 3.11 and, on Debian 12, no more than

    apt-get install --no-install-recommends flite festival festvox-italp16k ffmpeg librsvg2-bin \
        fonts-ebgaramond fonts-lato

Run it from anywhere; with the same package versions it makes the same bytes again:

    python demo/make_recordings.py
"""

from __future__ import annotations

import json
import math
import subprocess
import tempfile
import tomllib
import wave
from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

HERE = Path(__file__).resolve().parent
TALKS = HERE / "talks"
RECORDINGS = HERE / "recordings"
TRUTH = HERE / "recordings.json"

RATE = 16_000
SILENCE_BEFORE = 0.8
SILENCE_BETWEEN_SENTENCES = 0.45
SILENCE_BETWEEN_SLIDES = 1.0
SILENCE_AFTER = 1.5
SPEECH_RMS = 0.1
SPEECH_PEAK = 0.89
AUDIBLE = 0.01
TRIM_MARGIN = 0.03

FRAMES_PER_SECOND = 5
SECONDS_BETWEEN_KEYFRAMES = 6
VIDEO_QUALITY = 27
AUDIO_BITRATE = "40k"
ISO_639_2 = {"en": "eng", "it": "ita"}

TYPE_SIZES = {"eyebrow": 16, "heading": 56, "line": 28}
MARGIN = 64
EYEBROW_TOP = 84
HEADING_LEADING = 60
LINE_LEADING = 46
HEADING_TOP = 176


@dataclass(frozen=True)
class Slide:
    """One paragraph of a talk: what is seen, and the sentences that are heard meanwhile."""

    heading: str
    lines: tuple[str, ...]
    sentences: tuple[str, ...]


@dataclass(frozen=True)
class Talk:
    """A recording to be made. `voice` is `program:voice`, `pace` stretches the speech (1.1 is slower)."""

    file: str
    title: str
    language: str
    voice: str
    pace: float
    colours: dict[str, str]
    picture: str
    slides: tuple[Slide, ...]


@dataclass(frozen=True)
class Sentence:
    """A sentence and where it is in the recording, in seconds."""

    start: float
    end: float
    text: str


@dataclass(frozen=True)
class Narration:
    """The sound of a talk, where its sentences are, and how long each slide stays."""

    samples: array[int]
    sentences: tuple[Sentence, ...]
    slide_seconds: tuple[float, ...]


def read_talk(path: Path) -> Talk:
    """Read a talk and the picture beside it."""
    raw: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    return Talk(
        file=raw["file"],
        title=raw["title"],
        language=raw["language"],
        voice=raw["voice"],
        pace=raw["pace"],
        colours=raw["colours"],
        picture=path.with_suffix(".svg").read_text(encoding="utf-8"),
        slides=tuple(Slide(s["heading"], tuple(s["lines"]), tuple(s["spoken"])) for s in raw["slides"]),
    )


# --- sound ---


def speak(text: str, voice: str, pace: float, wav: Path) -> None:
    """Have one sentence spoken into a WAV file."""
    program, name = voice.split(":")
    if program == "flite":
        command = ["flite", "-voice", name, "--setf", f"duration_stretch={pace}", "-t", text, "-o", str(wav)]
        subprocess.run(command, check=True)
    elif program == "festival":
        setup = f"(begin (voice_{name}) (Parameter.set 'Duration_Stretch {pace}))"
        command = ["text2wave", "-F", str(RATE), "-eval", setup, "-o", str(wav)]
        subprocess.run(command, input=text.encode("latin-1"), check=True)
    else:
        message = f"no such speech program: {program}"
        raise ValueError(message)


def read_samples(wav: Path) -> array[int]:
    """Read a 16 kHz, 16 bit, mono WAV file, without the silence at its ends."""
    with wave.open(str(wav), "rb") as reader:
        if (reader.getframerate(), reader.getsampwidth(), reader.getnchannels()) != (RATE, 2, 1):
            message = f"not 16 kHz, 16 bit, mono: {wav}"
            raise ValueError(message)
        samples = array("h", reader.readframes(reader.getnframes()))
    threshold = AUDIBLE * max(abs(sample) for sample in samples)
    audible = [at for at, sample in enumerate(samples) if abs(sample) > threshold]
    margin = round(TRIM_MARGIN * RATE)
    return samples[max(0, audible[0] - margin) : audible[-1] + margin]


def silence(seconds: float) -> array[int]:
    """Make so many seconds of nothing."""
    return array("h", bytes(2 * round(seconds * RATE)))


def levelled(samples: array[int]) -> array[int]:
    """Bring the samples to the loudness that all recordings share, never clipped."""
    spoken = [sample for sample in samples if sample]
    rms = math.sqrt(sum(sample * sample for sample in spoken) / len(spoken))
    gain = 32_767 * min(SPEECH_RMS / rms, SPEECH_PEAK / max(abs(sample) for sample in spoken))
    return array("h", (round(sample * gain) for sample in samples))


def narrate(talk: Talk, work: Path) -> Narration:
    """Speak a talk sentence by sentence and keep note of where each one is."""
    samples = silence(SILENCE_BEFORE)
    sentences: list[Sentence] = []
    slide_ends: list[float] = []
    for slide in talk.slides:
        for text in slide.sentences:
            wav = work / f"sentence-{len(sentences)}.wav"
            speak(text, talk.voice, talk.pace, wav)
            start = len(samples) / RATE
            samples += read_samples(wav)
            sentences.append(Sentence(round(start, 2), round(len(samples) / RATE, 2), text))
            samples += silence(SILENCE_BETWEEN_SENTENCES)
        samples += silence(SILENCE_BETWEEN_SLIDES - SILENCE_BETWEEN_SENTENCES)
        slide_ends.append(len(samples) / RATE - SILENCE_BETWEEN_SLIDES / 2)
    samples += silence(SILENCE_AFTER - SILENCE_BETWEEN_SLIDES)
    slide_ends[-1] = len(samples) / RATE
    slide_starts = [0.0, *slide_ends[:-1]]
    seconds = tuple(end - start for start, end in zip(slide_starts, slide_ends, strict=True))
    return Narration(levelled(samples), tuple(sentences), seconds)


def write_wav(samples: array[int], path: Path) -> None:
    """Write 16 kHz mono."""
    with wave.open(str(path), "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(RATE)
        writer.writeframes(samples.tobytes())


# --- picture ---


def stylesheet(colours: dict[str, str], number: int, count: int) -> str:
    """Set colours and type, and which parts of the picture show: `.from-3`, `.until-3`, `.only-3`."""
    rules = [f".{name}{{fill:{value}}}" for name, value in colours.items()]
    rules += [f".line-{name}{{stroke:{value};fill:none}}" for name, value in colours.items()]
    rules += [f".{kind}{{font-size:{size}px}}" for kind, size in TYPE_SIZES.items()]
    rules += [f".from-{later}{{display:none}}" for later in range(number + 1, count + 1)]
    rules += [f".until-{earlier}{{display:none}}" for earlier in range(1, number)]
    rules += [f".only-{other}{{display:none}}" for other in range(1, count + 1) if other != number]
    rules += [
        ".eyebrow,.line{font-family:Lato}",
        ".eyebrow{letter-spacing:2.4px}",
        ".heading{font-family:'EB Garamond';font-weight:500}",
    ]
    return "\n".join(rules)


def progress(number: int, count: int) -> str:
    """Draw a row of short bars, the ones already reached in the accent colour."""
    bars = [
        f'<rect x="{MARGIN + 40 * at}" y="478" width="32" height="4" rx="2"'
        f' class="{"accent" if at < number else "faint"}"/>'
        for at in range(count)
    ]
    return "".join(bars)


def text_svg(text: str, baseline: int, classes: str) -> str:
    """Set one line of text at the left margin."""
    return f'<text x="{MARGIN}" y="{baseline}" class="{classes}">{escape(text)}</text>'


def slide_svg(talk: Talk, number: int) -> str:
    """Draw the slide with this number (from 1) as an SVG document."""
    slide = talk.slides[number - 1]
    heading = "".join(
        text_svg(part, HEADING_TOP + HEADING_LEADING * row, "heading ink")
        for row, part in enumerate(slide.heading.split("\n"))
    )
    top = HEADING_TOP + HEADING_LEADING * slide.heading.count("\n") + 68
    lines = "".join(text_svg(line, top + LINE_LEADING * row, "line soft") for row, line in enumerate(slide.lines))
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" width="960" height="540" viewBox="0 0 960 540">'
        f"<style>{stylesheet(talk.colours, number, len(talk.slides))}</style>"
        '<rect width="960" height="540" class="paper"/>'
        f'<g transform="translate(576 0)">{talk.picture}</g>'
        f"{text_svg(talk.title.upper(), EYEBROW_TOP, 'eyebrow accent')}"
        f"{heading}{lines}{progress(number, len(talk.slides))}</svg>"
    )


def draw_slides(talk: Talk, work: Path) -> list[Path]:
    """Draw every slide as a PNG."""
    pictures = [work / f"slide-{number}.png" for number in range(1, len(talk.slides) + 1)]
    for number, picture in enumerate(pictures, start=1):
        command = ["rsvg-convert", "--output", str(picture)]
        subprocess.run(command, input=slide_svg(talk, number).encode(), check=True)
    return pictures


# --- recording ---


def slide_show(pictures: list[Path], seconds: tuple[float, ...], work: Path) -> Path:
    """Write the list that ffmpeg's concat demuxer reads; the last picture is named twice, as it asks."""
    entries = [f"file '{p}'\nduration {s:.4f}" for p, s in zip(pictures, seconds, strict=True)]
    path = work / "slides.txt"
    path.write_text("\n".join([*entries, f"file '{pictures[-1]}'\n"]), encoding="utf-8")
    return path


def encode(talk: Talk, slides: Path, sound: Path, length: float) -> Path:
    """Put pictures and sound together into one small MP4 that starts to play before it is all there."""
    target = RECORDINGS / talk.file
    target.parent.mkdir(parents=True, exist_ok=True)
    inputs = ["-f", "concat", "-safe", "0", "-i", str(slides), "-i", str(sound)]
    colour = ["-vf", "scale=out_color_matrix=bt709:out_range=tv", "-colorspace", "bt709"]
    colour += ["-color_primaries", "bt709", "-color_trc", "bt709"]
    video = [
        *colour,
        "-r",
        str(FRAMES_PER_SECOND),
        "-pix_fmt",
        "yuv420p",
        "-c:v",
        "libx264",
        "-preset",
        "veryslow",
    ]
    video += ["-tune", "stillimage", "-crf", str(VIDEO_QUALITY), "-threads", "1"]
    video += ["-flags:v", "+bitexact", "-g", str(FRAMES_PER_SECOND * SECONDS_BETWEEN_KEYFRAMES)]
    audio = ["-c:a", "aac", "-b:a", AUDIO_BITRATE, "-flags:a", "+bitexact"]
    audio += ["-metadata:s:a:0", f"language={ISO_639_2[talk.language]}"]
    whole = ["-t", f"{length:.3f}", "-map_metadata", "-1", "-metadata", f"title={talk.title}"]
    whole += ["-fflags", "+bitexact", "-movflags", "+faststart"]
    quiet = ["ffmpeg", "-y", "-nostdin", "-loglevel", "error"]
    subprocess.run([*quiet, *inputs, *video, *audio, *whole, str(target)], check=True)
    return target


def make(talk: Talk) -> dict[str, Any]:
    """Make one recording; the answer is its entry in the truth."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        narration = narrate(talk, work)
        sound = work / "narration.wav"
        write_wav(narration.samples, sound)
        slides = slide_show(draw_slides(talk, work), narration.slide_seconds, work)
        encode(talk, slides, sound, len(narration.samples) / RATE)
    return {
        "file": talk.file,
        "title": talk.title,
        "language": talk.language,
        "duration": round(len(narration.samples) / RATE, 2),
        "text": " ".join(sentence.text for sentence in narration.sentences),
        "sentences": [{"start": s.start, "end": s.end, "text": s.text} for s in narration.sentences],
    }


def main() -> None:
    """Make all recordings and write their truth."""
    truth = [make(read_talk(path)) for path in sorted(TALKS.glob("*.toml"))]
    TRUTH.write_text(json.dumps(truth, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
