"""Pod sizes, prices and the cost report."""

from datetime import UTC, date, datetime

import dagster as dg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transcription_assets import definitions, media
from transcription_assets.costs import prices
from transcription_assets.costs.report import PricedStep, daily_costs
from transcription_assets.costs.timing import StepTime, share_time
from transcription_assets.defs import step_costs
from transcription_assets.defs.assets import OPTIONAL, graph
from transcription_assets.defs.metadata import INLINE_LIMIT
from transcription_assets.defs.sources import sources
from transcription_assets.settings import Settings
from transcription_assets_tests import recordings

seconds = st.floats(0, 1e6, allow_subnormal=False)
DAY = date(2026, 11, 21)


def test_every_step_has_a_size_and_a_price() -> None:
    assets = [sources, *graph(*OPTIONAL)]
    steps = {asset.key.to_user_string() for asset in assets if isinstance(asset, dg.AssetsDefinition)}
    assert set(prices.CPU_SIZES) == steps
    assert set(prices.GPU_SIZES) <= steps
    for size in (*prices.CPU_SIZES.values(), *prices.GPU_SIZES.values()):
        assert size.usd_per_hour > 0
        assert size.memory_gib >= 1


def test_hosted_prices_have_a_source_and_a_date() -> None:
    for item in prices.HOSTED:
        assert item.source
        assert item.read.year >= 2026
        assert 0 < item.usd_per_audio_hour < 10


def test_the_audio_pod_has_disk_for_the_longest_recording() -> None:
    chosen = Settings.model_validate({"executor": "k8s", "ffmpeg": recordings.wheel_ffmpeg()})
    resources = definitions.build(chosen).resources or {}
    decoder = resources["decoder"].resource_fn(dg.build_init_resource_context())
    samples_and_flac = 2 * 2 * media.SAMPLE_RATE * chosen.longest_hours * 3600
    assert samples_and_flac <= (decoder.open().most_disk or 0) < prices.CPU_SIZES["audio"].disk_gib * (1 << 30)


@given(step=st.sampled_from(sorted(prices.CPU_SIZES)), factor=st.floats(0.05, 16))
def test_a_scaled_pod_keeps_a_minimum_size(step: str, factor: float) -> None:
    size = prices.size(step, gpu=False, scale=factor)
    assert size.cpus >= 0.1
    assert size.memory_gib >= 1.0
    assert size.usd_per_hour == pytest.approx(prices.CPU_SIZES[step].usd_per_hour * factor)


def test_spot_is_cheaper_and_a_gpu_pod_costs_its_whole_node() -> None:
    full = prices.size("transcript", gpu=True)
    assert prices.size("transcript", gpu=True, spot=True).usd_per_hour < full.usd_per_hour
    assert prices.size("transcript", gpu=True, scale=0.5).usd_per_hour == full.usd_per_hour


@given(
    own=st.lists(seconds, min_size=1, max_size=20),
    common=st.builds(StepTime, seconds, seconds, seconds, seconds),
)
def test_the_time_of_a_batch_is_divided_among_its_recordings(own: list[float], common: StepTime) -> None:
    parts = share_time(own, common)
    for name in ("queue_s", "start_s", "load_s"):
        assert sum(getattr(part, name) for part in parts) == pytest.approx(getattr(common, name), abs=1e-6)
    assert sum(part.compute_s for part in parts) == pytest.approx(common.compute_s + sum(own), abs=1e-6)
    assert all(part.compute_s >= seconds - 1e-9 for part, seconds in zip(parts, own, strict=True))


def spending(usd: float, audio_s: float, day: date = DAY) -> PricedStep:
    return PricedStep(day, "transcript", StepTime(1.0, 2.0, 3.0, 4.0), 30.0, 10.0, usd, audio_s)


def test_the_parts_of_a_day_add_up_to_its_price() -> None:
    found = daily_costs([spending(1.0, 7200), spending(0.5, 3600), spending(2.0, 0, date(2026, 11, 20))])
    assert [day.day for day in found] == [date(2026, 11, 20), DAY]
    assert found[1].usd_per_audio_hour == pytest.approx(0.5)
    assert found[0].usd_per_audio_hour is None, "a day without audio has no price per hour"
    parts = found[1].usd_queue + found[1].usd_start + found[1].usd_load + found[1].usd_compute
    assert parts == pytest.approx(1.5)


@given(st.lists(st.tuples(st.floats(0, 1e5), st.just(0.0) | st.floats(1, 1e7)), max_size=40))
def test_the_report_fits_the_inline_limit(figures: list[tuple[float, float]]) -> None:
    found = daily_costs(
        spending(usd, audio_s, date.fromordinal(DAY.toordinal() - number))
        for number, (usd, audio_s) in enumerate(figures)
    )
    for value in step_costs.report_metadata(found).values():
        if isinstance(value, dg.MarkdownMetadataValue):
            assert len((value.md_str or "").encode("utf-16-le")) // 2 < INLINE_LIMIT, value.md_str


def test_the_chart_has_a_bar_for_us_and_each_hosted_price() -> None:
    lines = step_costs.chart(daily_costs([spending(0.04, 3600)])).splitlines()[1:-1]
    assert len(lines) == 1 + len(prices.HOSTED)
    bars = {line[: line.index("  ") if "  " in line else 10].strip(): line.count("█") for line in lines}
    assert bars[f"{DAY:%d %b}"] < min(value for name, value in bars.items() if name != f"{DAY:%d %b}")


def test_the_report_counts_each_priced_step_once() -> None:
    told = {
        "queue_s": 10.0,
        "start_s": 2.0,
        "load_s": 3.0,
        "compute_s": 25.0,
        "cost_usd": 0.02,
        "cpu_seconds": 90.0,
        "gpu_seconds": 30.0,
        "duration_s": 1800.0,
    }
    with dg.DagsterInstance.ephemeral() as instance:
        for asset, key, metadata in (
            ("transcript", "a", {**told, "reused": False}),
            ("transcript", "b", {**told, "reused": True}),
            ("embeddings", "a", told),
            ("transcript", "free", {"duration_s": 7200.0}),
        ):
            instance.report_runless_asset_event(dg.AssetMaterialization(asset, partition=key, metadata=metadata))
        found = daily_costs(step_costs.priced_steps(instance, datetime.now(UTC)))
    assert len(found) == 1
    assert found[0].usd == pytest.approx(0.06)
    assert found[0].audio_h == pytest.approx(0.5), "each transcribed recording counts once"
    assert found[0].gpu_h == pytest.approx(90 / 3600)


def test_a_report_without_prices_gives_the_reason() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        shown = step_costs.report_metadata(daily_costs(step_costs.priced_steps(instance, datetime.now(UTC))))
    assert list(shown) == ["summary"]
    assert "TRANSCRIPTION_EXECUTOR=k8s" in str(shown["summary"].value)
