"""Alerts and the dashboard: valid, right in promtool's own tests, and only of metrics and labels that exist."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from transcription_assets.costs.usage import StepUsage
from transcription_assets.pipeline import usage_journal
from transcription_assets.pipeline.failure_notes import FailureNote
from transcription_assets.sources import ledger
from transcription_assets.sources.ledger import Ledger
from transcription_assets.storage import Store
from transcription_assets_tests import served
from transcription_assets_tests.demo import ROOT

RULES = ROOT / "k8s/examples/prometheus-rules.yaml"
DASHBOARD = ROOT / "k8s/examples/grafana-dashboard.json"
EVENTS = b'[desk]\nkind = "webhook"\nurl = "https://example.com/hook"'
NAMED = "20260101T000000000000Z-0.json"
_USED = re.compile(r"(transcription_\w+)(?:\{([^}]*)\})?")
_GROUPED = re.compile(r"\bby \(([^)]*)\)")

Labels = Mapping[str, set[str]]
"""Names of the labels of each sample, by its name."""


@pytest.fixture(scope="module")
def scrape(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return what a real server reports of an archive in which everything has happened once."""
    store = Store.open(str(tmp_path_factory.mktemp("archive") / "store"))
    store.write("audio/broken.wav", b"not audio")
    note = FailureNote(
        store.stat("audio/broken.wav").etag, "video", "broken", transient=False, at="now", kind="Refused"
    )
    store.write("failures/audio/broken.wav.json", json.dumps(asdict(note)).encode())
    usage_journal.add(store, {"transcript": StepUsage(1, 60.0, compute_s=2.0, failures={"StoreAway": 1})})
    store.write("sources.toml", b'[pod]\nkind = "feed"\nurl = "https://example.com/feed"')
    ledger.save(store, "pod", Ledger(looked="2026-01-01T00:00:00+00:00", error="away", pending=3))
    store.write("events.toml", EVENTS)
    for folder in ("outbox", "dead"):
        store.write(f"events/{folder}/desk/{NAMED}", b"{}")
    with served.client(served.archive(store)) as asking:
        asking.get("/api/search", params={"q": "sentence"})
        return asking.get("/metrics").text


@pytest.fixture(scope="module")
def known(scrape: str) -> Labels:
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(scrape):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def targets() -> list[dict[str, str]]:
    panels = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    return [target for panel in panels for target in panel["targets"]]


def unknown(expression: str, known: Labels) -> set[str]:
    """Return the names of metrics and labels in an expression that the server does not have."""
    used = _USED.findall(expression)
    missing = {name for name, _ in used if name not in known}
    labels: set[str] = set().union(*(known.get(name, set()) for name, _ in used))
    for name, selector in used:
        missing |= set(re.findall(r"(\w+)\s*[=!]", selector)) - known.get(name, set())
    for group in _GROUPED.findall(expression):
        missing |= {label.strip() for label in group.split(",")} - labels
    return missing


def promtool(*args: str | Path, given: str = "") -> str:
    """Run promtool, assert that it found nothing, and return what it wrote."""
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("no promtool: it is in Debian's package `prometheus`")
    ended = subprocess.run([program, *map(str, args)], input=given, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout + ended.stderr


def test_alerts_use_metrics_and_labels_that_exist(known: Labels) -> None:
    expressions = [rule["expr"] for rule in rules()]
    assert len(expressions) > 10
    assert {text: missing for text in expressions if (missing := unknown(text, known))} == {}


def test_alerts_use_series_that_are_recorded() -> None:
    names = {name for rule in rules() for name in re.findall(r"transcription:[\w:]+", rule["expr"])}
    assert names
    assert names <= {rule["record"] for rule in rules() if "record" in rule}


def test_dashboard_uses_metrics_and_labels_that_exist(known: Labels) -> None:
    expressions = [target["expr"] for target in targets()]
    assert len(expressions) > 20
    assert {text: missing for text in expressions if (missing := unknown(text, known))} == {}


def test_dashboard_shows_every_metric(known: Labels) -> None:
    shown = {name for target in targets() for name, _ in _USED.findall(target["expr"])}
    series = {name for name in known if not name.endswith(("_created", "_sum", "_bucket"))}
    assert series - shown == set()


def test_legends_name_labels_of_their_query() -> None:
    for target in targets():
        groups = _GROUPED.findall(target["expr"])
        labels = {label.strip() for label in (groups[-1] if groups else "").split(",")}
        assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= labels, target["expr"]


def test_panels_of_the_dashboard_do_not_overlap() -> None:
    panels = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    fields = [field for panel in panels for field in _fields(panel["gridPos"])]
    assert len(set(fields)) == len(fields)
    assert max(x for x, _ in fields) < 24


def _fields(place: Mapping[str, int]) -> Iterable[tuple[int, int]]:
    return ((place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"]))


@pytest.mark.parametrize("name", ["transcription_missing", 'transcription_recordings{color="red"}'])
def test_names_that_do_not_exist_are_detected(known: Labels, name: str) -> None:
    assert unknown(f"max by (state) ({name})", known)


def test_promtool_accepts_the_alerts() -> None:
    assert f"{len(rules())} rules found" in promtool("check", "rules", RULES)


def test_alerts_fire_when_they_should() -> None:
    assert "SUCCESS" in promtool("test", "rules", Path(__file__).with_name("prometheus-rules-test.yaml"))


def test_promtool_accepts_a_scrape(scrape: str) -> None:
    assert promtool("check", "metrics", given=scrape) == ""


def test_promtool_parses_the_queries_of_the_dashboard(tmp_path: Path) -> None:
    queries = {target["expr"].replace("$__rate_interval", "5m") for target in targets()}
    group = {
        "name": "dashboard",
        "rules": [{"record": f"q:{n}", "expr": text} for n, text in enumerate(sorted(queries))],
    }
    file = tmp_path / "queries.yaml"
    file.write_text(yaml.safe_dump({"groups": [group]}), encoding="utf-8")
    assert f"{len(queries)} rules found" in promtool("check", "rules", file)
