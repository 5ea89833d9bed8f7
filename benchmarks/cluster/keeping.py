"""Where what requests leave behind is kept, whichever node they came in by."""

import base64
import re
from io import BytesIO
from urllib.parse import urlsplit

from PIL import Image, ImageChops

from benchmarks.cluster.door import GENERATIONS
from benchmarks.cluster.load import BODY
from benchmarks.cluster.stage import Outcome, Stage
from benchmarks.cluster.stores import REGISTRY

# of each in such as text_encoder=emoji.text_encoder/1;sha256=...
_PIN = re.compile(r"=([^;,]+/\d+);")
_LIVE = "SELECT name, version FROM registered_model_aliases WHERE alias = 'production' ORDER BY name"


def registry(stage: Stage) -> Outcome:
    """Requests are pinned to what was promoted in MLflow, whose database is PostgreSQL and whose files a bucket has."""
    live = [f"{name}/{version}" for name, version in stage.stores.databases.rows(REGISTRY, _LIVE)]
    pinned = _PIN.findall(stage.pins())
    files = stage.stores.bucket.names("components/")
    models = [name for name in files if name.endswith("model.onnx")]
    held = bool(pinned) and set(pinned) <= set(live) and len(models) >= len(live)
    said = f"in PostgreSQL {', '.join(live)}; pinned {', '.join(pinned)}; {len(files)} files in the bucket"
    return Outcome(held, said)


def buckets(stage: Stage) -> Outcome:
    """Latents and links that came in by one node are found through another, and are objects of the bucket."""
    one, other = stage.door("front"), stage.door("encoders")
    [drawn] = one.post(GENERATIONS, {**BODY, "store_latents": True}).json()["data"]
    [decoded] = other.post(f"/v1/latents/{drawn['latents']}/decode", {}).json()["data"]
    [linked] = one.post(GENERATIONS, {**BODY, "response_format": "url"}).json()["data"]
    link = urlsplit(linked["url"])
    shown = other.get(f"{link.path}?{link.query}").raise_for_status().content
    picture = base64.b64decode(drawn["b64_json"])
    alike = _same(picture, base64.b64decode(decoded["b64_json"])) and _same(picture, shown)
    objects = [len(stage.stores.bucket.names(prefix)) for prefix in ("latents/", "pictures/")]
    found = any(drawn["latents"] in name for name in stage.stores.bucket.names("latents/"))
    said = f"drawn, decoded again and by its link {'the same' if alike else 'another'} picture"
    return Outcome(alike and found and min(objects) > 0, f"{said}; objects in the bucket: {objects}")


def _same(one: bytes, other: bytes) -> bool:
    images = [Image.open(BytesIO(each)).convert("RGB") for each in (one, other)]
    return ImageChops.difference(*images).getbbox() is None
