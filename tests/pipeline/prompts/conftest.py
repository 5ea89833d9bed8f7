"""The bundled text encoder as a component, and as transformers has it."""

from pathlib import Path

import pytest
import torch
from transformers import CLIPTextModel, CLIPTokenizer

from components.folder import ComponentFolder
from pipeline.text_encoder import TextEncoder
from runtime.settings import SessionSettings

EMOJI = Path(__file__).parents[3] / "models" / "emoji"


@pytest.fixture(scope="session")
def encoder() -> TextEncoder:
    settings = SessionSettings(threads=1, provider="cpu")
    return TextEncoder(ComponentFolder.open(EMOJI / "text_encoder"), settings, cache_bytes=0)


@pytest.fixture(scope="session")
def clip_tokenizer() -> CLIPTokenizer:
    return CLIPTokenizer.from_pretrained(EMOJI / "checkpoint" / "tokenizer")


@pytest.fixture(scope="session")
def clip() -> CLIPTextModel:
    with torch.no_grad():
        return CLIPTextModel.from_pretrained(EMOJI / "checkpoint" / "text_encoder").eval()
