"""Whole prompts beside transformers' text encoder, with A1111's formula and with the package Compel around it."""

import numpy as np
import pytest
import torch
from compel import Compel, DownweightMode, SplitLongTextMode  # type: ignore[import-untyped]
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import CLIPTextModel, CLIPTokenizer

from components.messages import FloatArray
from pipeline.errors import RequestError
from pipeline.prompts.weighting import WEIGHTINGS, check_prompt
from pipeline.text_encoder import TextEncoder

ROOM = 30
WITHIN = 5e-5
PLAIN_WORDS = st.sampled_from(["apple", "red", "3d", "a", "blue boat", "Smile", "it's", ".", "!"])


def hidden(encoder: TextEncoder, text: str, chunks: int, weighting: str) -> FloatArray:
    array: FloatArray = encoder.encode([text], chunks, weighting).arrays["hidden_states"]
    return array


def a1111(clip: CLIPTextModel, tokenizer: CLIPTokenizer, chunks: list[list[tuple[str, float]]]) -> FloatArray:
    """Chunks of weighed texts by the formula that A1111 publishes."""
    rows = []
    for chunk in chunks:
        parts = [(tokenizer(text, add_special_tokens=False).input_ids, weight) for text, weight in chunk]
        own = [id_ for ids, _ in parts for id_ in ids]
        weights = [weight for ids, weight in parts for _ in ids]
        padding = ROOM - len(own)
        ids = [tokenizer.bos_token_id, *own, tokenizer.eos_token_id, *[tokenizer.pad_token_id] * padding]
        multipliers = torch.tensor([1.0, *weights, 1.0, *[1.0] * padding])
        with torch.no_grad():
            z = clip(torch.tensor([ids])).last_hidden_state
        weighed = z * multipliers[None, :, None]
        rows.append(weighed * (z.mean() / weighed.mean()))
    return torch.cat(rows, dim=1).numpy()


@pytest.mark.parametrize(
    ("text", "chunks"),
    [
        ("a red apple", [[("a red apple", 1.0)]]),
        ("a (red) apple", [[("a ", 1.0), ("red", 1.1), (" apple", 1.0)]]),
        (
            "a ((red:1.3)) [apple], (3d style:0.4)",
            [[("a ", 1), ("red", 1.43), ("apple", 1 / 1.1), (",", 1), ("3d style", 0.4)]],
        ),
        ("(a red apple:0)", [[("a red apple", 0.0)]]),
        ("a (red:-0.5) apple", [[("a", 1.0), ("red", -0.5), ("apple", 1.0)]]),
        (r"a \(red\) apple", [[("a (red) apple", 1.0)]]),
        ("a red BREAK (apple:1.4)", [[("a red", 1.0)], [("apple", 1.4)]]),
        ("BREAK (apple:1.4)", [[], [("apple", 1.4)]]),
        ("apple " * 20 + ", (" + "red " * 14 + ":1.2)", [[("apple " * 20 + ",", 1.0)], [("red " * 14, 1.2)]]),
        ("(" + "apple " * 31 + ":1.2)", [[("apple " * 30, 1.2)], [("apple", 1.2)]]),
    ],
)
def test_a1111s_arithmetic(
    encoder: TextEncoder,
    clip: CLIPTextModel,
    clip_tokenizer: CLIPTokenizer,
    text: str,
    chunks: list[list[tuple[str, float]]],
) -> None:
    ours = hidden(encoder, text, 4, "a1111")
    np.testing.assert_allclose(ours, a1111(clip, clip_tokenizer, chunks), atol=WITHIN)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a red apple",
        "a red++ apple",
        "(a red apple)1.4 on (the table)0.5",
        "apple- red-- (blue (boat)1.2)0.8",
        "a (red)0 apple",
        "(everything)0.3",
        '"a red apple"1.2, hot-dog, (x, y.)0.9',
        # what is cut off is not blended out, and what moves up is
        "a (red apple, shiny)0.3 house " + "boat " * 40 + "(x)0.2",
        "house " * 29 + "(red apple)0.5 " + "blue- " * 3,
        "house " * 29 + "(red)0.5 (apple)0.4",
    ],
)
def test_compels_arithmetic(
    encoder: TextEncoder, clip: CLIPTextModel, clip_tokenizer: CLIPTokenizer, text: str
) -> None:
    reference = Compel(clip_tokenizer, clip, downweight_mode=DownweightMode.REMOVE)
    np.testing.assert_allclose(hidden(encoder, text, 1, "compel"), reference(text).numpy(), atol=WITHIN)


