"""The command `search`: moments on a terminal or as JSON."""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, TypeVar

import click

from transcription_assets import settings
from transcription_assets.cli.terminal import aside, plain, shown
from transcription_assets.domain import line_breaks
from transcription_assets.domain.transcript import format_clock
from transcription_assets.errors import TranscriptionError
from transcription_assets.pipeline import playback
from transcription_assets.search.filters import KINDS, Filters
from transcription_assets.search.query import (
    MAX_LIMIT,
    Answer,
    HighlightPart,
    Hit,
    Mode,
    Query,
    SimilarQuery,
    Span,
    parse_query,
    split_highlights,
)
from transcription_assets.storage import Store

log = logging.getLogger(__name__)

Command = TypeVar("Command", bound=Callable[..., Any])

DAY = click.DateTime(["%Y-%m-%d"])
CONTEXT = 160
"""Maximum characters before and after the sentence on a terminal; the JSON has the whole text."""


FILTER_OPTIONS = (
    click.option("--in", "recording", default="", metavar="KEY", help="Only in this recording."),
    click.option("--prefix", default="", metavar="KEY", help="Only recordings whose key has this prefix: video/talks/"),
    click.option("--language", "languages", multiple=True, metavar="CODE", help="Only this language (repeatable)."),
    click.option("--speaker", "speakers", multiple=True, help="Only this speaker (repeatable)."),
    click.option(
        "--kind",
        "kinds",
        multiple=True,
        type=click.Choice(KINDS),
        help="Only what was said, or only slides (repeatable).",
    ),
    click.option("--source", "sources", multiple=True, help="Only recordings of this source (repeatable)."),
    click.option("--since", type=DAY, help="Recorded on this day or later."),
    click.option("--until", type=DAY, help="Recorded on this day or earlier."),
    click.option(
        "--shortest", "shortest_s", type=float, metavar="S", help="Minimum length of the recording in seconds."
    ),
    click.option("--longest", "longest_s", type=float, metavar="S", help="Maximum length of the recording in seconds."),
)


def filter_options(command: Command) -> Command:
    """Decorate a command with the options of `filters_of`."""
    for option in reversed(FILTER_OPTIONS):
        command = option(command)
    return command


def filters_of(options: Mapping[str, Any]) -> Filters:
    """Return the filters of the options of a command."""
    days = {name: options[name].date() for name in ("since", "until") if options[name]}
    return Filters(**{**options, "since": None, "until": None, **days})


@click.command()
@click.argument("query", default="")
@click.option(
    "--limit", default=5, show_default=True, type=click.IntRange(1, MAX_LIMIT), help="Maximum number of moments."
)
@click.option("--mode", default=Mode.HYBRID.value, show_default=True, type=click.Choice([mode.value for mode in Mode]))
@click.option(
    "--like",
    type=(str, click.FloatRange(0)),
    metavar="KEY SECOND",
    help="Moments similar in meaning to this moment, instead of QUERY.",
)
@filter_options
@click.option("--weak", "with_weak", is_flag=True, help="Also print weak matches (JSON always has them).")
@click.option(
    "--json", "as_json", is_flag=True, help="Print a JSON list: media_key, start, end, text, score, url and more."
)
def search(
    query: str,
    limit: int,
    mode: str,
    like: tuple[str, float] | None,
    *,
    with_weak: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Find the moments that match QUERY in words or meaning; text "in double quotes" must match exactly.

    For a recording in a bucket the link is a signed URL, valid for one hour: anyone who has it can play the recording.
    """
    from transcription_assets.wiring import Services, locate_installed

    if bool(query) == (like is not None):
        raise click.UsageError("give either QUERY or --like KEY SECOND")
    chosen = settings.load()
    tools = Services(chosen, locate_installed(chosen), read_only=True)
    filters = filters_of(options)
    if like:
        answer = tools.searcher.similar(SimilarQuery(*like, limit, filters=filters))
    else:
        answer = tools.searcher.search(Query(query, limit, mode=Mode(mode), filters=filters))
    links = {key: link_of(tools.store, key) for key in {hit.media_key for hit in answer.hits}}
    urls = [at(links[hit.media_key], hit.start) for hit in answer.hits]
    if as_json:
        moments = [_moment(hit, url) for hit, url in zip(answer.hits, urls, strict=True)]
        click.echo(json.dumps(moments, ensure_ascii=False, indent=1))
        return
    _print_answer(answer, urls, has_words=like is not None or bool(parse_query(query).words), with_weak=with_weak)


def _print_answer(answer: Answer, urls: Sequence[str], *, has_words: bool, with_weak: bool) -> None:
    """Print the moments, without the weak ones unless there are no others or they are asked for."""
    if answer.note:
        aside.print(plain(answer.note), soft_wrap=True)
    if not answer.hits:
        reason = "no match" if has_words else "the query has no words"
        if not answer.passages:
            reason = "nothing is indexed yet; run `transcription-assets process`"
        aside.print(f"no results: {reason}")
    likely = [hit for hit in answer.hits if not hit.weak]
    if answer.hits and not likely:
        aside.print("only weak matches:")
    visible = answer.hits if with_weak or not likely else likely
    for number, (hit, url) in enumerate(zip(answer.hits, urls, strict=True), 1):
        if hit in visible:
            _print(number, hit, url)
    if folded := len(answer.hits) - len(visible):
        aside.print(f"{folded} weak matches hidden (use --weak)")


def link_of(store: Store, key: str) -> str:
    """Return the URL that plays the recording, "" if the store cannot make one."""
    try:
        return playback.link(store, key)
    except TranscriptionError as error:
        log.warning("%s", error)
        return ""


def at(link: str, start: float) -> str:
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
        "kind": hit.kind,
        "slide": asdict(hit.slide) if hit.slide else None,
        "said": hit.said,
    }


def _print(number: int, hit: Hit, url: str) -> None:
    who = f"  [bold]{plain(hit.speaker)}[/]" if hit.speaker else ""
    at = f"at [bold cyan]{format_clock(hit.start)}[/]"
    kind = "  (slide)" if hit.kind == "slide" else ""
    shown.print(f"[bold]{number}. {plain(hit.media_key)}[/] {at}{who}{kind}  [dim]{hit.score:.2f}[/]")
    shown.print(
        "   "
        + "".join(f"[{_style(part)}]{plain(part.text)}[/]" for part in around(hit.text, hit.sentence, hit.matches))
    )
    if hit.said or (hit.slide and hit.kind == "speech"):
        label, text = ("said", hit.said) if hit.said else ("slide", hit.slide.text if hit.slide else "")
        shown.print(f"   [dim]{label}: {plain(text[:CONTEXT])}{' …' if text[CONTEXT:] else ''}[/]")
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
    parts = split_highlights(text[first:last], (start - first, end - first), inside)
    cut_before = [HighlightPart("… ", sentence=False, match=False)] if first else []
    cut_after = [HighlightPart(" …", sentence=False, match=False)] if last < len(text) else []
    return [*cut_before, *parts, *cut_after]
