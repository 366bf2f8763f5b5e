"""The command `export`: results for other tools."""

from pathlib import Path

import click

from transcription_assets import settings
from transcription_assets.cli.terminal import plain, shown
from transcription_assets.errors import PermanentFailure


@click.command()
@click.option("--parquet", "folder", type=click.Path(file_okay=False, path_type=Path), help="Folder for Parquet files.")
@click.option("--postgres", "url", help="Postgres URL for passages and vectors; passwords: PGPASSWORD, ~/.pgpass.")
@click.option("--table", default="passages", show_default=True, help="Name of the table in Postgres.")
def export(folder: Path | None, url: str | None, table: str) -> None:
    """Export segments, words and passages as Parquet, or passages with vectors to Postgres with pgvector."""
    from transcription_assets.export import parquet, postgres
    from transcription_assets.wiring import Services, locate_installed

    if folder is None and url is None:
        raise click.UsageError("missing destination: --parquet FOLDER or --postgres URL")
    chosen = settings.load()
    tools = Services(chosen, locate_installed(chosen), read_only=True)
    if folder is not None:
        exported = parquet.to_parquet(tools.store, tools.table, folder)
        for name, rows in exported.rows.items():
            shown.print(f"{rows} {name}: {plain(str(exported.folder / name))}.parquet", soft_wrap=True)
    if url is not None:
        dimension = tools.table.dimension()
        if not dimension:
            hint = "run `transcription-assets process` first"
            raise PermanentFailure(f"nothing to copy, as no passage is indexed yet; {hint}", hint=hint)
        rows = postgres.copy(parquet.passage_batches(tools.table), url, table, dimension)
        shown.print(f"{rows} passages in the Postgres table {plain(table)}")
