"""Word error rate and speed over recordings with reference texts, for several configurations."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from transcription_assets import media
from transcription_assets.domain import media_keys
from transcription_assets.errors import PermanentFailure
from transcription_assets.evaluation import competitors, wer
from transcription_assets.evaluation.competitors import Configuration, Outcome
from transcription_assets.evaluation.wer import Errors


@dataclass(frozen=True, slots=True)
class ReferenceRecording:
    """A recording, its length in seconds, and its reference text, None if there is none."""

    path: Path
    seconds: float
    reference: str | None


@dataclass(slots=True)
class Result:
    """One configuration with the outcomes of its runs."""

    entry: Configuration
    outcomes: list[Outcome] = field(default_factory=list)

    @property
    def wall_s(self) -> float:
        """Median over the runs."""
        return median(outcome.wall_s for outcome in self.outcomes)

    @property
    def peak_mb(self) -> float:
        """Maximum over the runs."""
        return max(outcome.peak_mb for outcome in self.outcomes)

    @property
    def coverage(self) -> float | None:
        """Share of voiced time with words, averaged over the recordings; None if the system does not report it."""
        reported = [text.coverage for text in self.outcomes[-1].texts if text.coverage is not None]
        return sum(reported) / len(reported) if reported else None

    def errors(self, recordings: Sequence[ReferenceRecording]) -> list[Errors | None]:
        """Count the errors of each recording; None for those without a reference text."""
        return [
            None if item.reference is None else wer.errors(item.reference, recognised.text, recognised.language)
            for item, recognised in zip(recordings, self.outcomes[-1].texts, strict=True)
        ]


def find_recordings(paths: Sequence[Path], *, texts: bool) -> list[ReferenceRecording]:
    """Return the recordings in folders and files, with the text of `a.wav` from `a.txt` beside it.

    With `texts`, recordings without a text are left out.

    Raises:
        PermanentFailure: there are no such recordings, or one of them or its text cannot be read.
        TransientFailure: ffmpeg cannot be started.

    """
    files = sorted({file for path in paths for file in (path.rglob("*") if path.is_dir() else [path])})
    recordings = [file for file in files if file.is_file() and media_keys.is_media(file.name)]
    reference = {file: _reference_text(file) for file in recordings}
    selected = [file for file in recordings if reference[file] is not None or not texts]
    if not selected:
        kind = "recordings with a text beside them (a.wav and a.txt)" if texts else "recordings"
        raise PermanentFailure(f"no {kind} in {', '.join(map(str, paths))}", hint="name other files or folders")
    ffmpeg = media.find_ffmpeg()
    return [ReferenceRecording(file, _seconds(file, ffmpeg), reference[file]) for file in selected]


def _reference_text(file: Path) -> str | None:
    text = file.with_suffix(".txt")
    try:
        return text.read_text(encoding="utf-8-sig") if text.is_file() else None
    except UnicodeDecodeError as error:
        raise PermanentFailure(f"{text} is not valid UTF-8: save it as UTF-8", hint="save it as UTF-8") from error


def _seconds(file: Path, ffmpeg: str) -> float:
    return media.probe(str(file), file.name, ffmpeg=ffmpeg, limit_s=60.0).duration or 0.0


def measure(
    entries: Sequence[Configuration],
    recordings: Sequence[ReferenceRecording],
    rounds: int,
    report: Callable[[str], None],
) -> list[Result]:
    """Run every configuration once per round, in turns, so that other load on the machine affects all of them.

    Raises:
        TranscriptionError: our own engine failed on a recording; other systems raise their own exceptions.

    """
    results = [Result(entry) for entry in entries]
    for number in range(rounds):
        for result in results:
            report(f"round {number + 1} of {rounds}: {result.entry.name}")
            result.outcomes.append(competitors.run(result.entry, [item.path for item in recordings]))
    return results


def document(results: Sequence[Result], recordings: Sequence[ReferenceRecording]) -> dict[str, Any]:
    """Return all results as JSON values."""
    seconds = sum(item.seconds for item in recordings)
    return {
        "recordings": [{"path": str(item.path), "seconds": item.seconds} for item in recordings],
        "configurations": [
            {
                "name": result.entry.name,
                **{name: value for name, value in asdict(result.entry).items() if name != "path"},
                **_errors(wer.total(item for item in result.errors(recordings) if item is not None)),
                "coverage": result.coverage,
                "rtfx": round(seconds / result.wall_s, 2),
                "wall_s": [round(outcome.wall_s, 2) for outcome in result.outcomes],
                "cpu_s": [round(outcome.cpu_s, 2) for outcome in result.outcomes],
                "peak_mb": round(result.peak_mb),
                "files": [
                    {"path": str(item.path), "text": recognised.text, "language": recognised.language}
                    | (_errors(errors_of_file) if errors_of_file else {})
                    for item, recognised, errors_of_file in zip(
                        recordings, result.outcomes[-1].texts, result.errors(recordings), strict=True
                    )
                ],
            }
            for result in results
        ],
    }


def _errors(counted: Errors) -> dict[str, Any]:
    return {"wer": round(counted.rate, 5), **asdict(counted)}
