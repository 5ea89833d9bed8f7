"""Every call as a record: what is sent, how the answer is read, and when it may be sent again."""

import base64
import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeAlias, TypeVar
from urllib.parse import quote

import httpx

from registry.commands.server_status import PATH as ROLLOUT_PATH
from registry.commands.server_status import ServerStatus
from services.client import replies
from services.client.answers import Comparison, Drawing, Inspection, Model, Readiness, Timeline, Verification
from services.client.options import DecodeOptions, EditOptions, Options
from services.client.retries import Repeat

T = TypeVar("T")
Source: TypeAlias = bytes | Path

_JSON, _PNG, _EVENTS = "application/json", "image/png", "text/event-stream"


@dataclass(frozen=True, slots=True, eq=False)
class Call(Generic[T]):
    """One call; `pictures` is how many it asks for, which a stream must have brought at its end.

    The body is the JSON of `body`, or the form of `files` and `fields`.
    """

    method: str
    path: str
    read: Callable[[httpx.Response], T]
    accept: str = _JSON
    repeat: Repeat = Repeat.ALWAYS
    pictures: int = 0
    body: Mapping[str, Any] | None = None
    files: Mapping[str, bytes] = field(default_factory=dict)
    fields: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)

    def sent(self) -> dict[str, Any]:
        """What httpx builds a request of; each has an id of its own, by which the server's operators find it."""
        headers = {"accept": self.accept, "x-request-id": str(uuid.uuid4())}
        if self.body is not None:
            # not httpx's own JSON, which raises at what the server refuses in words
            return {"content": json.dumps(self.body), "headers": {**headers, "content-type": _JSON}}
        if self.files:
            files = {name: (name, data, "application/octet-stream") for name, data in self.files.items()}
            return {"files": files, "data": dict(self.fields), "headers": headers}
        return {"params": dict(self.query), "headers": headers}


@dataclass(frozen=True, slots=True)
class Telling:
    """What a stream tells beside its pictures: 0 to 3 previews of each, and always its steps."""

    previews: int = 0


def generation(prompt: str, options: Options, telling: Telling | None = None) -> Call[Drawing]:
    """Pictures of a prompt, as a stream with `telling`.

    Raises:
        OSError: a picture cannot be read.
    """
    body = {"prompt": prompt, **options, **_told(telling)}
    if "controls" in options:
        body["controls"] = [{**control, "image": _text(control["image"])} for control in options["controls"]]
    if "image_prompts" in options:
        body["image_prompts"] = [_text(one) for one in options["image_prompts"]]
    return Call(
        "POST",
        "/v1/images/generations",
        replies.drawing,
        accept=_JSON if telling is None else _EVENTS,
        repeat=_repeat(options),
        pictures=options.get("n", 1),
        body=body,
    )


def edit(
    image: Source,
    prompt: str,
    mask: Source | None,
    depth: Source | None,
    options: EditOptions,
    telling: Telling | None = None,
) -> Call[Drawing]:
    """Pictures of a prompt that begin with a picture.

    Raises:
        OSError: a file cannot be read.
    """
    given = {"image": image, "mask": mask, "depth": depth}
    files = {name: _read(one) for name, one in given.items() if one is not None}
    return _form("/v1/images/edits", files, {"prompt": prompt}, options, telling)


def variation(image: Source, options: EditOptions, telling: Telling | None = None) -> Call[Drawing]:
    """Pictures like one.

    Raises:
        OSError: a file cannot be read.
    """
    return _form("/v1/images/variations", {"image": _read(image)}, {}, options, telling)


def decode(latents_id: str, component: str | None, options: DecodeOptions) -> Call[Drawing]:
    """The picture of kept latents, by the VAE decoder that is named or the one that they were made for."""
    named = {} if component is None else {"components": {"vae_decoder": component}}
    return Call("POST", f"/v1/latents/{_part(latents_id)}/decode", replies.drawing, body={**named, **options})


