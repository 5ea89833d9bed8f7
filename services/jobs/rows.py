"""From the store's rows to what is told of a job."""

import json
from dataclasses import asdict
from typing import Any

from pydantic import BaseModel, ConfigDict, TypeAdapter
from sqlalchemy import Connection, Row, func, select, tuple_

from components.reference import ComponentRef
from services.files.pictures import Link
from services.jobs.orders import read
from services.jobs.records import Delivery, JobFailure, JobTerms, JobView
from services.jobs.tables import DELIVERIES, JOBS, PICTURES
from services.messages import Drawn, Picture

_TERMS = TypeAdapter(JobTerms)
_FAILURE = TypeAdapter(JobFailure)


class _Made(BaseModel):
    """One picture without its file."""

    model_config = ConfigDict(frozen=True)

    seed: int
    subseed: int | None
    decoder: ComponentRef | None
    latents: str | None


class _Result(BaseModel):
    """What is kept of drawn pictures beside their files."""

    model_config = ConfigDict(frozen=True)

    pictures: list[_Made]
    prompt_truncated: bool
    negative_prompt_truncated: bool
    text_tokens: int
    links: list[Link]


def written_terms(terms: JobTerms) -> str:
    """The terms of a job as a row has them."""
    return json.dumps(asdict(terms))


def read_terms(text: str) -> JobTerms:
    """The terms that were written."""
    return _TERMS.validate_json(text)


def written_failure(failure: JobFailure) -> str:
    """A failure as a row has it."""
    return json.dumps(asdict(failure))


def written_result(drawn: Drawn, links: tuple[Link, ...]) -> str:
    """What a row has of drawn pictures; their files are elsewhere."""
    made = [
        _Made(seed=one.seed, subseed=one.subseed, decoder=one.decoder, latents=one.latents) for one in drawn.pictures
    ]
    return _Result(
        pictures=made,
        prompt_truncated=drawn.prompt_truncated,
        negative_prompt_truncated=drawn.negative_prompt_truncated,
        text_tokens=drawn.text_tokens,
        links=list(links),
    ).model_dump_json()


def job_of(connection: Connection, row: Row[Any], keep_s: float, *, pictures: bool) -> JobView:
    """The job of a row of `JOBS`; with `pictures` those that were drawn."""
    drawn, links = _result(connection, row, pictures) if row.status == "completed" else (None, ())
    return JobView(
        id=row.id,
        status=row.status,
        order=read(row.ordered),
        terms=read_terms(row.terms),
        created=row.created,
        started=row.started,
        ended=row.ended,
        expires=None if row.ended is None else row.ended + keep_s,
        position=_position(connection, row) if row.status == "queued" else None,
        drawn=drawn,
        links=links,
        failure=_FAILURE.validate_json(row.outcome) if row.status == "failed" else None,
        delivery=_delivery(connection, row.number),
    )


def _result(connection: Connection, row: Row[Any], pictures: bool) -> tuple[Drawn | None, tuple[Link, ...]]:
    found = _Result.model_validate_json(row.outcome)
    if not pictures:
        return None, tuple(found.links)
    kept = select(PICTURES.c.data).where(PICTURES.c.job == row.number).order_by(PICTURES.c.picture)
    files = [one.data for one in connection.execute(kept)] or [b""] * len(found.pictures)
    drawn = Drawn(
        tuple(
            Picture(data, made.seed, made.subseed, made.decoder, made.latents)
            for data, made in zip(files, found.pictures, strict=True)
        ),
        found.prompt_truncated,
        found.negative_prompt_truncated,
        found.text_tokens,
    )
    return drawn, tuple(found.links)


def _position(connection: Connection, row: Row[Any]) -> int:
    before = tuple_(JOBS.c.turn, JOBS.c.number) < tuple_(row.turn, row.number)
    counted = select(func.count()).select_from(JOBS).where(JOBS.c.status == "queued", before)
    return 1 + connection.execute(counted).scalar_one()


def _delivery(connection: Connection, number: int) -> Delivery | None:
    found = connection.execute(select(DELIVERIES).where(DELIVERIES.c.job == number)).one_or_none()
    return None if found is None else Delivery(found.state, found.attempts, found.status)
