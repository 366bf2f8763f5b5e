"""The asset graph: (sources →) inbox → video → audio → transcript → embeddings → search_index; costs.

If voices are told apart (`TRANSCRIPTION_SPEAKERS`), `speakers` runs beside `transcript`; if slides are read
(`TRANSCRIPTION_SLIDES`), `slides` runs beside `audio`. `embeddings` follows all of them.

The UI shows the docstrings of the assets as their descriptions.
"""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime

import dagster as dg

from transcription_assets.costs.report import daily_costs
from transcription_assets.costs.timing import WorkerUse
from transcription_assets.defs import checks, metadata, runs, step_costs
from transcription_assets.defs.batch import (
    NO_VALUE,
    RETRIES,
    Events,
    StepResult,
    batch_keys,
    dagster_failures,
    materialise_each,
)
from transcription_assets.defs.jobs import daily, follow, recordings, refresh
from transcription_assets.defs.resources import (
    DecoderResource,
    DiariserResource,
    EncoderResource,
    SlideReaderResource,
    SpeechResource,
    StoreResource,
)
from transcription_assets.domain import media_keys
from transcription_assets.errors import TranscriptionError, TransientFailure
from transcription_assets.pipeline import audio as audio_step
from transcription_assets.pipeline import embeddings as embeddings_step
from transcription_assets.pipeline import identification, move_done, origin, quality_checks, quarantine, usage_journal
from transcription_assets.pipeline import search_index as search_index_step
from transcription_assets.pipeline import slides as slides_step
from transcription_assets.pipeline import speakers as speakers_step
from transcription_assets.pipeline import transcript as transcript_step
from transcription_assets.pipeline import video as video_step
from transcription_assets.pipeline.failure_notes import recording_failures, records_failure
from transcription_assets.pipeline.work_queue import WholeRecording
from transcription_assets.storage import Store

OWNERS = ["team:transcription"]
GROUP = "recordings"
"""A single group: with several, the UI's lineage opens with collapsed groups instead of the assets."""
SINGLE_RUN = dg.BackfillPolicy.single_run()
GPU_POOL = "gpu"
"""Pool that limits concurrent pods with a speech model over all runs; without a limit, each run may have one."""
ENCODER_POOL = "encoder"
"""Pool of the sentence encoder, separate because it often runs on other nodes."""
SHORTEST_S = 0.001
"""Decoding time is rounded to milliseconds; one that rounds to 0 still gets a share of the step's time and cost."""

inbox = dg.AssetSpec(
    "inbox",
    deps=["sources"],  # defs/sources.py
    group_name=GROUP,
    kinds={"file"},
    owners=OWNERS,
    description="Media files in `video/` and `audio/` of the store, also in nested folders. "
    "The sensor `inbox_sensor` detects new and changed files and requests runs for them.",
)


@dg.asset(
    partitions_def=recordings,
    deps=[inbox],
    group_name=GROUP,
    kinds={"ffmpeg"},
    owners=OWNERS,
    config_schema={},
    backfill_policy=SINGLE_RUN,
    retry_policy=RETRIES,
    dagster_type=NO_VALUE,
    output_required=False,
    check_specs=[checks.PLAYABLE],
)
def video(context: dg.AssetExecutionContext, store: StoreResource, decoder: DecoderResource) -> Events:
    """Probe the recording: duration, video and audio codecs, and a poster frame.

    A file that cannot be played (empty, truncated, not a media file, no audio) fails here with ffmpeg's message.
    """
    batch = batch_keys(context)
    with dagster_failures():
        place, ffmpeg = store.open(), decoder.open()

    def work(key: str) -> StepResult:
        made = video_step.materialise(place, key, ffmpeg)
        small = media_keys.thumbnail(key)
        thumbnail = place.read(small) if made.has_poster and place.exists(small) else b""
        return StepResult(
            key,
            f"{made.etag}:{made.version}",
            metadata.video(made, thumbnail, place, origin.load(place, key)),
            (quality_checks.playable(made),),
        )

    yield from materialise_each(context, place, batch, work)


