"""What is made of kept latents: the picture by one version, or those of two beside each other."""

import asyncio
import json

from components.contract import Kind
from components.reference import ComponentRef
from services.comparison import Difference, decibels, difference, sheet
from services.deadlines import Deadline
from services.decoding import Made, PictureDecoder
from services.encoding import describe, encode_picture
from services.latents.records import Compared, CompareOrder, DecodeOrder, KeptLatents
from services.messages import Encoding, Picture, Pins

_PNG = Encoding()


class LatentViews:
    """Decodes kept latents by whatever versions are asked for."""

    def __init__(self, decoder: PictureDecoder) -> None:
        self._decoder = decoder

    async def decode(self, order: DecodeOrder) -> Picture:
        """The picture of kept latents: by the version that pictured them first, the same as then.

        Its file tells nothing of the texts, which are not kept.

        Raises:
            NonFiniteImageError: neither the version nor the fallback gives one.
        """
        kept, request = order.kept, order.kept.request
        pins = _pinned(kept.pins, order.decoder)
        made = await self._decoder.picture(kept.latents, request.tiling, pins, order.fallback, Deadline())
        metadata = describe(request, pins, made.decoder, prompts=False, beside=kept.beside)
        data = await asyncio.to_thread(encode_picture, made.pixels, order.encoding, metadata)
        return Picture(data, request.seed, request.subseed, made.decoder)

    async def compare(self, order: CompareOrder) -> Compared:
        """Two versions' pictures of the same latents and how they differ; no other version helps out.

        Raises:
            NonFiniteImageError: one of the two gives no picture.
        """
        kept = order.kept
        a, b = [
            await self._decoder.alone(kept.latents, kept.request.tiling, _pinned(kept.pins, decoder), Deadline())
            for decoder in order.decoders
        ]
        return await asyncio.to_thread(_compared, order, a, b)


def _pinned(pins: Pins, decoder: ComponentRef) -> Pins:
    return {**pins, Kind.VAE_DECODER: decoder}


def _compared(order: CompareOrder, a: Made, b: Made) -> Compared:
    found = difference(a.pixels, b.pixels)
    if order.files:
        files = tuple(_file(made, order.kept) for made in (a, b))
    else:
        decoders = (a.decoder, b.decoder)
        pixels = sheet(a.pixels, b.pixels, found, (str(a.decoder), str(b.decoder)))
        files = (encode_picture(pixels, _PNG, _describe_sheet(order.kept, decoders, found)),)
    return Compared(files=files, psnr_db=found.psnr_db, max_difference=found.largest, factor=found.factor)


def _file(made: Made, kept: KeptLatents) -> bytes:
    pins = _pinned(kept.pins, made.decoder)
    return encode_picture(made.pixels, _PNG, describe(kept.request, pins, prompts=False, beside=kept.beside))


def _describe_sheet(kept: KeptLatents, decoders: tuple[ComponentRef, ComponentRef], found: Difference) -> str:
    """What `describe` says of the latents, and in place of the decoder the two that are compared."""
    made_by = json.loads(describe(kept.request, kept.pins, prompts=False, beside=kept.beside).to_json())
    del made_by["components"][Kind.VAE_DECODER]
    compared = {
        "vae_decoders": [decoder.model_dump() for decoder in decoders],
        "psnr_db": decibels(found.psnr_db),
        "max_difference": found.largest,
        "factor": found.factor,
    }
    return json.dumps({**made_by, "compared": compared})
