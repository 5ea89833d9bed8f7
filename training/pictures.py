"""The set of captioned pictures: every thing of the emoji packages in up to three styles, 128x128 on white."""

import io
import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from resvg_py import svg_to_bytes
from rich.progress import track

from training.sources import EMOJIBASE, FLUENT_3D, FLUENT_FLAT, NOTO, fetch

SIZE = 128
STYLES = ("3d", "flat", "noto")

# Numbers of emojibase's groups and subgroups (its meta/groups.json).
_SMILEYS, _PEOPLE, _ANIMALS, _FOOD, _PLACES, _ACTIVITIES, _OBJECTS = 0, 1, 3, 4, 5, 6, 7
_HANDS_AND_BODY = range(16, 23)
_DRAWN_GROUPS = frozenset({_SMILEYS, _ANIMALS, _FOOD, _PLACES, _ACTIVITIES, _OBJECTS})
_CLOCK_FACE = re.compile(r"o.clock|-thirty$")


@dataclass(frozen=True)
class Picture:
    """What is known of one picture: `drawn` says whether the denoiser learns it (the VAE learns all)."""

    hexcode: str
    label: str
    tags: tuple[str, ...]
    style: str
    drawn: bool


@dataclass(frozen=True)
class PictureSet:
    """All pictures, uint8 [N, 128, 128, 3], and what is known of each, in the same order."""

    pixels: NDArray[np.uint8]
    pictures: list[Picture]

    def held_out(self, count: int = 200, seed: int = 0) -> NDArray[np.intp]:
        """Indices of the pictures that the VAE never trains on; always the same ones for the same set."""
        return np.sort(np.random.default_rng(seed).choice(len(self.pictures), count, replace=False))


def build(packages: Path, out: Path) -> PictureSet:
    """Fetch the packages, draw every picture and write the set into `out`.

    Raises:
        SourceError: a package cannot be had or is not the pinned one.
    """
    found = list(_pictures(packages))
    pixels = np.stack([image for _, image in track(found, "pictures")])
    pictures = [picture for picture, _ in found]
    out.mkdir(parents=True, exist_ok=True)
    np.save(out / "pixels.npy", pixels)
    (out / "pictures.json").write_text(json.dumps([asdict(picture) for picture in pictures], indent=0))
    return PictureSet(pixels, pictures)


def load(out: Path) -> PictureSet:
    """Read the set that `build` wrote into `out`.

    Raises:
        FileNotFoundError: no set was built there.
    """
    rows = json.loads((out / "pictures.json").read_text())
    pictures = [Picture(**{**row, "tags": tuple(row["tags"])}) for row in rows]
    return PictureSet(np.load(out / "pixels.npy", mmap_mode="r"), pictures)


def _pictures(packages: Path) -> Iterator[tuple[Picture, NDArray[np.uint8]]]:
    flat, fluent, noto = (fetch(source, packages) for source in (FLUENT_FLAT, FLUENT_3D, NOTO))
    things = json.loads((fetch(EMOJIBASE, packages) / "en" / "data.json").read_text())
    webp = {_key(path.stem): path for path in (fluent / "assets").glob("*.webp")}
    svg = {_key(path.stem): path for path in (flat / "assets").glob("*.svg")}
    icons = json.loads((noto / "icons.json").read_text())["icons"]
    noto_names = {_key(code): name for code, name in json.loads((noto / "chars.json").read_text()).items()}
    for thing in track(things, "drawing"):
        key = _key(thing["hexcode"])
        if key in webp:
            yield _picture(thing, "3d"), _on_white(Image.open(webp[key]))
        if key in svg:
            yield _picture(thing, "flat"), _rasterise(svg[key].read_text())
        if (name := noto_names.get(key)) in icons:
            yield _picture(thing, "noto"), _rasterise(_as_svg(icons[name]["body"]))


def _picture(thing: dict[str, object], style: str) -> Picture:
    tags = thing.get("tags", [])
    assert isinstance(tags, list)
    return Picture(str(thing["hexcode"]), str(thing["label"]), tuple(tags), style, _is_drawn(thing))


def _is_drawn(thing: dict[str, object]) -> bool:
    """Leave out what a small model cannot learn well: flags, letters, signs, clock faces, the many persons."""
    group, subgroup = thing.get("group"), thing.get("subgroup")
    if group == _PEOPLE:
        return subgroup in _HANDS_AND_BODY
    return group in _DRAWN_GROUPS and not _CLOCK_FACE.search(str(thing["label"]))


def _key(hexcode: str) -> str:
    """One spelling for all packages: no variation selector, no leading zeros, lower case."""
    parts = (part.lstrip("0") for part in hexcode.lower().split("-"))
    return "-".join(part for part in parts if part != "fe0f")


def _as_svg(body: str) -> str:
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 128 128">{body}</svg>'


def _rasterise(svg: str) -> NDArray[np.uint8]:
    # Drawn at twice the size and reduced, so that edges are as smooth as those of the 3D pictures.
    png = svg_to_bytes(svg_string=svg, width=2 * SIZE, height=2 * SIZE)
    return _on_white(Image.open(io.BytesIO(bytes(png))))


def _on_white(image: Image.Image) -> NDArray[np.uint8]:
    rgba = image.convert("RGBA")
    white = Image.new("RGBA", rgba.size, "white")
    flat = Image.alpha_composite(white, rgba).convert("RGB")
    return np.asarray(flat.resize((SIZE, SIZE), Image.Resampling.LANCZOS))
