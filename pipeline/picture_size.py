"""How large a request's pictures are: as it says, or like the picture that it brings, or the bundle's own size."""

from math import sqrt

from components.contract import MAX_LATENT_SIDE, Contract
from components.messages import ImageRequest
from pipeline.checks import check_whole
from pipeline.errors import RequestError, refuse


def picture_size(
    asked: tuple[int | None, int | None], source: tuple[int, int] | None, contract: Contract, limits: tuple[int, int]
) -> tuple[int, int]:
    """Width and height in pixels for a denoiser's contract.

    A side that is not `asked` for is the bundle's own; but where neither is and there is a `source`, a picture of that
    width and height, it is drawn in its proportions, of about as many pixels as the bundle's own size has, which is
    what the network draws best; by a network that enlarges, by as much as that does. `limits` are the least
    pixels of a side and the most of a picture.

    Raises:
        RequestError: a side is no whole number, too small, too large or no multiple for the network, or the picture is
            too large.
    """
    smallest, most = limits
    own = _own_size(contract)
    # a bundle made for less than the smallest side may still draw at its own size
    smallest = min(smallest, *own)
    multiple = _multiple(contract)
    if asked == (None, None) and source is not None:
        enlarged = contract.enlarges
        asked = _enlarged(source, contract) if enlarged else _in_proportion(source, own, smallest, multiple)
    width, height = (there if side is None else side for side, there in zip(asked, own, strict=True))
    longest = min(most, _longest_side(contract))
    for field, side in (("width", width), ("height", height)):
        check_whole(field, side, smallest, longest)
        if side % multiple:
            raise refuse(field, side, f"a multiple of {multiple}")
    if width * height > most:
        raise RequestError("size", f"size={width}x{height}: must have at most {most} pixels, not {width * height}")
    return width, height


def source_size(request: ImageRequest, contract: Contract) -> tuple[int, int]:
    """Width and height of the picture that a request starts from: as drawn, or as small as what is drawn larger."""
    return request.width // contract.enlargement, request.height // contract.enlargement


def enlarged_size(size: tuple[int, int], times: tuple[float, float], contract: Contract) -> tuple[int, int]:
    """Width and height so many times as large, rounded down to what the network of a denoiser's contract takes."""
    multiple = _multiple(contract)
    width, height = (int(side * factor) // multiple * multiple for side, factor in zip(size, times, strict=True))
    return width, height


def _own_size(contract: Contract) -> tuple[int, int]:
    space, latent_size = contract.latent_space, contract.latent_size
    assert space is not None, "check_request has seen to it"
    assert latent_size is not None, "check_request has seen to it"
    height, width = latent_size
    return width * space.downscale, height * space.downscale


def _longest_side(contract: Contract) -> int:
    assert contract.latent_space is not None, "check_request has seen to it"
    latents = MAX_LATENT_SIDE if contract.latent_limit is None else contract.latent_limit
    return latents * contract.latent_space.downscale


def _multiple(contract: Contract) -> int:
    assert contract.latent_space is not None, "check_request has seen to it"
    return contract.latent_space.downscale * contract.latent_multiple


def _enlarged(source: tuple[int, int], contract: Contract) -> tuple[int, int]:
    multiple = _multiple(contract)
    width, height = (max(1, side * contract.enlargement // multiple) * multiple for side in source)
    return width, height


def _in_proportion(source: tuple[int, int], own: tuple[int, int], smallest: int, multiple: int) -> tuple[int, int]:
    area = own[0] * own[1]
    short, long = min(source), max(source)
    # whole multiples of a side, rounded up where that is the least there may be
    least = -(-smallest // multiple)
    shorter = max(least, round(sqrt(area * short / long) / multiple))
    # never more pixels than the bundle's own, which are within the limits
    longer = max(least, min(round(sqrt(area * long / short) / multiple), area // (shorter * multiple * multiple)))
    sides = shorter * multiple, longer * multiple
    return sides if source[0] == short else sides[::-1]
