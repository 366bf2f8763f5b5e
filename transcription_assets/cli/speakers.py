"""The commands of `speakers`: who the speakers of recordings are."""

import getpass
from collections.abc import Collection

import click

from transcription_assets import settings
from transcription_assets.cli.terminal import Group, aside, plain, print_table, shown
from transcription_assets.domain.speakers import talk_times
from transcription_assets.domain.transcript import format_clock
from transcription_assets.wiring import Services, locate_installed

FAILED = 1


@click.group("speakers", cls=Group)
def speakers() -> None:
    """Name the speakers that `TRANSCRIPTION_SPEAKERS=voices` found, in one recording and wherever the voice recurs."""


@speakers.command("list")
@click.argument("media_key")
def list_speakers(media_key: str) -> None:
    """List the speakers of a recording: label, name, how long they speak, and how similar a suggested voice is."""
    from transcription_assets.pipeline import identification
    from transcription_assets.pipeline import speakers as step

    store = _services(read_only=True).store
    store.stat(media_key)  # an unknown name is an error
    found = step.load(store, media_key)
    if found is None:
        shown.print("its speakers were not searched for: set TRANSCRIPTION_SPEAKERS=voices and process it")
        return
    identities = {one.label: one for one in identification.load(store, found)}
    rows = []
    for label, seconds in talk_times(found.turns).items():
        who = identities.get(label)
        cosine = f"{who.similarity:.2f}" if who and who.similarity else ""
        rows.append([label, plain(who.name) if who else "", who.state if who else "", format_clock(seconds), cosine])
    print_table(["label", "name", "state", "speaks", "similarity"], rows)


@speakers.command("people")
def list_people() -> None:
    """List the people who have been named."""
    from transcription_assets.pipeline import people

    found = people.everyone(_services(read_only=True).store)
    if found:
        print_table(["name", "ID"], [[plain(person.name), person.id] for person in found])
    else:
        shown.print('nobody has a name yet: transcription-assets speakers name MEDIA_KEY LABEL "Ada"')


@speakers.command("name")
@click.argument("media_key")
@click.argument("label")
@click.argument("name")
@click.option("--new", is_flag=True, help="Another person, even if somebody has this name already.")
def name_speaker(media_key: str, label: str, name: str, *, new: bool) -> None:
    """State that speaker LABEL of a recording is NAME (or the person with this ID).

    Other recordings with this voice then suggest the person: `Ada?`, until you confirm it there. To divide a person
    into two, name some of the speakers again, with --new.
    """
    from transcription_assets.pipeline import identification

    tools = _services()
    tools.store.stat(media_key)  # an unknown name is an error
    target = identification.Target(media_key, label)
    person, changed = identification.name(tools.identification, target, name, new=new, by=_user())
    shown.print(f"[green]named[/] {plain(person.name)} ({person.id})", soft_wrap=True)
    _update(tools, changed, first=media_key)


@speakers.command("reject")
@click.argument("media_key")
@click.argument("label")
def reject(media_key: str, label: str) -> None:
    """State that speaker LABEL is not the person who is suggested or confirmed."""
    from transcription_assets.pipeline import identification

    tools = _services()
    target = identification.Target(media_key, label)
    _update(tools, identification.reject(tools.identification, target, _user()), first=media_key)


@speakers.command("clear")
@click.argument("media_key")
@click.argument("label")
def clear(media_key: str, label: str) -> None:
    """Withdraw what was stated about speaker LABEL."""
    from transcription_assets.pipeline import identification

    tools = _services()
    target = identification.Target(media_key, label)
    _update(tools, identification.withdraw(tools.identification, target, _user()), first=media_key)


@speakers.command("rename")
@click.argument("person")
@click.argument("name")
def rename(person: str, name: str) -> None:
    """Give PERSON (name or ID) another name, in all recordings."""
    from transcription_assets.pipeline import identification, people

    tools = _services()
    _update(tools, identification.rename(tools.identification, people.find(tools.store, person), name, _user()))


@speakers.command("merge")
@click.argument("person")
@click.argument("into")
def merge(person: str, into: str) -> None:
    """Make two people (names or IDs) one, with the name of INTO."""
    from transcription_assets.pipeline import identification, people

    tools = _services()
    found, other = people.find(tools.store, person), people.find(tools.store, into)
    _update(tools, identification.merge(tools.identification, found, other, _user()))


@speakers.command("forget")
@click.argument("person")
@click.confirmation_option(prompt="Delete the name and all voiceprints of this person?")
def forget(person: str) -> None:
    """Delete a PERSON (name or ID): the name, all statements, and the voiceprints of their voice."""
    from transcription_assets.pipeline import identification, people

    tools = _services()
    found = people.find(tools.store, person)
    with aside.status("voiceprints and names"):
        changed = identification.forget(tools.identification, found)
    shown.print(f"[green]forgotten[/] {plain(found.name)}, who was in {changed} recordings", soft_wrap=True)


@speakers.command("apply")
@click.argument("media_keys", nargs=-1)
def apply(media_keys: tuple[str, ...]) -> None:
    """Bring the names in the texts of these recordings up to date (all, if none is given).

    Only needed after an interrupted change. Runs do the same for each recording that they process.
    """
    tools = _services()
    store = tools.store
    everything = {*store.list_media().frame["key"], *store.list_done()["key"], *tools.table.recordings()}
    _update(tools, media_keys or everything)


def _services(*, read_only: bool = False) -> Services:
    chosen = settings.load()
    return Services(chosen, locate_installed(chosen), read_only=read_only)


def _user() -> str:
    """Return the name of the user, for the record; "" if the system does not know it."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""


def _update(tools: Services, keys: Collection[str], first: str = "") -> None:
    """Apply the names to these recordings, `first` before the others."""
    from transcription_assets.pipeline import identification

    order = sorted(keys, key=lambda key: (key != first, key))
    failed = 0
    with aside.status("names") as bar:
        for number, (_key, error) in enumerate(identification.update(tools.identification, order), 1):
            bar.update(f"{number} of {len(order)} recordings")
            if error:
                failed += 1
                shown.print(f" [bold red]failed[/] {plain(str(error))}", soft_wrap=True)
    shown.print(f"{len(order) - failed} recordings up to date, {failed} failed")
    if failed:
        raise click.exceptions.Exit(FAILED)
