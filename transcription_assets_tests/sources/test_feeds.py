"""Feeds are parsed without I/O; what strangers write in them is bounded and harmless."""

import time
from contextlib import suppress
from datetime import UTC, date, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transcription_assets.errors import PermanentFailure
from transcription_assets.sources import feeds, names
from transcription_assets.sources.feeds import Feed, Item
from transcription_assets_tests.sources.site import days_ago, episode, rss

URL = "https://example.com/podcast/feed.xml"
TODAY = datetime.now(UTC).date()


def parsed(data: bytes, content_type: str = "application/rss+xml") -> Feed:
    return feeds.parse(data, URL, content_type, TODAY)


def test_an_item_has_its_fields() -> None:
    published = days_ago(3)
    data = rss(
        episode("g1", "https://cdn.example.com/1.mp3?token=2", "The last &amp; train", published, "https://a.example/1")
    )
    feed = parsed(data)
    assert feed.title == "A podcast"
    assert feed.items == (
        Item(
            "g1",
            "https://cdn.example.com/1.mp3?token=2",
            "The last & train",
            "https://a.example/1",
            parsedate_to_datetime(published).date(),
            "audio/wav",
        ),
    )


def test_atom_feeds_are_read() -> None:
    data = b"""<feed xmlns="http://www.w3.org/2005/Atom"><title>T</title><rights>CC0</rights><entry><id>urn:1</id>
    <title>One</title><updated>2024-05-17T10:00:00Z</updated><link href="page"/>
    <link rel="enclosure" type="audio/mpeg" href="../1.mp3"/></entry></feed>"""
    (item,) = parsed(data).items
    assert (item.guid, item.media_url, item.link) == (
        "urn:1",
        "https://example.com/1.mp3",
        "https://example.com/podcast/page",
    )
    assert (item.published, item.licence) == (date(2024, 5, 17), "CC0")


def test_relative_enclosures_are_resolved() -> None:
    (item,) = parsed(rss(episode("g", "audio/1.mp3"))).items
    assert item.media_url == "https://example.com/podcast/audio/1.mp3"


def test_items_are_newest_first() -> None:
    data = rss(*(episode(f"g{age}", f"https://e.example/{age}.mp3", day=days_ago(age)) for age in (3, 1, 2)))
    assert [item.guid for item in parsed(data).items] == ["g1", "g2", "g3"]


def test_the_order_of_the_feed_counts_without_days() -> None:
    data = rss(*(episode(f"g{age}", f"https://e.example/{age}.mp3") for age in (3, 1, 2)))
    assert [item.guid for item in parsed(data).items] == ["g3", "g1", "g2"]


@pytest.mark.parametrize(
    "day",
    ["", "yesterday", "Mon, 01 Jan 0001 00:00:00 GMT", "Fri, 31 Dec 9999 23:59:59 GMT", days_ago(-30)],
    ids=["empty", "word", "first year", "last year", "next month"],
)
def test_impossible_days_are_unknown(day: str) -> None:
    (item,) = parsed(rss(episode("g", "https://e.example/1.mp3", day=day))).items
    assert item.published is None


def test_a_guid_with_new_audio_is_another_item() -> None:
    data = rss(*(episode("same", f"https://e.example/{number}.mp3") for number in (1, 2, 1)))
    items = parsed(data).items
    assert [item.media_url[-5:] for item in items] == ["1.mp3", "2.mp3"]
    assert len({item.identity for item in items}) == 2


def test_a_new_token_is_no_new_audio() -> None:
    assert (
        Item("g", "https://e.example/1.mp3?token=1").identity == Item("g", "https://e.example/1.mp3?token=2").identity
    )


@pytest.mark.parametrize(
    "enclosure",
    ["javascript:alert(1)", "file:///etc/passwd", "ftp://e.example/1.mp3", "", "http://[::1", "https://:80/1.mp3"],
)
def test_items_without_an_http_recording_are_left_out(enclosure: str) -> None:
    assert parsed(rss(episode("g", enclosure))).items == ()


@pytest.mark.parametrize("link", ["javascript:alert(1)", "data:text/html,x", "vbscript:x"])
def test_links_with_other_schemes_are_dropped(link: str) -> None:
    (item,) = parsed(rss(episode("g", "https://e.example/1.mp3", link=link))).items
    assert item.link == ""


def test_enclosures_that_are_no_recordings_are_left_out() -> None:
    data = rss(
        episode("g", "https://e.example/1.pdf", kind="application/pdf"),
        episode("h", "https://e.example/p.jpg", kind="image/jpeg"),
    )
    assert parsed(data).items == ()


