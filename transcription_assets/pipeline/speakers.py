"""Step `speakers`: who speaks when in the extracted audio of a recording (`speakers/<key>.json`).

It runs beside `transcript` on a CPU. Words get their speakers afterwards, from both records: see `domain.speakers`.
"""

import json
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from typing import Any

from transcription_assets.domain import media_keys
from transcription_assets.domain.chunking import Region, merge_regions
from transcription_assets.domain.people import DiarisationId, claims_of
from transcription_assets.domain.speakers import Turn, talk_times, transcript_of
from transcription_assets.domain.transcript import Span, Transcript
from transcription_assets.errors import NotFound, PermanentFailure, TransientFailure
from transcription_assets.pipeline import audio, people, records, speaker_bounds, transcript, window_plan
from transcription_assets.pipeline.audio import Audio
from transcription_assets.pipeline.failure_notes import records_failure
from transcription_assets.pipeline.window_plan import WindowPlan
from transcription_assets.speakers.diariser import Bounds, Diarisation, Diariser
from transcription_assets.storage import Store

VERSION = "1"
ATTEMPTS = 3
MARGIN_S = 0.5
"""Speech within this distance of a turn has a speaker: voice activity detection adds margins."""


@dataclass(frozen=True, slots=True)
class SpeakerTools:
    """The diariser, the ffmpeg that reads the audio, and the bounds of the number of speakers.

    The bounds are those of recordings that have none beside them (`speaker_bounds`).

    With `only_several`, a recording of a single voice gets no speaker (`TRANSCRIPTION_SPEAKERS=auto`).
    """

    diariser: Diariser
    ffmpeg: str
    bounds: Bounds = field(default_factory=Bounds)
    only_several: bool = False


