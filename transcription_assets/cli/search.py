"""The command `search`: moments on a terminal or as JSON."""

import json
import logging
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import click

from transcription_assets import settings
from transcription_assets.cli.terminal import aside, plain, shown
from transcription_assets.domain import line_breaks
from transcription_assets.domain.transcript import format_clock
from transcription_assets.errors import TranscriptionError
from transcription_assets.pipeline import playback
from transcription_assets.search.filters import Filters
from transcription_assets.search.query import (
    MAX_LIMIT,
    HighlightPart,
    Hit,
    Mode,
    Query,
    Span,
    parse_query,
    split_highlights,
)
from transcription_assets.storage import Store

log = logging.getLogger(__name__)

DAY = click.DateTime(["%Y-%m-%d"])
CONTEXT = 160
"""Maximum characters before and after the sentence on a terminal; the JSON has the whole text."""


@click.command()
@click.argument("query")
@click.option("--limit", default=5, show_default=True, type=click.IntRange(1, MAX_LIMIT), help="How many moments.")
@click.option("--mode", default=Mode.HYBRID.value, show_default=True, type=click.Choice([mode.value for mode in Mode]))
@click.option("--prefix", default="", metavar="KEY", help="Only recordings whose key begins so: video/talks/")
@click.option("--language", "languages", multiple=True, metavar="CODE", help="Only this language; may be repeated.")
@click.option("--speaker", "speakers", multiple=True, help="Only this speaker; may be repeated.")
@click.option("--since", type=DAY, help="Recorded on this day or later.")
@click.option("--until", type=DAY, help="Recorded on this day or earlier.")
@click.option("--shortest", "shortest_s", type=float, metavar="S", help="Recordings of at least so many seconds.")
@click.option("--longest", "longest_s", type=float, metavar="S", help="Recordings of at most so many seconds.")
@click.option("--weak", "with_weak", is_flag=True, help="Also show moments that fit less well (JSON always has them).")
@click.option("--json", "as_json", is_flag=True, help="A list of media_key, start, end, text, score, url and more.")
def search(  # noqa: PLR0917 -- click passes options by name
    query: str,
    limit: int,
    mode: str,
    prefix: str,
    languages: tuple[str, ...],
    speakers: tuple[str, ...],
    since: datetime | None,
    until: datetime | None,
    shortest_s: float | None,
    longest_s: float | None,
    *,
    with_weak: bool,
    as_json: bool,
) -> None:
    """Find the moment in which something like QUERY was said; "in double quotes" it was said just so.

    A recording in a bucket is shown by a signed link that plays it for one hour: whoever has it can open it.
    """
    from transcription_assets.wiring import Services, locate_installed

    chosen = settings.load()
    tools = Services(chosen, locate_installed(chosen), read_only=True)
    filters = Filters(
        prefix=prefix,
        languages=languages,
        speakers=speakers,
        since=since.date() if since else None,
        until=until.date() if until else None,
        shortest_s=shortest_s,
        longest_s=longest_s,
    )
    answer = tools.searcher.search(Query(query, limit, mode=Mode(mode), filters=filters))
    links = {key: _link(tools.store, key) for key in {hit.media_key for hit in answer.hits}}
    urls = [_at(links[hit.media_key], hit.start) for hit in answer.hits]
    if as_json:
        found = [_moment(hit, url) for hit, url in zip(answer.hits, urls, strict=True)]
        click.echo(json.dumps(found, ensure_ascii=False, indent=1))
        return
    if answer.note:
        aside.print(plain(answer.note), soft_wrap=True)
    if not answer.hits:
        nothing = "nothing fits" if parse_query(query).words else "there is no word in the question"
        if not answer.passages:
            nothing = "nothing is indexed yet: transcription-assets process"
        aside.print(f"nothing found: {nothing}")
    likely = [hit for hit in answer.hits if not hit.weak]
    if answer.hits and not likely:
        aside.print("nothing fits well; the nearest is:")
    visible = answer.hits if with_weak or not likely else likely
    for number, (hit, url) in enumerate(zip(answer.hits, urls, strict=True), 1):
        if hit in visible:
            _show(number, hit, url)
    if folded := len(answer.hits) - len(visible):
        aside.print(f"{folded} less likely (--weak shows them)")


def _link(store: Store, key: str) -> str:
    """Return the URL that plays the recording, "" if the store cannot make one."""
    try:
        return playback.link(store, key)
    except TranscriptionError as error:
        log.warning("%s", error)
        return ""


def _at(link: str, start: float) -> str:
    """Return the link with a media fragment that makes browsers and VLC start at the second; "" without a link."""
    return link and f"{link}#t={start:.2f}"


def _moment(hit: Hit, url: str) -> dict[str, Any]:
    """Return the JSON object of a hit; `url` is "" if there is no link."""
    return {
        "media_key": hit.media_key,
        "start": hit.start,
        "end": hit.end,
        "text": hit.text[slice(*hit.sentence)],
        "score": hit.score,
        "url": url,
        "recording": hit.recording,
        "weak": hit.weak,
        "language": hit.language,
        "speaker": hit.speaker,
        "recorded": hit.recorded.isoformat() if hit.recorded else None,
        "context": hit.text,
    }


def _show(number: int, hit: Hit, url: str) -> None:
    shown.print(
        f"[bold]{number}. {plain(hit.media_key)}[/] at [bold cyan]{format_clock(hit.start)}[/]  [dim]{hit.score:.2f}[/]"
    )
    shown.print(
        "   "
        + "".join(f"[{_style(part)}]{plain(part.text)}[/]" for part in around(hit.text, hit.sentence, hit.matches))
    )
    shown.print(f"   [blue]{plain(url)}[/]\n" if url else "", soft_wrap=True)


def _style(part: HighlightPart) -> str:
    colour = "bold yellow" if part.sentence else "dim"
    return f"{colour} underline" if part.match else colour


def around(text: str, sentence: Span, matches: Sequence[Span] = ()) -> list[HighlightPart]:
    """Return the sentence with about a line of whole words before and after it, split at its highlights."""
    start, end = sentence
    first, last = 0, len(text)
    if start > CONTEXT:
        earliest = start - CONTEXT
        first = next((at for at in line_breaks.word_breaks(text[:start]) if at >= earliest), earliest)
        first += len(text[first:start]) - len(text[first:start].lstrip())
    if len(text) - end > CONTEXT:
        latest = max((at for at in line_breaks.word_breaks(text[end:]) if at <= CONTEXT), default=CONTEXT)
        last = end + len(text[end : end + latest].rstrip())
    inside = [(a - first, b - first) for a, b in matches if first <= a and b <= last]
    found = split_highlights(text[first:last], (start - first, end - first), inside)
    cut_before = [HighlightPart("… ", sentence=False, match=False)] if first else []
    cut_after = [HighlightPart(" …", sentence=False, match=False)] if last < len(text) else []
    return [*cut_before, *found, *cut_after]
