import numpy as np
import pytest
from transformers import CLIPTokenizer

from training.captions import TOKENS, caption, learn_tokenizer
from training.pictures import Picture

APPLE = Picture("1F34E", "red apple", ("fruit", "diet"), "3d", True)


@pytest.fixture(scope="module")
def tokenizer() -> CLIPTokenizer:
    return learn_tokenizer([APPLE], 600)


def test_a_caption_is_label_and_style_and_sometimes_more() -> None:
    assert caption(APPLE) == "red apple, 3d style"
    random = np.random.default_rng(0)
    captions = {caption(APPLE, random, tags=0.5) for _ in range(200)}
    assert {"red apple, 3d style", "a red apple, 3d style", "red apple, fruit, 3d style"} <= captions
    assert all("red apple" in text and text.endswith(", 3d style") for text in captions)


def test_the_vocabulary_knows_its_words_and_every_byte(tokenizer: CLIPTokenizer) -> None:
    assert tokenizer.tokenize("Red apple") == ["red</w>", "apple</w>"]
    for text in ("zürich café", "🍎 \u202eabc", "\x01\x7f", "日本"):
        ids = tokenizer(text).input_ids
        assert ids.count(tokenizer.eos_token_id) == 1, text


def test_prompts_are_cut_and_padded_to_32_tokens(tokenizer: CLIPTokenizer) -> None:
    for text in ("", "apple " * 100):
        assert len(tokenizer(text, padding="max_length", truncation=True).input_ids) == TOKENS