@dataclass(frozen=True, slots=True)
class Speakers:
    """Record of the speakers of a recording; times in seconds.

    `sound` is the SHA-256 of the audio, `fingerprint` that of everything the turns depend on. `voiceprints` has a unit
    vector for each label, except those of people who were forgotten; those of another `model` cannot be compared.
    `speech_s` is the time with speech by voice activity detection, `covered_s` the part of it that has a speaker.
    """

    key: str
    etag: str
    sound: str
    model: str
    options: dict[str, Any]
    fingerprint: str
    turns: tuple[Turn, ...]
    voiceprints: dict[str, tuple[float, ...]]
    duration: float
    speech_s: float
    covered_s: float
    wall_s: float
    only_several: bool = False
    version: str = VERSION
    reused: bool = False

    @property
    def bounds(self) -> Bounds:
        """The bounds of the number of speakers that were asked for."""
        return Bounds(int(self.options.get("least", 0)), int(self.options.get("most", 0)))

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels of the speakers, the one who speaks longest first."""
        return tuple(talk_times(self.turns))

    @property
    def diarisation_id(self) -> DiarisationId:
        """What identifies the recording and these turns."""
        return DiarisationId(self.etag, self.sound, self.fingerprint)

    @property
    def shown_turns(self) -> tuple[Turn, ...]:
        """The turns that words get their speaker from; none if a single voice is not worth a name."""
        return () if self.only_several and len(self.labels) < 2 else self.turns  # noqa: PLR2004 -- two are several

    @property
    def coverage(self) -> float:
        """Share of the speech that has a speaker, in [0, 1]; 1.0 if there is no speech."""
        return self.covered_s / self.speech_s if self.speech_s else 1.0

    @property
    def overlap_s(self) -> float:
        """Seconds in which several speak at once."""
        ends = merge_regions((Region(turn.start, turn.end) for turn in self.turns if turn.overlap), 0.0)
        return sum(region.length for region in ends)


def load(store: Store, key: str) -> Speakers | None:
    """Return the record of the last materialisation, None if there is none that this release can read.

    Raises:
        TranscriptionError: the store refuses or does not answer.

    """
    found = records.load(store, media_keys.speakers(key), Speakers, VERSION)
    return replace(found, reused=True) if found else None


def is_current(found: Speakers, source: Audio, plan: WindowPlan, tools: SpeakerTools) -> bool:
    """Return whether the turns were found in this audio with this diariser and these bounds."""
    return found.etag == source.etag and found.fingerprint == _fingerprint(source, plan, tools)


@records_failure("speakers")
def materialise(
    store: Store, key: str, tools: SpeakerTools, progress: Callable[[float], None] | None = None
) -> Speakers:
    """Find out who speaks when in the extracted audio; `progress` is called with the seconds that are done.

    Raises:
        PermanentFailure: the audio was not extracted or cannot be decoded, the weights are missing, the bounds beside
            the recording are invalid, or the store refuses.
        TransientFailure: the recording was replaced meanwhile, or the store or the disk fails.

    """
    source = audio.load(store, key)
    if source is None:
        hint = "materialise `audio` first"
        raise PermanentFailure(f"{key}: its speech is not extracted yet; {hint}", key=key, step="speakers", hint=hint)
    tools = replace(tools, bounds=speaker_bounds.load(store, key) or tools.bounds)
    plan = window_plan.ensure(
        store, key, source.sha256, channels=source.channels, duration=source.duration, ffmpeg=tools.ffmpeg
    )
    known = load(store, key)
    if known and is_current(known, source, plan, tools):
        return known
    started = time.monotonic()
    voiced = spans_of(plan)
    found = _diarised(store, key, tools, voiced, progress or _unwatched) if voiced else Diarisation()
    _require_same_audio(store, source)
    diarisation = DiarisationId(source.etag, source.sha256, _fingerprint(source, plan, tools))
    claims = claims_of(found.turns, people.statements(store, key), diarisation)
    withheld = {label for label, claim in claims.items() if claim.withheld}
    made = Speakers(
        key=key,
        etag=source.etag,
        sound=source.sha256,
        model=tools.diariser.model,
        options=_options(tools),
        fingerprint=diarisation.fingerprint,
        turns=found.turns,
        voiceprints={label: vector for label, vector in found.voiceprints.items() if label not in withheld},
        duration=source.duration,
        speech_s=round(sum(end - start for start, end in voiced), 3),
        covered_s=round(covered(voiced, found.turns), 3),
        wall_s=round(time.monotonic() - started, 3),
        only_several=tools.only_several,
    )
    records.write(store, media_keys.speakers(key), asdict(made))
    return made


def without_voiceprints(store: Store, found: Speakers, labels: Collection[str]) -> None:
    """Remove the voiceprints of these speakers from the record in the store.

    Raises:
        TranscriptionError: the store refuses or does not answer.

    """
    left = {label: vector for label, vector in found.voiceprints.items() if label not in labels}
    if left != found.voiceprints:
        records.write(store, media_keys.speakers(found.key), asdict(replace(found, voiceprints=left, reused=False)))


def spoken(store: Store, known: Transcript, names: Mapping[str, str]) -> Transcript:
    """Return the transcript with the speakers of the store, if they are those of its audio.

    `names` maps labels to names.

    Raises:
        TranscriptionError: the store refuses or does not answer.

    """
    found = load(store, known.media.key)
    if found is None or found.sound != known.media.sound:
        return known
    return transcript_of(known, found.shown_turns, names)


def apply(store: Store, key: str, names: Mapping[str, str]) -> Transcript | None:
    """Give the words in the store their speakers, in all formats; return the transcript, None if there is none.

    `names` maps labels to names; speakers without one are called `Speaker 1` and so on.

    The JSON is replaced first, by one write. So a process that is killed here leaves it complete, and texts that the
    next call corrects.

    Raises:
        TransientFailure: another process keeps writing the transcript.
        TranscriptionError: the store refuses or does not answer.

    """
    made = _named(store, key, names)
    if made is None:
        return None
    for suffix, text in transcript.TEXTS.items():
        path, content = media_keys.transcript(key, suffix), text(made).encode()
        if _content(store, path) != content:
            store.write(path, content)
    return made


def _named(store: Store, key: str, names: Mapping[str, str]) -> Transcript | None:
    """Replace the speakers in the JSON of the transcript; return the transcript, None if there is none."""
    path = media_keys.transcript(key)
    for _ in range(ATTEMPTS):
        version, known = store.version(path), transcript.load(store, key)
        if known is None:
            return None
        made = spoken(store, without_voices(known), names)
        if made == known:
            return made
        if store.version(path) == version:  # otherwise a run has replaced it meanwhile
            store.write(path, made.to_json())
            return made
    hint = "try again"
    raise TransientFailure(f"{key}: its transcript keeps changing; {hint}", key=key, step="speakers", hint=hint)


def without_voices(known: Transcript) -> Transcript:
    """Return the transcript without speakers, unless they are those of channels, which the words depend on."""
    if known.options.get("speakers", "mixed") != "mixed":
        return known
    return replace(known, segments=tuple(replace(segment, speaker="") for segment in known.segments))


def _content(store: Store, path: str) -> bytes:
    try:
        return store.read(path)
    except NotFound:
        return b""


def spans_of(plan: WindowPlan) -> tuple[Span, ...]:
    """Return the spans with speech in any channel, in order."""
    regions = (
        Region(window.start + region.start, window.start + region.end)
        for windows in plan.channels
        for window in windows
        for region in window.voiced
    )
    return tuple((region.start, region.end) for region in merge_regions(regions, 0.0))


def _diarised(
    store: Store, key: str, tools: SpeakerTools, voiced: Sequence[Span], progress: Callable[[float], None]
) -> Diarisation:
    with window_plan.local_flac(store, key) as flac:
        blocks = window_plan.audio_source(flac, 1, tools.ffmpeg).read(0, 0.0)
        return tools.diariser.diarise(blocks, voiced, tools.bounds, progress)


def covered(voiced: Sequence[Span], turns: Sequence[Turn]) -> float:
    """Return the seconds of `voiced` (in order, apart) within MARGIN_S of a turn."""
    near = merge_regions((Region(turn.start - MARGIN_S, turn.end + MARGIN_S) for turn in turns), 0.0)
    return sum(_common(voiced, near))


def _common(voiced: Sequence[Span], near: Sequence[Region]) -> Iterator[float]:
    """Yield the length of each intersection of two lists of spans, each in order and apart."""
    first = 0
    for start, end in voiced:
        while first < len(near) and near[first].end <= start:
            first += 1
        at = first
        while at < len(near) and near[at].start < end:
            yield min(end, near[at].end) - max(start, near[at].start)
            at += 1


def _options(tools: SpeakerTools) -> dict[str, Any]:
    return {**tools.diariser.options, "least": tools.bounds.least, "most": tools.bounds.most}


def _fingerprint(source: Audio, plan: WindowPlan, tools: SpeakerTools) -> str:
    document = [VERSION, source.sha256, plan.digest, tools.diariser.model, _options(tools), tools.only_several]
    return sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def _require_same_audio(store: Store, source: Audio) -> None:
    now = audio.load(store, source.key)
    if now is None or (now.etag, now.sha256) != (source.etag, source.sha256):
        raise TransientFailure(
            f"{source.key} was replaced while its speakers were found; materialise `speakers` again", key=source.key
        )


def _unwatched(_seconds: float) -> None:
    """Ignore progress."""
