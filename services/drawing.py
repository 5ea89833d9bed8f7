"""An order under way in the graph, and who wants to hear of it."""

from collections.abc import Callable
from dataclasses import dataclass

from components.messages import FloatArray
from pipeline.story.origin import Origin
from services.deadlines import Deadline
from services.encoders import Encoded
from services.messages import Order, Progress, Queued, WalkReport


@dataclass(frozen=True, slots=True)
class Watch:
    """Who wants to hear of an order's progress: after every step, and every `preview_every` steps with a preview."""

    tell: Callable[[Progress | Queued], object]
    preview_every: int


@dataclass(slots=True, eq=False)
class Drawing:
    """An order under way, and what it starts from; of two passes each is one, drawn from `start` if it is the second.

    `before` and `after` count the steps of the passes before it and after it.
    """

    id: str
    order: Order
    encoded: Encoded
    origin: Origin
    deadline: Deadline
    watch: Watch | None
    start: FloatArray | None = None
    before: int = 0
    after: int = 0

    @property
    def truncated(self) -> tuple[bool, bool]:
        """Whether the prompt was cut, and whether the negative prompt was."""
        cut = self.encoded.told.truncated
        return cut[0], any(cut[1:])

    def tell(self, image: int, report: WalkReport) -> None:
        """Pass on what a walk reports, but that it is about to risk something."""
        if self.watch is None:
            return
        if report.position:
            self.watch.tell(Queued(image, report.position))
        elif report.progress.estimates or report.latents is not None:
            steps = self.before + report.steps + self.after
            self.watch.tell(Progress(image, self.before + report.step, steps, report.preview))
