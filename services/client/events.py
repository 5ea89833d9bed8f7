"""What comes while pictures are drawn: places in the queue, steps, previews, and the finished pictures."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeAlias

from pydantic import Base64Bytes, Field, TypeAdapter, ValidationError

from services.client.answers import Answer, ComponentPin, Failed, Picture, Usage
from services.client.errors import ServerRefused, Unreachable, UnreadableAnswer

_OBJECT = TypeAdapter(dict[str, Any])
_PIN = re.compile(r"(\w+)=([^/\s]+)/([0-9]{1,9});sha256=([0-9a-f]{64})")


class Queued(Answer):
    """A picture waits for its first step, as number `position` of those that wait, 1 for the next one."""

    image: int = Field(validation_alias="image_index")
    position: int


class Step(Answer):
    """A picture has walked `step` of its `steps`; `image` is which of the n pictures, from 0."""

    image: int = Field(validation_alias="image_index")
    step: int
    steps: int


class Preview(Answer):
    """A picture on its way, in its size: `data` is a file, `index` counts the previews of each picture from 0."""

    image: int = Field(validation_alias="image_index")
    index: int = Field(validation_alias="partial_image_index")
    data: Annotated[Base64Bytes, Field(validation_alias="b64_json", repr=False)]


class Finished(Answer):
    """A picture is there; the usage of all of them adds up to the request's. `components` are by kind."""

    image: int = Field(validation_alias="image_index")
    picture: Picture
    size: str
    usage: Usage
    prompt_truncated: bool
    negative_prompt_truncated: bool
    components: dict[str, ComponentPin]
    request_id: str | None


Event: TypeAlias = Queued | Step | Preview | Finished


@dataclass(slots=True)
class EventReader:
    """Reads the events of one answer, whose `headers` came before; `pictures` of them must be finished at its end."""

    headers: Mapping[str, str]
    pictures: int
    request_id: str | None
    _finished: int = field(default=0, init=False)

    def read(self, type_: str, data: str) -> Event | None:
        """Read one event; None for one of a kind that is not known here.

        Raises:
            ServerRefused: it tells of an error.
            UnreadableAnswer: it is not as it should be.
        """
        kind = type_.rpartition(".")[2]
        try:
            match kind:
                case "queued":
                    return Queued.model_validate_json(data)
                case "progress":
                    return Step.model_validate_json(data)
                case "partial_image":
                    return Preview.model_validate_json(data)
                case "completed":
                    finished = self._of_picture(data)
                    self._finished += 1
                    return finished
                case "error":
                    error = Failed.model_validate_json(data).error
                    raise ServerRefused(error.message, None, error.param, error.code, self.request_id)
        except ValidationError:
            raise UnreadableAnswer(f"an event {kind} is not as it should be", self.request_id) from None
        return None

    def end(self) -> None:
        """The answer is at its end.

        Raises:
            Unreachable: pictures are missing.
        """
        if self._finished < self.pictures:
            said = f"the stream ended after {self._finished} of {self.pictures} pictures"
            raise Unreachable(said, self.request_id, sent=True)

    def _of_picture(self, data: str) -> Finished:
        beside = {
            "picture": Picture.model_validate_json(data),
            "components": pins_of(self.headers.get("x-component-versions", "")),
            "request_id": self.request_id,
        }
        return Finished.model_validate({**_OBJECT.validate_json(data), **beside})


def pins_of(header: str) -> dict[str, ComponentPin]:
    """The exact versions, by kind, that a header tells."""
    return {
        kind: ComponentPin(name=name, version=int(version), sha256=sha256)
        for kind, name, version, sha256 in _PIN.findall(header)
    }
