"""Ray's metrics, made of what the catalogue says of them."""

from ray.util import metrics as rays

from services.metrics.declared import Counter, Gauge, Histogram
from services.metrics.lasting import LastingGauge


def counter(metric: Counter) -> rays.Counter:
    """A counter for this process."""
    return rays.Counter(metric.name, metric.help, tag_keys=tuple(metric.labels))


def gauge(metric: Gauge) -> LastingGauge:
    """A gauge for this process, which stays at what it was set to."""
    return LastingGauge(rays.Gauge(metric.name, metric.help, tag_keys=tuple(metric.labels)))


def histogram(metric: Histogram) -> rays.Histogram:
    """A histogram for this process."""
    buckets = list(metric.buckets)
    return rays.Histogram(metric.name, metric.help, boundaries=buckets, tag_keys=tuple(metric.labels))