@dg.asset(
    partitions_def=recordings,
    deps=[video],
    group_name=GROUP,
    kinds={"ffmpeg"},
    owners=OWNERS,
    config_schema={},
    backfill_policy=SINGLE_RUN,
    retry_policy=RETRIES,
    automation_condition=follow,
    dagster_type=NO_VALUE,
    output_required=False,
    check_specs=[checks.WHOLE, checks.AUDIBLE],
)
def audio(context: dg.AssetExecutionContext, store: StoreResource, decoder: DecoderResource) -> Events:
    """Extract the audio as 16 kHz mono FLAC, the input of the speech model.

    If less audio can be decoded than the container states, the decoded part is stored and the check `whole` warns.
    """
    batch = batch_keys(context)
    with dagster_failures():
        place, ffmpeg = store.open(), decoder.open()
        _lift_quarantine(context, place, batch)
        with recording_failures(place, batch, "audio"):
            workers = decoder.workers(ffmpeg, _owner(context), context.log.info)
    progress = step_costs.StepProgress(context.log.info, "extracted")
    delegated = workers.begin(place, batch, lambda key: audio_step.pending(place, key, ffmpeg), progress.report)

    def use() -> WorkerUse:
        delegated.end()
        return workers.use

    def work(key: str) -> StepResult:
        is_new = delegated.finish(key)
        made = audio_step.materialise(place, key, ffmpeg)
        if is_new:
            made = replace(made, reused=False)
        results = (quality_checks.whole(made), quality_checks.audible(made))
        own_s = max(made.duration, SHORTEST_S) if is_new else None
        return StepResult(key, f"{made.etag}:{made.version}", metadata.audio(made, place), results, own_s)

    try:
        with delegated:
            yield from materialise_each(context, place, batch, work, use=use)
    finally:
        workers.close()


@dg.asset(
    partitions_def=recordings,
    deps=[audio],
    group_name=GROUP,
    kinds={"whisper"},
    owners=OWNERS,
    config_schema={},
    backfill_policy=SINGLE_RUN,
    retry_policy=RETRIES,
    automation_condition=follow,
    dagster_type=NO_VALUE,
    output_required=False,
    check_specs=[checks.COVERAGE, checks.CONFIDENCE, checks.NO_HALLUCINATIONS],
    pool=GPU_POOL,
)
def transcript(
    context: dg.AssetExecutionContext, store: StoreResource, decoder: DecoderResource, speech: SpeechResource
) -> Events:
    """Transcribe the speech with word timestamps: JSON, plain text, and SRT / VTT subtitles.

    Silence and music give an empty transcript with `no_speech` set.
    """
    batch = batch_keys(context)
    with dagster_failures():
        place = store.open()
        _lift_quarantine(context, place, batch)
        with recording_failures(place, batch, "transcript"):
            ffmpeg = decoder.open().ffmpeg
            transcriber = speech.transcriber(ffmpeg, _owner(context), context.log.info)
            tools = transcript_step.TranscriptTools(transcriber, ffmpeg)
    decoding = step_costs.StepProgress(context.log.info, "decoded")
    # All recordings are decoded together; their results come in any order, the calls of `work` in that of the batch.
    results = transcript_step.materialise_each(place, batch, tools, decoding.report)
    answers: dict[str, transcript_step.TranscriptResult | Exception] = {}

    def use() -> WorkerUse:
        answers.update(results)  # workers may end some time after their last recording
        return transcriber.use

    def work(key: str) -> StepResult:
        while key not in answers:
            done, result = next(results)
            answers[done] = result
        answer = answers.pop(key)
        if isinstance(answer, Exception):
            raise answer
        made, reused = answer
        return StepResult(
            key,
            f"{made.media.etag}:{made.model.name}@{made.model.revision}",
            {**metadata.transcript(made, place, reused=reused), **decoding.cold_start()},
            (
                quality_checks.speech_coverage(made, audio_step.load(place, key)),
                quality_checks.confidence(made),
                quality_checks.no_hallucinations(made),
            ),
            own_s=0.0 if reused else max(made.timing.wall_s, SHORTEST_S),
        )

    try:
        with closing(results):
            yield from materialise_each(context, place, batch, work, use=use, gpus=speech.local_gpus)
    finally:
        transcriber.close()


