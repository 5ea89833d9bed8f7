"""A1111's face put together: its paths, whom they let in, and the shape of their errors."""

from dataclasses import dataclass, field

from fastapi import APIRouter

from services.errors import ServingError
from services.ingress.a1111.drawing import Drawing
from services.ingress.a1111.enlarging import Enlarging
from services.ingress.a1111.errors import a1111_shape
from services.ingress.a1111.following import Following
from services.ingress.a1111.lists import Lists
from services.ingress.a1111.options import Options
from services.ingress.a1111.routes import ERRORS
from services.ingress.a1111.settings import OptionsRoutes
from services.ingress.a1111.tasks import Tasks
from services.ingress.access.callers import Access
from services.ingress.http.multipart import Uploads
from services.ingress.orders.orders import Orders

_PREFIX = "/sdapi/v1"
# its clients know no tokens
_ACCESS = Access("images", basic=True)


@dataclass(frozen=True, slots=True)
class A1111Face:
    """What the face needs of the rest of the server, and what it keeps: options and tasks, of this replica alone."""

    orders: Orders
    uploads: Uploads
    options: Options = field(default_factory=Options)
    tasks: Tasks = field(default_factory=Tasks)

    @property
    def prefix(self) -> str:
        """What its paths begin with."""
        return _PREFIX

    def router(self) -> APIRouter:
        """The face's routes."""
        pinning, rules = self.orders.pinning, self.orders.rules
        router = APIRouter(prefix=_PREFIX, tags=["A1111"], responses=ERRORS)
        for add_routes in (
            Drawing(self.orders, self.uploads, self.tasks, self.options).add_routes,
            Following(self.tasks).add_routes,
            OptionsRoutes(self.options, pinning).add_routes,
            Lists(pinning, rules).add_routes,
            Enlarging(self.uploads, rules).add_routes,
        ):
            add_routes(router)
        return router

    def access(self, path: str) -> Access:  # noqa: ARG002 - all paths alike
        """Let in the role `images`, also by HTTP Basic."""
        return _ACCESS

    def error_of(self, error: ServingError) -> dict[str, str]:
        """What JSON says of an error."""
        return a1111_shape(error)
