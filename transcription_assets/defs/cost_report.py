"""The cost report: reads the cost of recordings from their materialisations and formats it for the UI."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

import dagster as dg

from transcription_assets.costs.prices import HOSTED
from transcription_assets.costs.report import DailyCost, PricedStep
from transcription_assets.costs.timing import StepTime
from transcription_assets.defs.metadata import fitting

DAYS = 30
PAGE = 1000
STEPS = ("video", "audio", "transcript", "embeddings")
BAR = 24
"""Length of the longest bar in characters."""

Metadata = dict[str, dg.MetadataValue]


def priced_steps(instance: dg.DagsterInstance, now: datetime) -> Iterator[PricedStep]:
    """Yield the cost of each materialisation of the last `DAYS` days that has a price, fetched in pages of `PAGE`."""
    since = (now - timedelta(days=DAYS)).timestamp()
    for step in STEPS:
        wanted, cursor = dg.AssetRecordsFilter(dg.AssetKey(step), after_timestamp=since), None
        while True:
            found = instance.fetch_materializations(wanted, limit=PAGE, cursor=cursor)
            yield from (item for record in found.records if (item := _priced(step, record)))
            cursor = found.cursor
            if not found.has_more:
                break


def _priced(step: str, record: dg.EventLogRecord) -> PricedStep | None:
    made = record.asset_materialization
    told = {name: value.value for name, value in made.metadata.items()} if made else {}
    figures = {name: value for name, value in told.items() if isinstance(value, int | float)}
    if "cost_usd" not in figures:
        return None
    heard = step == "transcript" and not figures.get("reused")
    parts = StepTime(*(figures.get(part, 0.0) for part in ("queue_s", "start_s", "load_s", "compute_s")))
    return PricedStep(
        datetime.fromtimestamp(record.timestamp, UTC).date(),
        step,
        parts,
        figures.get("cpu_seconds", 0.0),
        figures.get("gpu_seconds", 0.0),
        figures["cost_usd"],
        figures.get("duration_s", 0.0) if heard else 0.0,
    )


def report_metadata(found: Sequence[DailyCost]) -> Metadata:
    """Return the metadata of the report: summary, chart and tables as Markdown, all days as a table, and totals."""
    if not found:
        return {"summary": dg.MetadataValue.md(NOTHING)}
    usd, audio_h = sum(day.usd for day in found), sum(day.audio_h for day in found)
    figures: Metadata = {
        "usd": dg.MetadataValue.float(round(usd, 6)),
        "audio_hours": dg.MetadataValue.float(round(audio_h, 4)),
        "gpu_hours": dg.MetadataValue.float(round(sum(day.gpu_h for day in found), 4)),
        "cpu_hours": dg.MetadataValue.float(round(sum(day.cpu_h for day in found), 4)),
    }
    if audio_h:
        figures["usd_per_audio_hour"] = dg.MetadataValue.float(round(usd / audio_h, 6))
    return {
        "summary": dg.MetadataValue.md(_summary(usd, audio_h, len(found))),
        "chart": dg.MetadataValue.md(chart(found)),
        "days": dg.MetadataValue.md(table(found)),
        "all days": dg.MetadataValue.table([_record(day) for day in reversed(found)]),
        "hosted": dg.MetadataValue.table(_hosted()),
        **figures,
    }


NOTHING = (
    "Nothing was paid by the hour in the last 30 days. With `TRANSCRIPTION_EXECUTOR=k8s` each step has a pod, and what "
    "that reserves has a price."
)
BOUND = (
    "By list prices; the wait for a node is priced as if it were booting for this pod. **Not in it**: what was done by "
    "pods that died or were told to leave (their recordings count as reused, neither $ nor hours), `search_index` and "
    "this report, the pods that watch runs, the servers, the bucket."
)


def _summary(usd: float, audio_h: float, days: int) -> str:
    price = f"**{usd / audio_h:.3f} $ for an hour of sound**" if audio_h else "**Nothing was heard**"
    return f"{price}: {audio_h:.2f} h of sound on {days} days for {usd:.2f} $. {BOUND}"


def chart(found: Sequence[DailyCost]) -> str:
    """Return $ per audio hour as bars of text: the last seven days that have one, newest first, and hosted services.

    Text, because the UI has no inline charts: it hides a data URI of more than a thousand characters behind a link, and
    some Content-Security-Policies block it.
    """
    ours = [(f"{day.day:%d %b}", day.usd_per_audio_hour) for day in reversed(found)]
    ours_known = [(name, value) for name, value in ours if value is not None][:7]
    theirs = [(item.service, item.usd_per_audio_hour) for item in HOSTED]
    rows = [*ours_known, *theirs]
    most, width = max(value for _, value in rows), max(len(name) for name, _ in rows)
    lines = [f"{name:<{width}} {_bar(value / most)} {value:.3f} $" for name, value in rows]
    return "\n".join(["```", *lines, "```"])


def _bar(share: float) -> str:
    """Return a bar for a share in [0, 1]; it is never empty."""
    eighths = max(1, round(share * BAR * 8))
    return "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()


def table(found: Sequence[DailyCost]) -> str:
    """Return the last days as a Markdown table, newest first, cut to the length that the UI shows inline."""
    head = ["| day | sound | $ | $/h of sound | queue | start | load | compute |", "| --- |" + " ---: |" * 7]
    rows = [
        f"| {day.day:%Y-%m-%d} | {day.audio_h:.2f} h | {day.usd:.3f} | {_or_dash(day.usd_per_audio_hour)} "
        f"| {day.usd_queue:.3f} | {day.usd_start:.3f} | {day.usd_load:.3f} | {day.usd_compute:.3f} |"
        for day in reversed(found)
    ]
    return fitting([*head, *rows], "\n")


def _or_dash(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _record(day: DailyCost) -> dg.TableRecord:
    return dg.TableRecord(
        {
            "day": day.day.isoformat(),
            "sound_h": round(day.audio_h, 4),
            "usd_per_audio_hour": _or_dash(day.usd_per_audio_hour),
            "usd": round(day.usd, 6),
            "queue": round(day.usd_queue, 6),
            "start": round(day.usd_start, 6),
            "load": round(day.usd_load, 6),
            "compute": round(day.usd_compute, 6),
            "gpu_h": round(day.gpu_h, 4),
            "cpu_h": round(day.cpu_h, 4),
        }
    )


def _hosted() -> list[dg.TableRecord]:
    return [
        dg.TableRecord(
            {
                "service": item.service,
                "usd_per_audio_hour": item.usd_per_audio_hour,
                "source": item.source,
                "read": item.read.isoformat(),
            }
        )
        for item in HOSTED
    ]
