"""All steps for recordings in any store, by the door without Dagster, with fakes for what recognises."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from transcription_assets.cli.process import Report, process
from transcription_assets.errors import PermanentFailure
from transcription_assets.models import Located
from transcription_assets.settings import Settings
from transcription_assets.storage import Store
from transcription_assets.wiring import Services
from transcription_assets_tests import recordings
from transcription_assets_tests.fakes import HashEncoder, ScriptedEngine

PASSAGE_S = 5.0


def sentences(seconds: int) -> list[str]:
    """One for every five seconds, so that a recording of a minute has a dozen passages."""
    return [f"Sentence {number} of {seconds} seconds." for number in range(seconds // 5)]


def recording(folder: Path, seconds: int, suffix: str = ".wav", frequency: float = 440.0) -> bytes:
    """A tone of this length, as a file's content."""
    return recordings.tone(
        folder / f"{seconds}-{frequency:g}{suffix}", seconds, rate=8_000, frequency=frequency
    ).read_bytes()


def script() -> dict[int, Sequence[str]]:
    return {seconds: sentences(seconds) for seconds in range(5, 65, 5)}


@dataclass(slots=True)
class Chain:
    """One store and what works on it."""

    store: Store
    done_prefix: bool = False
    engine: ScriptedEngine = field(default_factory=lambda: ScriptedEngine(script()))
    encoder: HashEncoder = field(default_factory=HashEncoder)

    @property
    def tools(self) -> Services:
        chosen = Settings(
            store=self.store.url,
            done_prefix=self.done_prefix,
            passage_s=PASSAGE_S,
            settle_s=0,
            ffmpeg=recordings.wheel_ffmpeg(),
        )
        tools = Services(chosen, no_model)
        tools.__dict__.update(store=self.store, engine=self.engine, encoder=self.encoder)
        return tools

    def run(self, *keys: str) -> Report:
        """Process these recordings; every one of them has to succeed."""
        report = self.attempt(*keys)
        assert report.failed == {}
        return report

    def attempt(self, *keys: str) -> Report:
        """Process these recordings, whatever comes of it."""
        report = Report()
        for _ in process(self.tools, keys, lambda _step: None, report):
            pass
        return report

    def table(self) -> Any:
        """The search table itself, with all its versions."""
        import lancedb

        database = lancedb.connect(self.store.lancedb_uri, storage_options=self.store.lancedb_options)
        (name,) = database.list_tables().tables
        return database.open_table(name)

    def rows(self) -> pl.DataFrame:
        """All rows that can be found, by id."""
        return of(self.table()).sort("id")

    def ids(self, key: str) -> list[str]:
        """The ids of one recording's rows, each as often as it is there."""
        return self.rows().filter(pl.col("media_key") == key)["id"].to_list()


def of(table: Any) -> pl.DataFrame:
    """The rows of the table in the version that it is at."""
    found: pl.DataFrame = table.to_polars().collect()
    return found


def no_model(name: str, kind: str) -> Located:
    """A fake stands for each model here; whoever asks for another has found a hole."""
    raise PermanentFailure(f"a test asks for the real {kind} {name}")