def compare(latents_id: str, first: str, second: str, user: str | None) -> Call[Comparison]:
    """Two VAE decoders on the same latents."""
    whose = {} if user is None else {"user": user}
    query = {"components": f"{first},{second}", **whose}
    return Call("GET", f"/v1/latents/{_part(latents_id)}/compare", replies.comparison, accept=_PNG, query=query)


def timeline(request_id: str, user: str | None) -> Call[Timeline]:
    """What became of a request when."""
    query = {} if user is None else {"user": user}
    return Call("GET", f"/v1/requests/{_part(request_id)}/timeline", replies.timeline, query=query)


def inspection(picture: Source) -> Call[Inspection]:
    """What a picture's file says of how it was made.

    Raises:
        OSError: the file cannot be read.
    """
    return Call("POST", "/v1/inspect", replies.inspection, files={"image": _read(picture)})


def verification(
    picture: Source,
    source: Source | None,
    mask: Source | None,
    depth: Source | None = None,
    controls: Sequence[Source] = (),
    image_prompts: Sequence[Source] = (),
) -> Call[Verification]:
    """Whether a picture is what its story makes; it needs all pictures that it was made from.

    Raises:
        OSError: a file cannot be read.
    """
    given = {"image": picture, "source": source, "mask": mask, "depth": depth}
    files = {name: _read(one) for name, one in given.items() if one is not None}
    files |= {f"controls[{number}][image]": _read(one) for number, one in enumerate(controls)}
    files |= {f"image_prompts[{number}]": _read(one) for number, one in enumerate(image_prompts)}
    return Call("POST", "/v1/verify", replies.verification, files=files)


def models() -> Call[tuple[Model, ...]]:
    """The served bundles."""
    return Call("GET", "/v1/models", replies.models)


def rollout() -> Call[ServerStatus]:
    """What is live, on its way there, and held by every replica."""
    return Call("GET", ROLLOUT_PATH, replies.rollout)


def ready() -> Call[Readiness]:
    """Whether pictures can be drawn just now; the answer is wanted now, whatever it is."""
    return Call("GET", "/readyz", replies.readiness, repeat=Repeat.NEVER)


def _form(
    path: str,
    files: Mapping[str, bytes],
    texts: Mapping[str, str],
    options: EditOptions,
    telling: Telling | None,
) -> Call[Drawing]:
    fields, files = dict(texts), dict(files)
    settings = {**options, **_told(telling)}
    for number, control in enumerate(options.get("controls", ())):
        named = f"controls[{number}]"
        files[f"{named}[image]"] = _read(control["image"])
        fields |= {f"{named}[{name}]": str(value) for name, value in control.items() if name != "image"}
    for number, lora in enumerate(options.get("loras", ())):
        fields |= {f"loras[{number}][{name}]": str(value) for name, value in lora.items()}
    files |= {f"image_prompts[{number}]": _read(one) for number, one in enumerate(options.get("image_prompts", ()))}
    for name in ("controls", "loras", "image_prompts"):
        settings.pop(name, None)
    for name, value in settings.items():
        if isinstance(value, Mapping):
            fields |= {f"{name}[{inner}]": str(one) for inner, one in value.items()}
        else:
            fields[name] = str(value).lower() if isinstance(value, bool) else str(value)
    return Call(
        "POST",
        path,
        replies.drawing,
        accept=_JSON if telling is None else _EVENTS,
        repeat=_repeat(options),
        pictures=options.get("n", 1),
        files=files,
        fields=fields,
    )


def _told(telling: Telling | None) -> dict[str, Any]:
    return {} if telling is None else {"stream": True, "progress": True, "partial_images": telling.previews}


def _repeat(options: Options | EditOptions) -> Repeat:
    """Whether the request alone determines what comes of it, so that twice is as good as once."""
    varied = bool(options.get("subseed_strength")) and "subseed" not in options
    same = "seed" in options and not varied and not options.get("store_latents")
    return Repeat.ALWAYS if same else Repeat.UNDONE


def _read(source: Source) -> bytes:
    return source if isinstance(source, bytes) else source.read_bytes()


def _text(source: Source) -> str:
    return base64.b64encode(_read(source)).decode()


def _part(text: str) -> str:
    # one part of a path, whatever is in it
    return quote(text, safe="")
