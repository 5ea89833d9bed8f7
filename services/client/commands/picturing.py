"""Pictures written to a terminal."""

import base64
import io
from itertools import groupby
from typing import TYPE_CHECKING

from rich.console import Console
from rich.style import Style
from rich.text import Text

from services.client.commands.terminal import Graphics

if TYPE_CHECKING:
    from PIL import Image

# in characters; two halves of a cell make a square
_COLUMNS = 32
_PIXELS = 256
_KITTY_CHUNK = 4096
_BAND = 6
_COLOURS = 64


def show(console: Console, data: bytes, graphics: Graphics) -> None:
    """Write a picture's file to a terminal, some 32 characters wide."""
    # Pillow is for those who look at pictures here
    from PIL import Image

    with Image.open(io.BytesIO(data)) as opened:
        picture = opened.convert("RGB")
    match graphics:
        case Graphics.BLOCKS:
            console.print(blocks(picture))
            return
        case Graphics.KITTY:
            written = kitty(picture)
        case Graphics.ITERM2:
            written = iterm2(data)
        case Graphics.SIXEL:
            written = sixel(picture)
    console.file.write(f"{written}\n")
    console.file.flush()


def kitty(picture: "Image.Image") -> str:
    """A picture as kitty's graphics protocol has it: a PNG file in base64, in chunks of 4096 characters."""
    out = io.BytesIO()
    picture.save(out, "PNG")
    text = base64.b64encode(out.getvalue()).decode()
    chunks = [text[start : start + _KITTY_CHUNK] for start in range(0, len(text), _KITTY_CHUNK)]
    # q=2: it answers nothing, which would come to the shell
    first = f"a=T,f=100,q=2,c={_COLUMNS},"
    return "".join(
        f"\x1b_G{first if index == 0 else ''}m={int(index < len(chunks) - 1)};{chunk}\x1b\\"
        for index, chunk in enumerate(chunks)
    )


def iterm2(data: bytes) -> str:
    """A picture as iTerm2 has it: the whole file in base64."""
    shown = f"inline=1;size={len(data)};width={_COLUMNS}"
    return f"\x1b]1337;File={shown}:{base64.b64encode(data).decode()}\a"


def sixel(picture: "Image.Image") -> str:
    """A picture in sixels, DEC's bands of six rows: for each colour of a band which of the six pixels have it."""
    picture.thumbnail((_PIXELS, _PIXELS))
    indexed = picture.quantize(_COLOURS)
    palette, (width, height) = indexed.getpalette() or [], indexed.size
    used = sorted(set(indexed.tobytes()))
    colours = "".join(
        f"#{index};2;" + ";".join(str(round(level * 100 / 255)) for level in palette[3 * index : 3 * index + 3])
        for index in used
    )
    rows = [indexed.tobytes()[row * width : (row + 1) * width] for row in range(height)]
    bands = "-".join(_band(rows[top : top + _BAND]) for top in range(0, height, _BAND))
    return f'\x1bPq"1;1;{width};{height}{colours}{bands}\x1b\\'


def _band(rows: list[bytes]) -> str:
    written = []
    for colour in sorted(set().union(*rows)):
        columns = (
            sum((pixel == colour) << bit for bit, pixel in enumerate(column)) for column in zip(*rows, strict=True)
        )
        runs = ((chr(63 + bits), len(list(run))) for bits, run in groupby(columns))
        written.append(
            f"#{colour}" + "".join(f"!{length}{sign}" if length > 3 else sign * length for sign, length in runs)
        )
    return "$".join(written)


def blocks(picture: "Image.Image") -> Text:
    """A picture in half blocks, two pixels to a character; rich takes the colours that the terminal has."""
    rows = max(2, 2 * round(_COLUMNS * picture.height / picture.width / 2))
    small = picture.resize((_COLUMNS, rows))
    data, stride = small.tobytes(), 3 * _COLUMNS
    text = Text()
    for top in range(0, rows, 2):
        for left in range(0, stride, 3):
            upper, lower = (tuple(data[row * stride + left :][:3]) for row in (top, top + 1))
            text.append("▀", Style(color=_colour(upper), bgcolor=_colour(lower)))
        text.append("\n")
    return text


def _colour(rgb: tuple[int, ...]) -> str:
    return f"#{bytes(rgb).hex()}"
