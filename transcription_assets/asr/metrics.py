"""Metrics of the ASR service for Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest


class ServiceMetrics:
    """The metrics of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Histogram(
            "transcription_asr_request_seconds",
            "Time until the end of a response, by its status.",
            ["status"],
            registry=self.registry,
            buckets=(0.1, 0.5, 1, 2, 5, 10, 30, 60, 300, 1800),
        )
        self.inside = Gauge("transcription_asr_requests", "Requests in progress.", registry=self.registry)
        self.audio = Counter("transcription_asr_audio_seconds", "Transcribed audio.", registry=self.registry)
        self._decoding = Counter(
            "transcription_asr_decoding_seconds", "Time in which the engine worked.", registry=self.registry
        )
        self._windows = Histogram(
            "transcription_asr_group_windows",
            "Windows that were decoded together.",
            registry=self.registry,
            buckets=(1, 2, 4, 8, 16, 32, 64, 128),
        )

    def answered(self, status: int, seconds: float) -> None:
        """Count a response."""
        self._requests.labels(str(status)).observe(seconds)

    def decoded(self, windows: int, _audio_s: float, seconds: float) -> None:
        """Count a group of windows that were decoded together."""
        self._windows.observe(windows)
        self._decoding.inc(seconds)

    def text(self) -> bytes:
        """Return the metrics in Prometheus's format."""
        return generate_latest(self.registry)
