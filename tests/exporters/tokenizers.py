"""A tokenizer of CLIP's kind for tiny pipelines."""

from tokenizers import pre_tokenizers
from transformers import CLIPTokenizer

TOKENS = 77


def tiny_tokenizer(pad: str | None = None) -> CLIPTokenizer:
    """Of single letters and the word "red", filled up with `pad`, or with the end mark."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = ["<|startoftext|>", "<|endoftext|>", *alphabet, *(f"{letter}</w>" for letter in alphabet), "re", "red</w>"]
    merges = [("r", "e"), ("re", "d</w>")]
    more = {} if pad is None else {"pad_token": pad}
    return CLIPTokenizer(
        vocab={token: number for number, token in enumerate(tokens)}, merges=merges, model_max_length=TOKENS, **more
    )