@dg.asset(
    partitions_def=recordings,
    deps=[audio],
    group_name=GROUP,
    kinds={"pytorch"},
    owners=OWNERS,
    config_schema={},
    backfill_policy=SINGLE_RUN,
    retry_policy=RETRIES,
    automation_condition=follow,
    dagster_type=NO_VALUE,
    output_required=False,
    check_specs=[checks.ATTRIBUTED],
)
def speakers(context: dg.AssetExecutionContext, store: StoreResource, diariser: DiariserResource) -> Events:
    """Find out who speaks when, by the voices: turns with labels, and a voiceprint for each speaker.

    It needs no GPU and runs beside `transcript`. `embeddings` gives the words their speakers.
    """
    batch = batch_keys(context)
    with dagster_failures():
        place = store.open()
        with recording_failures(place, batch, "speakers"):
            tools = diariser.open()
    progress = step_costs.StepProgress(context.log.info, "searched for speakers")

    def work(key: str) -> StepResult:
        made = speakers_step.materialise(place, key, tools, lambda done_s: progress.report(key, done_s))
        results = (quality_checks.attributed(made),)
        return StepResult(key, made.fingerprint, metadata.speakers(made, place), results)

    yield from materialise_each(context, place, batch, work)


@dg.asset(
    partitions_def=recordings,
    deps=[video],
    group_name=GROUP,
    kinds={"onnx"},
    owners=OWNERS,
    config_schema={},
    backfill_policy=SINGLE_RUN,
    retry_policy=RETRIES,
    automation_condition=follow,
    dagster_type=NO_VALUE,
    output_required=False,
    check_specs=[checks.EXAMINED],
)
def slides(
    context: dg.AssetExecutionContext,
    store: StoreResource,
    decoder: DecoderResource,
    slide_reader: SlideReaderResource,
) -> Events:
    """Read the text that the recording shows, such as slides and screens: texts with their times, and thumbnails.

    It needs no GPU and runs beside `audio`. The words do not depend on it: what cannot be read, even with all retries
    or for lack of the model, is a warning of the check `examined`, and the recording goes on without slides.
    """
    batch = batch_keys(context)
    with dagster_failures():
        place = store.open()
    is_last_attempt = context.retry_number >= RETRIES.max_retries
    tools: slides_step.SlideTools | TranscriptionError
    try:
        tools = slide_reader.open(decoder.open())
    except TranscriptionError as error:
        tools = error
    progress = step_costs.StepProgress(context.log.info, "searched for slides")

    def work(key: str) -> StepResult:
        try:
            if isinstance(tools, TranscriptionError):
                raise tools
            made = slides_step.materialise(place, key, tools, lambda done_s: progress.report(key, done_s))
            small = slides_step.thumbnails(place, made, metadata.SHEET)
        except TranscriptionError as error:
            if isinstance(error, TransientFailure) and not is_last_attempt:
                raise
            context.log.warning(f"{key} goes on without slides: {error}")
            made, small = slides_step.unread(place, key, error), []
        return StepResult(key, made.fingerprint, metadata.slides(made, small, place), (quality_checks.examined(made),))

    yield from materialise_each(context, place, batch, work)


def _embeddings(upstream: Sequence[dg.AssetsDefinition]) -> dg.AssetsDefinition:
    """Return the asset `embeddings` with these dependencies."""
    return dg.asset(
        name="embeddings",
        partitions_def=recordings,
        deps=upstream,
        group_name=GROUP,
        kinds={"sentencetransformers", "polars", "lancedb"},
        owners=OWNERS,
        config_schema={},
        backfill_policy=SINGLE_RUN,
        retry_policy=RETRIES,
        automation_condition=follow,
        dagster_type=NO_VALUE,
        output_required=False,
        check_specs=[checks.COMPLETE],
        pool=ENCODER_POOL,
        metadata={"dagster/column_schema": metadata.PASSAGE_COLUMNS, "dagster/table_name": "passages"},
    )(_encode)


