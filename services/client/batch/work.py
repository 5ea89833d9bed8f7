"""A batch at work: some requests at a time, each through its steps."""

import asyncio
import hashlib
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import cast

from services.client.answers import Drawing
from services.client.awaited import AsyncClient
from services.client.batch.journal import Journal, Made, Seeds
from services.client.batch.orders import Order
from services.client.errors import ClientError, ServerRefused, Unreachable, UnreadableAnswer
from services.client.options import EditOptions, Options
from services.client.saving import SavingError, by_seeds, write_part

_FRESH_SEEDS = 2**32
_KEY_DIGITS = 10
# whatever is wrong there is wrong for every request
_EVERYBODYS = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)


@dataclass(slots=True)
class Tally:
    """How requests ended: drawn now, done before, or failed, by their lines."""

    drawn: int = 0
    before: int = 0
    failed: dict[int, ClientError] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Batch:
    """What the work goes on with; `ended` is told of every request that ended."""

    client: AsyncClient
    journal: Journal
    folder: Path
    ended: Callable[[Order, ClientError | None], object]

    async def work(self, orders: Iterable[Order], concurrency: int) -> Tally:
        """Have all orders drawn that are not yet, `concurrency` at a time.

        Raises:
            ClientError: no other order would fare better: nobody answers, or the key is not taken.
        """
        tally, waiting = Tally(), iter(orders)
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(concurrency):
                    group.create_task(self._some(waiting, tally))
        except ExceptionGroup as errors:
            # the others were cancelled for it
            raise errors.exceptions[0] from None
        return tally

    async def _some(self, waiting: Iterator[Order], tally: Tally) -> None:
        for order in waiting:
            try:
                there = self.journal.settled(order.key)
                if len(there) == order.pictures:
                    tally.before += 1
                else:
                    await self._draw(order, there)
                    tally.drawn += 1
            except ClientError as error:
                if isinstance(error, Unreachable):
                    raise
                if isinstance(error, ServerRefused) and error.status in _EVERYBODYS:
                    raise
                tally.failed[order.line] = error
                self.ended(order, error)
            else:
                self.ended(order, None)

    async def _draw(self, order: Order, there: Mapping[str, Made]) -> None:
        """Draw an order, and write those of its pictures that are not `there`."""
        seeds = self.journal.seeds(order.key)
        if seeds is None:
            seeds = _seeds_of(order.options)
            self.journal.begin(order.key, seeds)
        names = _names(order, seeds)
        for name in names:
            if name not in there and (self.folder / name).exists():
                raise SavingError(f"{name}: is there already, and not of this batch")
        pictures = (await self._asked(order, seeds)).pictures
        if len(pictures) != len(names):
            raise UnreadableAnswer(f"{len(pictures)} pictures came where {len(names)} were asked for")
        made = dict(there)
        for name, one in zip(names, pictures, strict=True):
            if name not in there:
                write_part(self.folder / name, one.data)
                made[name] = Made(name=name, sha256=hashlib.sha256(one.data).hexdigest())
        self.journal.made(order.key, tuple(made.values()))
        self.journal.settled(order.key)

    async def _asked(self, order: Order, seeds: Seeds) -> Drawing:
        # with its seeds it is as good drawn twice, where an answer was lost
        fixed = cast(EditOptions, {**order.options, **seeds.model_dump(exclude_none=True)})
        client = self.client
        try:
            if order.image is None:
                assert order.prompt is not None, "an order has a prompt or a picture"
                return await client.generate(order.prompt, **cast(Options, fixed))
            if order.prompt is None:
                return await client.vary(order.image, **fixed)
            return await client.edit(order.image, order.prompt, order.mask, order.depth, **fixed)
        except OSError as error:
            raise SavingError(f"a picture to draw from cannot be read any more: {error.strerror}") from None


def _seeds_of(options: EditOptions) -> Seeds:
    seed = options.get("seed", None)
    subseed = options.get("subseed", None)
    varied = bool(options.get("subseed_strength"))
    return Seeds(
        seed=secrets.randbelow(_FRESH_SEEDS) if seed is None else seed,
        subseed=secrets.randbelow(_FRESH_SEEDS) if varied and subseed is None else subseed if varied else None,
    )


def _names(order: Order, seeds: Seeds) -> list[str]:
    """The files' names: by seed, and by request, as several may have one."""
    mark, format_ = f"-{order.key[:_KEY_DIGITS]}", order.options.get("output_format", "png")
    if seeds.subseed is None:
        return [by_seeds(seeds.seed + index, None, format_, mark) for index in range(order.pictures)]
    return [by_seeds(seeds.seed, seeds.subseed + index, format_, mark) for index in range(order.pictures)]
