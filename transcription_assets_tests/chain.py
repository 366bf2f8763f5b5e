"""All processing steps for recordings in any store, run without Dagster, with fake models.

Worker processes use the script too, so what only the steps need is imported when they run.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from transcription_assets.errors import PermanentFailure
from transcription_assets.models import Located
from transcription_assets.settings import Settings
from transcription_assets.storage import Store
from transcription_assets.wiring import Services
from transcription_assets_tests import recordings
from transcription_assets_tests.fakes import HashEncoder, ScriptedEngine

if TYPE_CHECKING:
    from transcription_assets.cli.process import Report
    from transcription_assets.slides.reader import TextReader
    from transcription_assets.speakers.diariser import Diariser

PASSAGE_S = 5.0


def sentences(seconds: int) -> list[str]:
    """Return one sentence for every five seconds, so that a recording of a minute has a dozen passages."""
    return [f"Sentence {number} of {seconds} seconds." for number in range(seconds // 5)]


def recording(folder: Path, seconds: int, suffix: str = ".wav", frequency: float = 440.0) -> bytes:
    """Return the content of a file with a tone of this length."""
    return recordings.tone(
        folder / f"{seconds}-{frequency:g}{suffix}", seconds, rate=8_000, frequency=frequency
    ).read_bytes()


def script() -> dict[int, Sequence[str]]:
    return {seconds: sentences(seconds) for seconds in range(5, 65, 5)}


@dataclass(slots=True)
class Chain:
    """A store and the services that process it."""

    store: Store
    done_prefix: bool = False
    engine: ScriptedEngine = field(default_factory=lambda: ScriptedEngine(script()))
    encoder: HashEncoder = field(default_factory=HashEncoder)
    diariser: "Diariser | None" = None
    reader: "TextReader | None" = None

    @property
    def tools(self) -> Services:
        chosen = Settings(
            store=self.store.url,
            done_prefix=self.done_prefix,
            passage_s=PASSAGE_S,
            settle_s=0,
            launcher="in_process",
            ffmpeg=recordings.wheel_ffmpeg(),
            speakers="voices" if self.diariser else "mixed",
            slides=self.reader is not None,
        )
        tools = Services(chosen, no_model)
        tools.__dict__.update(store=self.store, engine=self.engine, encoder=self.encoder)
        if self.diariser:
            from transcription_assets.pipeline.speakers import SpeakerTools

            tools.__dict__.update(speaker_tools=SpeakerTools(self.diariser, chosen.ffmpeg))
        if self.reader:
            from transcription_assets.pipeline.slides import SlideTools

            tools.__dict__.update(slide_tools=SlideTools(self.reader, tools.decoder))
        return tools

    def run(self, *keys: str) -> "Report":
        """Process these recordings, asserting that all succeed."""
        report = self.attempt(*keys)
        assert report.failed == {}
        return report

    def attempt(self, *keys: str) -> "Report":
        """Process these recordings and return the report, which may contain failures."""
        from transcription_assets.cli.process import Report, process

        report = Report()
        for _ in process(self.tools, keys, lambda _step: None, report):
            pass
        return report

    def table(self) -> Any:
        """Open the search table with all its versions."""
        import lancedb

        from transcription_assets.search.schema import FIRST_TABLE

        database = lancedb.connect(self.store.lancedb_uri, storage_options=self.store.lancedb_options)
        (name,) = [name for name in database.list_tables().tables if name.startswith(FIRST_TABLE)]
        return database.open_table(name)

    def rows(self) -> pl.DataFrame:
        """Return all searchable rows, sorted by id."""
        return of(self.table()).sort("id")

    def ids(self, key: str) -> list[str]:
        """Return the row ids of one recording, duplicates included."""
        return self.rows().filter(pl.col("media_key") == key)["id"].to_list()


def of(table: Any) -> pl.DataFrame:
    """Return the rows of the table in its current version."""
    found: pl.DataFrame = table.to_polars().collect()
    return found


def no_model(name: str, kind: str) -> Located:
    """Fail: each model is replaced by a fake, so no test may load a real one."""
    raise PermanentFailure(f"a test asks for the real {kind} {name}")