def _encode(context: dg.AssetExecutionContext, store: StoreResource, encoder: EncoderResource) -> Events:
    """Compute passages of about 30 s with their vectors: a Parquet file, and rows in the LanceDB table `passages`.

    The recording can be searched from here on. A new version of a recording replaces its rows atomically. If
    `TRANSCRIPTION_DONE_PREFIX` is set, the recording is then moved from the inbox to `DONE_video/` or `DONE_audio/`.
    """
    batch = batch_keys(context)
    with dagster_failures():
        place = store.open()
        with recording_failures(place, batch, "embeddings"):
            table, voiceprints, model = store.table(), store.voiceprints(), encoder.open()
            workers = encoder.workers(model, _owner(context), context.log.info)
        _lift_quarantine(context, place, batch)
    has_speakers = speakers.key in context.assets_def.dependency_keys

    @records_failure("embeddings")
    def name_speakers(place: Store, key: str) -> None:
        if has_speakers:
            identification.apply(place, voiceprints, key)

    def pending(key: str) -> WholeRecording | None:
        name_speakers(place, key)
        return embeddings_step.pending(place, key, model, encoder.passage_options)

    progress = step_costs.StepProgress(context.log.info, "encoded")
    delegated = workers.begin(place, batch, pending, progress.report)
    results: list[embeddings_step.Embeddings] = []

    def use() -> WorkerUse:
        delegated.end()
        return workers.use

    def work(key: str) -> StepResult:
        is_new = delegated.finish(key)
        if not is_new:
            name_speakers(place, key)
        made = embeddings_step.materialise(place, key, model, encoder.passage_options)
        results.append(made)
        shown = replace(made, reused=False) if is_new else made
        own_s = float(max(len(made.rows), 1)) if is_new else None
        return StepResult(
            key, made.fingerprint, metadata.embeddings(shown, place), (quality_checks.complete(made),), own_s
        )

    def publish() -> Mapping[str, TranscriptionError]:
        if has_speakers:
            identification.publish(place, voiceprints, [made.key for made in results])
        embeddings_step.publish(place, table, results)
        return move_done.move(place, table, results) if store.done_prefix else {}

    try:
        with delegated:
            yield from materialise_each(context, place, batch, work, publish=publish, use=use)
    finally:
        workers.close()


embeddings = _embeddings([transcript])


def _owner(context: dg.AssetExecutionContext) -> str:
    """Return the ID that a run shares with its retries."""
    return context.run.root_run_id or context.run_id


def _lift_quarantine(context: dg.AssetExecutionContext, place: Store, batch: Sequence[str]) -> None:
    """Try recordings again that a process died of, if a person asks for them.

    Raises:
        TranscriptionError: The store refuses or does not answer.

    """
    if context.retry_number == 0 and runs.is_requested_by_a_person(context.run):
        quarantine.lift(place, *batch)


@dg.asset(
    deps=[dg.AssetDep(embeddings, partition_mapping=dg.AllPartitionMapping())],
    group_name=GROUP,
    kinds={"lancedb"},
    owners=OWNERS,
    config_schema={},
    retry_policy=RETRIES,
    automation_condition=refresh,
)
def search_index(store: StoreResource) -> dg.MaterializeResult[None]:
    """Maintain the search table: compact it, delete old versions, update the vector index. Readers are not blocked."""
    with dagster_failures():
        state = search_index_step.materialise(store.table())
        usage_journal.compact(store.open())
    return dg.MaterializeResult(metadata=metadata.search_index(state))


@dg.asset(
    deps=[dg.AssetDep(embeddings, partition_mapping=dg.AllPartitionMapping())],
    group_name=GROUP,
    kinds={"report"},
    owners=OWNERS,
    config_schema={},
    retry_policy=RETRIES,
    automation_condition=daily,
)
def costs(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
    """Report the cost per audio hour on each of the last 30 days, in parts, beside the list prices of hosted services.

    Computed from `cost_usd` and the step timing in the metadata of each recording's materialisations.
    """
    found = daily_costs(step_costs.priced_steps(context.instance, datetime.now(UTC)))
    return dg.MaterializeResult(metadata=step_costs.report_metadata(found))


OPTIONAL = {"speakers": speakers, "slides": slides}
"""Assets that the settings add, by name; `embeddings` follows those that are there."""


def graph(*optional: str) -> list[dg.AssetSpec | dg.AssetsDefinition]:
    """Return the asset graph with these optional assets."""
    added = [OPTIONAL[name] for name in optional]
    last = _embeddings([transcript, *added]) if added else embeddings
    return [inbox, video, audio, transcript, *added, last, search_index, costs]


GRAPH = graph()
