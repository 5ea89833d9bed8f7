"""T5's tokenizer, made of the vocabulary that is kept here: single-file checkpoints hold none."""

import base64
import json
import lzma
from pathlib import Path

from transformers import T5Tokenizer

_TOKENIZER = Path(__file__).parent / "vocabulary" / "t5-tokenizer.json.xz"
_TOKENS = 512


def t5_tokenizer() -> T5Tokenizer:
    """The tokenizer of T5 v1.1: 32,000 pieces with their log probabilities, and a hundred marks beyond them."""
    kept = json.loads(lzma.decompress(_TOKENIZER.read_bytes()))
    charsmap = next(
        step["precompiled_charsmap"] for step in kept["normalizer"]["normalizers"] if step["type"] == "Precompiled"
    )
    return T5Tokenizer(
        vocab=[(piece, score) for piece, score in kept["model"]["vocab"]],
        _spm_precompiled_charsmap=base64.b64decode(charsmap),
        model_max_length=_TOKENS,
    )
