"""The package `webuiapi`, which clients of A1111 use, on the application behind a real socket."""

import base64
import io
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import webuiapi
from PIL import Image

from components.messages import Source
from services.ingress.a1111.face import A1111Face
from services.ingress.app import Face
from services.ingress.http.multipart import Uploads
from services.ingress.orders.orders import Orders
from services.messages import Order
from tests.services.ingress.conftest import listening

Server = Any
API = "/sdapi/v1"
MOST_PIXELS = 2**24


@pytest.fixture
def further_faces() -> Callable[[Orders, Uploads], list[Face]]:
    return lambda orders, uploads: [A1111Face(orders, uploads)]


@pytest.fixture
def url(server: Server) -> Iterator[str]:
    with listening(server) as address:
        yield f"{address}{API}"


@pytest.fixture
def api(url: str) -> Iterator[Any]:
    made = webuiapi.WebUIApi(baseurl=url, sampler="Euler", steps=10)
    yield made
    made.session.close()


@pytest.fixture(scope="session")
def photo() -> Image.Image:
    noise = np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)
    return Image.fromarray(noise)


def post(server: Server, path: str, **body: Any) -> Any:
    return server.request("POST", f"{API}/{path}", json=body)


def get(server: Server, path: str, **query: Any) -> Any:
    return server.request("GET", f"{API}/{path}", params=query)


def refused(response: Any, status: int) -> dict[str, str]:
    """An error in A1111's shape."""
    assert response.status_code == status, response.text
    error: dict[str, str] = response.json()
    assert error.keys() == {"error", "detail", "body", "errors"}
    assert (error["error"], error["body"]) == ("HTTPException", "")
    return error


def encoded(picture: Image.Image, format_: str = "PNG") -> str:
    out = io.BytesIO()
    picture.save(out, format_)
    return base64.b64encode(out.getvalue()).decode()


def opened(text: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(text)))


def txt2img(server: Server, **body: Any) -> Any:
    return post(server, "txt2img", **{"prompt": "a red apple", **body})


def request_of(server: Server, **body: Any) -> Any:
    """What is drawn of a body."""
    server.orders.clear()
    response = txt2img(server, **body)
    assert response.status_code == 200, response.text
    [order] = server.orders
    return order.request


def img2img(server: Server, picture: Image.Image | None, **body: Any) -> Any:
    pictures = {} if picture is None else {"init_images": [encoded(picture)]}
    return post(server, "img2img", **{"prompt": "a red apple", "width": 64, "height": 64, **pictures, **body})


def only(server: Server) -> tuple[Order, Source]:
    [order] = server.orders
    assert order.source is not None
    return order, order.source


def box_mask(size: tuple[int, int], box: tuple[int, int, int, int]) -> Image.Image:
    """Black, and white in a box."""
    mask = Image.new("L", size)
    mask.paste(255, box)
    return mask


def pixels(picture: Image.Image) -> np.ndarray[Any, Any]:
    return np.asarray(picture.convert("RGB"), np.int64)
