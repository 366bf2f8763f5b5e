"""Sources of recordings: the asset `sources`, one partition each, and a sensor for each kind."""

from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import get_args

import dagster as dg

from transcription_assets.defs.assets import GROUP, OWNERS, inbox
from transcription_assets.defs.batch import dagster_failures
from transcription_assets.defs.resources import DecoderResource, FetcherResource, StoreResource
from transcription_assets.defs.runs import ACTIVE, PARTITION
from transcription_assets.errors import PermanentFailure
from transcription_assets.pipeline.origin import Origin
from transcription_assets.sources import catalogue, decisions, ledger
from transcription_assets.sources.catalogue import Kind
from transcription_assets.sources.fetching import FetchReport
from transcription_assets.sources.ledger import Ledger

INTERVAL_S = 60
"""Seconds between two ticks; `every_hours` of a source says how often it is listed."""
RUNS_A_TICK = 20

source_names = dg.DynamicPartitionsDefinition(name="sources")
"""One partition for each source, whose key is its name."""

_COLUMNS = dg.TableSchema(
    columns=[
        dg.TableColumn("recording", "string", description="media key"),
        dg.TableColumn("title", "string"),
        dg.TableColumn("recorded", "string", description="day, if the source gives one"),
        dg.TableColumn("link", "string", description="page about the recording"),
        dg.TableColumn("licence", "string"),
    ]
)


@dg.asset(
    partitions_def=source_names,
    group_name=GROUP,
    kinds={"rss"},
    owners=OWNERS,
    config_schema={},
)
def sources(
    context: dg.AssetExecutionContext, store: StoreResource, decoder: DecoderResource, fetcher: FetcherResource
) -> dg.MaterializeResult[None]:
    """Fetch new recordings of a source into the inbox, each with its origin: title, day, page and licence.

    Sources are named in `sources.toml` of the store. A recording that cannot be fetched does not stop the others; it is
    tried again at later looks, and listed in the state of the source.
    """
    name = context.partition_key
    with dagster_failures():
        place = store.open()
        found = catalogue.load(place)
        if name not in found:
            hint = "add it again, or delete its partition"
            raise PermanentFailure(f"{catalogue.PATH} has no source {name}; {hint}", hint=hint)
        report = fetcher.open(place, decoder.open()).fetch(found[name], context.log.info)
        state = ledger.load(place, name)
    for key, made in report.landed.items():
        # On `inbox`, as the recording has no partition before the inbox sensor finds it.
        context.log_event(dg.AssetObservation(inbox.key, metadata=_origin(key, made)))
    for title, reason in report.failed.items():
        context.log.warning(f"{title}: {reason}")
    return dg.MaterializeResult(metadata=_metadata(report, state))


def _origin(key: str, made: Origin) -> Mapping[str, dg.MetadataValue]:
    """Return where a recording came from, as metadata."""
    entries = {
        "recording": dg.MetadataValue.text(key),
        "source": dg.MetadataValue.text(made.source),
        "title": dg.MetadataValue.text(made.title),
        "media_url": dg.MetadataValue.text(made.media_url),
    }
    return entries | ({"link": dg.MetadataValue.url(made.link)} if made.link else {})


def _metadata(report: FetchReport, state: Ledger) -> Mapping[str, dg.MetadataValue]:
    rows = [
        dg.TableRecord(
            {
                "recording": key,
                "title": made.title,
                "recorded": made.recorded.isoformat() if made.recorded else "",
                "link": made.link,
                "licence": made.licence,
            }
        )
        for key, made in report.landed.items()
    ]
    return {
        "fetched": dg.MetadataValue.int(len(report.landed)),
        "failed": dg.MetadataValue.int(len(report.failed)),
        "pending": dg.MetadataValue.int(report.pending),
        "offered": dg.MetadataValue.int(report.offered),
        "unchanged": dg.MetadataValue.bool(report.unchanged),
        "stopped": dg.MetadataValue.text(report.stopped or "no"),
        "fetched_mb": dg.MetadataValue.float(round(report.bytes / 1e6, 3)),
        "recordings": dg.MetadataValue.table(rows, schema=_COLUMNS),
        "landed_so_far": dg.MetadataValue.int(state.count("landed")),
        "given_up": dg.MetadataValue.int(state.count("failed")),
    }


fetch_sources = dg.define_asset_job(
    "fetch_sources",
    selection=["sources"],
    description="Fetch new recordings of one source into the inbox, from where the inbox sensor takes them.",
)


def source_sensor(kind: Kind) -> dg.SensorDefinition:
    """Create the sensor of the sources of one kind.

    Raises:
        TranscriptionError: From its evaluation: `sources.toml` is invalid, or the store cannot be read. The damaged
            state of one source is logged, and does not stop the others.

    """

    @dg.sensor(
        name=f"{kind}_sources",
        job_name=fetch_sources.name,
        minimum_interval_seconds=INTERVAL_S,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Requests a run for each source of kind `{kind}` in sources.toml that is to be looked at again.",
    )
    def source_sensor(context: dg.SensorEvaluationContext, store: StoreResource) -> dg.SensorResult:
        place, now = store.open(), datetime.now(UTC)
        found = catalogue.load(place)
        states: dict[str, Ledger] = {}
        for name in (name for name, source in found.items() if source.kind == kind):
            try:
                states[name] = ledger.load(place, name)
            except PermanentFailure as error:
                context.log.error(str(error))
        readable = {name: found[name] for name in states}
        busy = _busy(context.instance, states)
        names = [name for name in decisions.due(readable, states, kind, now) if name not in busy][:RUNS_A_TICK]
        if not names:
            active = f", {len(busy)} with an active run" if busy else ""
            return dg.SensorResult(skip_reason=f"{len(states)} sources of kind {kind}{active}, none is due")
        return dg.SensorResult(
            run_requests=[
                dg.RunRequest(run_key=_run_key(name, states[name], now), partition_key=name) for name in names
            ],
            dynamic_partitions_requests=[source_names.build_add_request(names)],
        )

    return source_sensor


def _run_key(name: str, state: Ledger, now: datetime) -> str:
    """Return the key of a run: one for each listing and, in case that run ends without one, another after an hour."""
    return f"{name} {state.looked} {now:%Y-%m-%dT%H}"


def _busy(instance: dg.DagsterInstance, names: Collection[str]) -> set[str]:
    """Return the sources that have an active run."""
    active = instance.get_runs(dg.RunsFilter(job_name=fetch_sources.name, statuses=ACTIVE))
    return {run.tags[PARTITION] for run in active if run.tags.get(PARTITION) in names}


sensors = [source_sensor(kind) for kind in get_args(Kind)]
