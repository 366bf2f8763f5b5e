"""The command `ask`: an answer from the recordings in which every sentence cites its moments."""

import json
import sys
from typing import Any

import click

from transcription_assets import settings
from transcription_assets.answers.asking import CitedAnswer
from transcription_assets.cli.search import at, filter_options, filters_of, link_of
from transcription_assets.cli.terminal import aside, plain, shown
from transcription_assets.domain.transcript import format_clock
from transcription_assets.errors import PermanentFailure

UNANSWERED = 1
"""Exit code."""


@click.command()
@click.argument("question")
@filter_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON: sentences, citations, reason, model.")
def ask(question: str, *, as_json: bool, **options: Any) -> None:
    """Answer QUESTION from the recordings with the language model of TRANSCRIPTION_ASK_URL.

    The question and the passages that match it are sent there, nothing else. Every sentence of the answer cites the
    moments that it is taken from. Exit code 1: nothing matches well enough (the model is not asked), or the passages
    do not answer it.
    """
    from transcription_assets.wiring import Services, locate_installed

    chosen = settings.load()
    tools = Services(chosen, locate_installed(chosen), read_only=True)
    if tools.asker is None:
        hint = "set TRANSCRIPTION_ASK_URL and TRANSCRIPTION_ASK_MODEL"
        raise PermanentFailure(f"no language model is set; {hint}", hint=hint)
    answer = tools.asker.ask(tools.searcher, question, filters_of(options))
    links = {key: link_of(tools.store, key) for key in {item.hit.media_key for item in answer.citations}}
    urls = [at(links[item.hit.media_key], item.second) for item in answer.citations]
    if as_json:
        click.echo(json.dumps(_document(answer, urls), ensure_ascii=False, indent=1))
    else:
        _print(answer, urls)
    if not answer.sentences:
        sys.exit(UNANSWERED)


def _document(answer: CitedAnswer, urls: list[str]) -> dict[str, Any]:
    return {
        "sentences": [{"text": item.text, "cites": list(item.cites)} for item in answer.sentences],
        "citations": [
            {
                "number": item.number,
                "media_key": item.hit.media_key,
                "start": item.second,
                "text": item.text,
                "speaker": item.speaker or None,
                "url": url,
            }
            for item, url in zip(answer.citations, urls, strict=True)
        ],
        "reason": answer.reason,
        "model": answer.model,
        "dropped": answer.dropped,
        "note": answer.note,
    }


def _print(answer: CitedAnswer, urls: list[str]) -> None:
    if answer.note:
        aside.print(plain(answer.note), soft_wrap=True)
    if answer.reason:
        aside.print(plain(answer.reason), soft_wrap=True)
    for sentence in answer.sentences:
        shown.print(f"{plain(sentence.text)} [bold cyan]{plain(str(list(sentence.cites)))}[/]", soft_wrap=True)
    for item, url in zip(answer.citations, urls, strict=True):
        who = f"  [bold]{plain(item.speaker)}[/]" if item.speaker else ""
        clock = format_clock(item.second)
        shown.print(f"\n[bold]{item.number}. {plain(item.hit.media_key)}[/] at [bold cyan]{clock}[/]{who}")
        shown.print(f"   [dim]{plain(item.text)}[/]")
        shown.print(f"   [blue]{plain(url)}[/]" if url else "", soft_wrap=True)
    if answer.dropped:
        aside.print(f"sentences without a citation that were left out: {answer.dropped}")
