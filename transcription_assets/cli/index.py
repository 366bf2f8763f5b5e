"""The commands of `index`: state, rebuild and switch of the search tables."""

from typing import TYPE_CHECKING

import click

from transcription_assets import settings
from transcription_assets.cli.terminal import Group, aside, plain, shown
from transcription_assets.embedding.profiles import profile

if TYPE_CHECKING:
    from transcription_assets.wiring import Services


@click.group("index", cls=Group)
def index() -> None:
    """Manage the search tables: one is served, another may be built beside it (other encoder or passages)."""


@index.command()
def status() -> None:
    """List the search tables, how they were made, and what the one under construction lacks."""
    from transcription_assets.wiring import Services, locate_installed

    chosen = settings.load()
    states = Services(chosen, locate_installed(chosen), read_only=True).table.status()
    for state in states:
        lacking = f", lacks {state.missing} of the served recordings" if state.missing else ""
        recipe = state.recipe or f"{state.embedding_model} (an earlier version of this program)"
        refused = ", not served again until `index rebuild` or `index switch`" if state.refused else ""
        shown.print(f"[bold]{state.table}[/]  {state.role}{lacking}{refused}", soft_wrap=True)
        shown.print(f"   {state.recordings} recordings, {state.rows} passages; {plain(recipe)}", soft_wrap=True)
        shown.print(f"   indexes: {', '.join(state.indexes) or 'none'}", soft_wrap=True)
    if not states:
        shown.print("no search table yet: run `transcription-assets process`")


@index.command()
def rebuild() -> None:
    """Rebuild passages and vectors of all transcripts with the encoder of the settings, then serve that table.

    The weights of the ranking are measured first if the encoder has no profile with weights. Nothing is transcribed
    again. Searches use the served table until the new one is complete.
    """
    from transcription_assets.pipeline import search_index
    from transcription_assets.wiring import Services, locate_installed

    chosen = settings.load()
    tools = Services(chosen, locate_installed(chosen))
    _calibrate(tools, chosen.passage_s)
    report = search_index.Rebuilt(0)
    with aside.status("reading transcripts") as bar:
        for report in search_index.rebuild(tools.store, tools.table, tools.encoder, tools.passage_options):
            bar.update(f"{len(report.done)} of {report.total} recordings")
        bar.update("indexes")
        state = search_index.materialise(tools.table)
    for reason in report.failed.values():
        shown.print(f" [bold red]failed[/] {plain(reason)}", soft_wrap=True)
    shown.print(
        f"{len(report.done)} recordings done, {len(report.failed)} failed; served table: {state.table or 'none'}"
    )
    if state.building:
        anyway = f"transcription-assets index switch {state.building} --incomplete"
        shown.print(f"{state.building} is incomplete and not served yet; to serve it anyway: {anyway}", soft_wrap=True)
    if report.failed:
        raise click.exceptions.Exit(1)


def _calibrate(tools: "Services", passage_s: float) -> None:
    """Measure and store the weights for an encoder that has neither measured weights nor a profile with weights."""
    from transcription_assets.evaluation.calibration import calibrate

    encoder = tools.encoder
    model = str(encoder.model)
    if profile(encoder.model.name).weights is not None or tools.table.calibrated(model) is not None:
        return
    with aside.status("measuring the weights of the ranking for this encoder"):
        found = calibrate(encoder, passage_s)
    tools.table.calibrate(model, found.weights)
    aside.print(f"measured the weights of the ranking for {plain(model)}: MRR {found.mrr:.3f}", soft_wrap=True)


@index.command()
@click.argument("table")
@click.option("--incomplete", is_flag=True, help="Even if it lacks recordings, which searches will not find.")
def switch(table: str, *, incomplete: bool) -> None:
    """Serve TABLE from now on, for all users; the previous one is kept, and not served again by itself."""
    from transcription_assets.wiring import Services, locate_installed

    chosen = settings.load()
    Services(chosen, locate_installed(chosen)).table.switch(table, even_incomplete=incomplete)
    shown.print(f"served table: {plain(table)}")
