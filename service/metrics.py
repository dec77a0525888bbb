"""What the service counts, for Prometheus: base units, one prefix, labels from small closed sets (docs/service.md)."""

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

STAGES = ("queue", "decode", "align", "device", "encode")
_SECONDS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each, which nobody asked for


class Metrics:
    """One registry of one service; nothing is global, so that tests can run many."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        ProcessCollector(namespace="honestface", registry=registry)

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"honestface_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"honestface_{name}", text, labels, registry=registry)

        def seconds(name: str, text: str, *labels: str) -> Histogram:
            return Histogram(f"honestface_{name}", text, labels, buckets=_SECONDS, registry=registry)

        self.requests = counter("requests_total", "Requests answered.", "route", "method", "code")
        self.request_seconds = seconds(
            "request_seconds", "From the request's first byte to the answer's last.", "route", "code"
        )
        self.stage_seconds = seconds("stage_seconds", "Time of a request in each stage.", "stage")
        self.in_progress = gauge("requests_in_progress", "Requests admitted and not yet answered.")
        self.faces = counter("faces_total", "Faces restored.")
        self.queue_faces = gauge("queue_faces", "Faces waiting for the device.")
        self.queue_wait_seconds = seconds("queue_wait_seconds", "Time that a face waited for the device.")
        self.estimated_wait_seconds = gauge(
            "estimated_wait_seconds", "Time that the work in progress is expected to take."
        )
        self.batch_faces = Histogram(
            "honestface_batch_faces", "Faces of a batch.", buckets=(1, 2, 4, 8, 16, 32, 64), registry=registry
        )
        self.batches = counter("batches_total", "Batches, by why they were released.", "reason")
        self.batch_seconds = seconds("batch_seconds", "Time of a batch on the device.")
        self.rejections = counter("rejections_total", "Requests refused, by why.", "reason")
        self.cancellations = counter("cancellations_total", "Work dropped: by whom or what.", "reason")
        self.cache_lookups = counter("reference_cache_lookups_total", "References looked up by content.", "result")
        self.cache_bytes = gauge("reference_cache_bytes", "Size of the cached references.")
        self.reference_sets = gauge("reference_sets", "Reference sets in memory.")
        self.reference_sets_bytes = gauge("reference_sets_bytes", "Size of the reference sets.")
        self.out_of_memory_total = counter("out_of_memory_total", "Batches that did not fit in the device's memory.")
        self.device_memory_bytes = gauge("device_memory_bytes", "Memory allocated on the device; 0 for a CPU.")
        self.device_memory_total_bytes = gauge("device_memory_total_bytes", "Memory that the device has; 0 for a CPU.")
        self.model = gauge(
            "model_info", "1, labelled with the model.", "bundle", "version", "profile", "device", "precision"
        )
        self.ready = gauge("ready", "1 when the service takes requests.")
        # All label values exist from the start: a rate over a series that appears with its first event misses it.
        for stage in STAGES:
            self.stage_seconds.labels(stage)
        for reason in ("full", "waited", "closing", "halved"):
            self.batches.labels(reason)
        for reason in ("draining", "requests", "slow", "queue", "uploads", "wait"):
            self.rejections.labels(reason)
        for reason in ("disconnected", "cancelled", "expired"):
            self.cancellations.labels(reason)
        for result in ("hit", "miss"):
            self.cache_lookups.labels(result)

    def exposition(self) -> bytes:
        """The metrics in Prometheus' text format."""
        return generate_latest(self.registry)

    # The batcher's observer.

    def batch(self, size: int, reason: str, seconds: float) -> None:
        self.batch_faces.observe(size)
        self.batches.labels(reason).inc()
        self.batch_seconds.observe(seconds)
        self.faces.inc(size)

    def waited(self, seconds: float) -> None:
        self.queue_wait_seconds.observe(seconds)

    def dropped(self, reason: str) -> None:
        self.cancellations.labels(reason).inc()

    def out_of_memory(self) -> None:
        self.out_of_memory_total.inc()