def test_markup_and_control_characters_leave_titles() -> None:
    (item,) = parsed(rss(episode("g", "https://e.example/1.mp3", "<b>A</b>\u202e title\n" + "x" * 5_000))).items
    assert item.title.startswith("A title x"), item.title[:20]
    assert len(item.title) <= feeds.MOST_TEXT


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"<!DOCTYPE html><html><body>Not found</body></html>", "text/html"),
        (b"<html/>", "application/rss+xml"),
        (b"", "application/rss+xml"),
        (b"{}", "application/json"),
        (b"\x89PNG\r\n", "image/png"),
        (b"<!-- " + b"--><!--" * 200_000, "text/xml"),
        (b"<?a" * 200_000, "text/xml"),
        (b"<opml/>", "text/xml"),
        (b"<rss><channel>" + b"<item><title>&amp;<a " * 500_000, "text/xml"),
    ],
)
def test_other_documents_are_refused_at_once(data: bytes, kind: str) -> None:
    started = time.monotonic()
    with pytest.raises(PermanentFailure):
        parsed(data, kind)
    assert time.monotonic() - started < 5


BOMB = (
    '<!DOCTYPE rss [<!ENTITY a "aaaaaaaaaa">'
    + "".join(f'<!ENTITY {chr(98 + n)} "{f"&{chr(97 + n)};" * 10}">' for n in range(10))
    + "]>"
)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_entity_bombs_are_refused(encoding: str) -> None:
    text = f"{BOMB}<rss version='2.0'><channel><title>&k;</title></channel></rss>"
    with pytest.raises(PermanentFailure):
        parsed(text.encode(encoding))


@pytest.mark.parametrize("where", ["header", "prolog"])
def test_feeds_in_other_encodings_are_refused(where: str) -> None:
    bomb = BOMB.replace("<!ENTITY", "+ADwAIQ-ENTITY")
    prolog = "<?xml version='1.0' encoding='utf-7'?>" if where == "prolog" else ""
    data = f"{prolog}{bomb}<rss version='2.0'><channel><title>&k;</title></channel></rss>".encode("ascii")
    with pytest.raises(PermanentFailure):
        parsed(data, "text/xml; charset=UTF-7" if where == "header" else "text/xml")


@pytest.mark.parametrize("encoding", ["utf-8", "UTF8", "iso-8859-1", "windows-1252", "utf-16"])
def test_usual_encodings_are_read(encoding: str) -> None:
    data = rss(episode("g", "https://e.example/1.mp3", "Zug f\xe4hrt")).decode().replace("UTF-8", encoding)
    (item,) = parsed(data.encode(encoding), "application/rss+xml").items
    assert item.title == "Zug f\xe4hrt"


def test_external_entities_are_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    head = f'<!DOCTYPE rss [<!ENTITY x SYSTEM "{(tmp_path / "secret").as_uri()}">]>'
    with pytest.raises(PermanentFailure):
        parsed(f"{head}<rss version='2.0'><channel><title>&x;</title></channel></rss>".encode())


def test_damaged_feeds_give_the_items_that_can_be_read() -> None:
    data = rss(episode("g", "https://e.example/1.mp3", "A"))
    (item,) = parsed(data.replace(b"<title>A podcast</title>", b"<title>A & podcast</title>")).items
    assert item.guid == "g"


@given(st.binary(max_size=400))
def test_any_bytes_give_a_feed_or_a_failure(data: bytes) -> None:
    for document in (data, b"<rss><channel><item>" + data, rss().replace(b"</channel>", data)):
        with suppress(PermanentFailure):
            assert isinstance(parsed(document), Feed)


@given(st.text(max_size=300), st.dates(), st.text(max_size=40))
def test_names_stay_in_the_folder_of_the_source(title: str, day: date, guid: str) -> None:
    name = names.name("history", Item(guid, "https://e.example/1.mp3", title, published=day), ".mp3")
    folder, _, file = name.rpartition("/")
    assert folder == "audio/history"
    assert file.endswith(".mp3")
    assert not file.startswith(".")
    assert len(file.encode()) < 200


@pytest.mark.parametrize(
    ("url", "final", "content_type", "stated", "expected"),
    [
        ("https://e.example/a.MP3?x=1", "https://cdn.example/x", "", "", ".mp3"),
        ("https://e.example/redirect/1", "https://cdn.example/a.m4a", "audio/mpeg", "", ".m4a"),
        ("https://e.example/1", "https://e.example/1", "audio/mpeg; charset=x", "", ".mp3"),
        ("https://e.example/1", "https://e.example/1", "application/octet-stream", "video/mp4", ".mp4"),
        ("https://e.example/1.php", "https://e.example/1.php", "application/octet-stream", "", ""),
    ],
)
def test_the_suffix_is_found(url: str, final: str, content_type: str, stated: str, expected: str) -> None:
    assert names.suffix(Item("g", url, media_type=stated), final, content_type) == expected


def test_a_thousand_items_are_parsed_in_time() -> None:
    notes = "<description>" + "&lt;p&gt;Show notes with a link&lt;/p&gt; " * 50 + "</description></item>"
    items = (episode(f"g{n}", f"https://e.example/{n}.mp3", f"Episode {n}", days_ago(n)) for n in range(1000))
    data = rss(*(item.replace("</item>", notes) for item in items))
    started = time.monotonic()
    assert len(parsed(data).items) == 1000
    assert time.monotonic() - started < 30  # the bar of 5 s is that of a machine without other work