def test_compels_arithmetic_in_chunks(encoder: TextEncoder, clip: CLIPTextModel, clip_tokenizer: CLIPTokenizer) -> None:
    reference = Compel(
        clip_tokenizer,
        clip,
        downweight_mode=DownweightMode.REMOVE,
        truncate_long_prompts=False,
        split_long_text_mode=SplitLongTextMode.BRUTAL,
    )
    text = "a (red apple)+ shiny- house " + "boat " * 40 + "(a dog)0.2"
    np.testing.assert_allclose(hidden(encoder, text, 5, "compel"), reference(text).numpy(), atol=WITHIN)


def test_a_part_that_fills_a_chunk_of_its_own_leaves_an_empty_one(encoder: TextEncoder) -> None:
    text, short = "apple " * ROOM + "(boat)0", "apple " * ROOM
    ours = hidden(encoder, text, 2, "compel")
    empty = hidden(encoder, "", 1, "none")
    np.testing.assert_allclose(ours, np.concatenate([hidden(encoder, short, 1, "none"), empty], axis=1), atol=1e-3)


@settings(max_examples=30)
@given(words=st.lists(PLAIN_WORDS, max_size=70).map(" ".join), weighting=st.sampled_from(sorted(WEIGHTINGS)))
def test_weights_of_1_change_no_bit(encoder: TextEncoder, words: str, weighting: str) -> None:
    plain, weighed = (encoder.encode([words], 2, name) for name in ("none", weighting))
    assert weighed.arrays["hidden_states"].tobytes() == plain.arrays["hidden_states"].tobytes()
    assert (weighed.truncated, weighed.tokens) == (plain.truncated, plain.tokens)


def test_brackets_are_text_unless_asked_otherwise(encoder: TextEncoder) -> None:
    text = "a ((red:1.3)) [apple]++ BREAK x"
    plain = encoder.encode([text])
    assert plain.tokens > encoder.encode([text], 2, "a1111").tokens
    assert len({hidden(encoder, text, 1, name).tobytes() for name in WEIGHTINGS}) == len(WEIGHTINGS)


@pytest.mark.parametrize(
    ("text", "weighting", "truncated", "tokens"),
    [
        ("(apple " * ROOM + ")", "a1111", False, ROOM),
        ("(apple " * (ROOM + 1), "a1111", True, ROOM),
        ("a red apple BREAK boat", "a1111", True, 3),
        ("a red apple BREAK", "a1111", False, 3),
        ("(apple)+ " * (ROOM + 1), "compel", True, ROOM),
        ("a red apple++", "compel", False, 3),
    ],
)
def test_what_is_cut_off_is_reported(
    encoder: TextEncoder, text: str, weighting: str, truncated: bool, tokens: int
) -> None:
    encoded = encoder.encode([text, ""], 1, weighting)
    assert (encoded.truncated, encoded.tokens) == ((truncated, False), (tokens, 0))


@pytest.mark.parametrize(
    ("text", "weighting", "words"),
    [
        ("x", "b1111", "weighting='b1111': must be one of a1111, compel, none"),
        ("(x:2000)", "a1111", "prompt: gives a part the weight 2000"),
        ("(x)2000", "compel", "prompt: gives a part the weight 2000"),
        ("x.swap(y)", "compel", "prompt: holds .swap(), an operator of Compel's that is not served"),
    ],
)
def test_a_prompt_that_cannot_be_weighed_is_refused_by_check_and_stage(
    encoder: TextEncoder, text: str, weighting: str, words: str
) -> None:
    for refused in (lambda: check_prompt("prompt", text, weighting), lambda: encoder.encode([text], 1, weighting)):
        with pytest.raises(RequestError) as caught:
            refused()
        assert str(caught.value).startswith(words)


@pytest.mark.parametrize("text", ["(x:2000)", "x.swap(y)", "(" * 4000])
def test_any_text_passes_unweighed(text: str) -> None:
    check_prompt("prompt", text, "none")
