"""Stories in files, read by Pillow and piexif."""

import io
import json

import numpy as np
import piexif  # type: ignore[import-untyped]
import piexif.helper  # type: ignore[import-untyped]
import pytest
from hypothesis import given, settings
from PIL import Image
from PIL.ExifTags import IFD, Base

from pipeline.story.infotext import infotext
from pipeline.story.reading import read_story
from pipeline.story.record import Story
from tests.pipeline.story.stories import FORMATS, HARD, picture, prompts, story

MOST_CHARACTERS = 4000
WIDEST = "\N{RED APPLE}" * MOST_CHARACTERS


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def exif_texts(data: bytes) -> tuple[str, str]:
    """The image description as Pillow reads it, the user comment as A1111 does."""
    image = opened(data)
    comment = piexif.load(image.info["exif"])["Exif"][piexif.ExifIFD.UserComment]
    return image.getexif()[Base.ImageDescription], piexif.helper.UserComment.load(comment)


@settings(max_examples=50)
@given(prompts, prompts)
def test_a_png_holds_both_texts(prompt: str, negative: str) -> None:
    told = story(prompt=prompt, negative_prompt=negative)
    texts = opened(picture(told)).info
    assert texts["parameters"] == infotext(told)
    said = json.loads(texts["latentworks"])
    assert (said["prompt"], said["negative_prompt"], said["seed"]) == (prompt, negative, 5)


@pytest.mark.parametrize("form", ["JPEG", "WEBP"])
@settings(max_examples=50)
@given(prompts, prompts)
def test_exif_holds_both_texts(form: str, prompt: str, negative: str) -> None:
    told = story(prompt=prompt, negative_prompt=negative)
    description, comment = exif_texts(picture(told, form))
    assert comment == infotext(told)
    said = json.loads(description)
    assert (said["prompt"], said["negative_prompt"], said["seed"]) == (prompt, negative, 5)


@pytest.mark.parametrize("form", FORMATS)
def test_the_pixels_and_the_bytes_stay_the_same(form: str) -> None:
    told = story(prompt=HARD[0])
    data = picture(told, form)
    assert data == picture(story(prompt=HARD[0]), form)
    np.testing.assert_array_equal(opened(data), opened(picture("{}", form)))


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("texts", [(WIDEST, WIDEST), (WIDEST, ""), ("\x01" * MOST_CHARACTERS,) * 2, HARD])
def test_the_longest_prompts_come_back_from_every_format(form: str, texts: tuple[str, str]) -> None:
    told = story(prompt=texts[0], negative_prompt=texts[1])
    reading = read_story(picture(told, form))
    assert (reading.source, reading.story, reading.unknown) == ("latentworks", told, ())
    assert reading.parameters == infotext(told)


@pytest.mark.parametrize("characters", range(1300, 1500, 7))
def test_texts_around_the_limit_of_a_jpeg(characters: int) -> None:
    """There somewhere JSON and infotext together reach 64 KiB; no length may fail or lose a text."""
    told = story(prompt="\N{RED APPLE}" * characters * 2, negative_prompt="\N{RED APPLE}" * characters)
    data = picture(told, "JPEG")
    assert read_story(data).story == told
    description, comment = exif_texts(data)
    assert comment == infotext(told)
    said = json.loads(description)
    assert said["prompt"] == told.settings["prompt"] or said["prompt_characters"] == characters * 2


def test_both_sides_of_the_limit_were_tried() -> None:
    def whole(characters: int) -> bool:
        told = story(prompt="\N{RED APPLE}" * characters * 2, negative_prompt="\N{RED APPLE}" * characters)
        return json.loads(exif_texts(picture(told, "JPEG"))[0])["prompt"] is not None

    assert whole(1300)
    assert not whole(1499)


def test_texts_without_room_anywhere_are_in_neither() -> None:
    """Where `rules.max_prompt_characters` allows more than a JPEG file can hold."""
    told = story(prompt=WIDEST * 4, negative_prompt=WIDEST * 4)
    data = picture(told, "JPEG")
    assert read_story(data).story == told.without_texts()
    assert exif_texts(data)[1].startswith("Steps: 3, ")
    assert read_story(picture(told, "WEBP")).story == told


@pytest.mark.parametrize("form", FORMATS)
def test_texts_that_are_not_told_are_nowhere(form: str) -> None:
    told = story(prompt="a secret", negative_prompt="a secret").without_texts()
    data = picture(told, form)
    assert b"secret" not in data
    assert "secret".encode("utf-16-be") not in data
    assert read_story(data).story == told


@pytest.mark.parametrize("form", FORMATS)
def test_a_text_alone_becomes_ours(form: str) -> None:
    data = picture('{"a": 1}', form)
    image = opened(data)
    said = image.info["latentworks"] if form == "PNG" else image.getexif()[Base.ImageDescription]
    assert said == '{"a": 1}'
    assert "parameters" not in image.info
    assert image.getexif().get_ifd(IFD.Exif) == {}
    assert read_story(data).source == "nothing"


def test_a_story_of_little_is_written_too() -> None:
    for form in FORMATS:
        assert read_story(picture(Story(settings={}), form)).story == Story(settings={})
