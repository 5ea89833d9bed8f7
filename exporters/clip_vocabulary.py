"""CLIP's tokenizer, made of the merges that are kept here: single-file checkpoints hold none."""

import lzma
from pathlib import Path

from tokenizers import pre_tokenizers
from transformers import CLIPTokenizer

_MERGES = Path(__file__).parent / "vocabulary" / "clip-merges.txt.xz"
_START, _END = "<|startoftext|>", "<|endoftext|>"
_TOKENS = 77


def clip_tokenizer(pad: str) -> CLIPTokenizer:
    """The tokenizer of CLIP and OpenCLIP, 77 tokens long, which fills up with the token `pad`.

    Numbers go as in OpenAI's `simple_tokenizer.py`: bytes in the order of their values, printable ones first, the same
    at the end of a word, then a token for every merge, and the two marks.
    """
    merges = [tuple(line.split()) for line in lzma.decompress(_MERGES.read_bytes()).decode("utf-8").splitlines()]
    letters = _letters()
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), *("".join(pair) for pair in merges), _START, _END]
    return CLIPTokenizer(
        vocab={token: number for number, token in enumerate(tokens)},
        merges=merges,
        pad_token=pad,
        model_max_length=_TOKENS,
    )


def _letters() -> list[str]:
    """A printable character for each byte: its own where it has one, those from 256 on for the rest."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    return sorted(alphabet, key=lambda letter: (ord(letter) > 255, letter))
