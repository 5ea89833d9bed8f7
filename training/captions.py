"""Captions of the pictures, and the byte-pair tokenizer learned from them."""

import json
from collections.abc import Iterable

import numpy as np
from tokenizers import pre_tokenizers
from torch import Tensor
from transformers import CLIPTokenizer

from training.pictures import STYLES, Picture

START, END = "<|startoftext|>", "<|endoftext|>"
TOKENS = 32
_MOST_TAGS = 3


def caption(picture: Picture, random: np.random.Generator | None = None, tags: float = 0.0) -> str:
    """The label and the style: "red apple, 3d style"; with chance `tags` also up to three of its tags."""
    words = [picture.label]
    if random is not None and picture.tags and random.random() < tags:
        count = min(len(picture.tags), int(random.integers(1, _MOST_TAGS + 1)))
        words += [picture.tags[i] for i in random.permutation(len(picture.tags))[:count]]
    text = ", ".join([*words, f"{picture.style} style"])
    # People write "a red apple"; the article must not be a word that the model has never seen.
    return f"a {text}" if random is not None and random.random() < 1 / 3 else text


def learn_tokenizer(pictures: Iterable[Picture], size: int) -> CLIPTokenizer:
    """Learn a byte-pair vocabulary of about `size` tokens from all labels and tags, in the form of CLIP's tokenizer.

    As in CLIP's own, every byte is a token twice, inside a word and at its end, so no text is unknown. A prompt is cut
    and padded to 32 tokens.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    base = [START, END, *alphabet, *(f"{letter}</w>" for letter in alphabet)]
    texts = [text for picture in pictures for text in (picture.label, *picture.tags)]
    texts += [f"a picture of the {style} style" for style in STYLES]
    learned = CLIPTokenizer().train_new_from_iterator(texts, size, initial_alphabet=alphabet, show_progress=False)
    merges = [tuple(pair) for pair in json.loads(learned.backend_tokenizer.to_str())["model"]["merges"]]
    merges = merges[: size - len(base)]
    tokens = list(dict.fromkeys([*base, *("".join(pair) for pair in merges)]))
    return CLIPTokenizer(
        vocab={token: number for number, token in enumerate(tokens)}, merges=merges, model_max_length=TOKENS
    )


def tokenise(tokenizer: CLIPTokenizer, captions: list[str]) -> Tensor:
    """[B, 32] token numbers, cut and padded."""
    ids = tokenizer(captions, padding="max_length", truncation=True, max_length=TOKENS, return_tensors="pt").input_ids
    assert isinstance(ids, Tensor)
    return ids
