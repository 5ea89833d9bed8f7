"""What the HTTP side counts."""

from services.metrics.catalogue import Ingress
from services.metrics.made import counter, gauge, histogram


class IngressMetrics:
    """What the HTTP side counts, in each ingress replica."""

    def __init__(self) -> None:
        self.requests = counter(Ingress.REQUESTS)
        self.request_seconds = histogram(Ingress.REQUEST_SECONDS)
        self.images = counter(Ingress.IMAGES)
        self.truncated_prompts = counter(Ingress.TRUNCATED_PROMPTS)
        self.admitted_images = gauge(Ingress.ADMITTED_IMAGES)
        self.refused = counter(Ingress.REFUSED)
        self.keys = gauge(Ingress.KEYS)
        self.keys_refused = gauge(Ingress.KEYS_FILE_REFUSED)
        self.version_requests = counter(Ingress.VERSION_REQUESTS)

    def has_keys(self, count: int, refused: bool) -> None:
        """So many keys are let in; `refused` while the newest file of them cannot be used."""
        self.keys.set(count)
        self.keys_refused.set(int(refused))
