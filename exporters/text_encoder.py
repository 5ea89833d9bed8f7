"""The text encoders of a checkpoint as one component: token numbers to hidden states, and to vectors of whole texts."""

from collections.abc import Sequence

from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer, T5Tokenizer

from components.contract import PHRASE, Conditioning, Contract, Kind, TensorSpec
from components.folder import TOKENIZER_NAMES
from exporters.checkpoint import Checkpoint
from exporters.errors import ExportError
from exporters.network import Network, trials

HIDDEN_STATES = ("hidden_states", "second_hidden_states")
TEXT_EMBEDS = ("text_embeds", "second_text_embeds")
INPUTS = ("input_ids", "second_input_ids")


class _LastLayers(nn.Module):
    """One encoder's layers after its final norm, the last one first, and with `phrases` its vector of a phrase."""

    def __init__(self, encoder: CLIPTextModel, phrases: bool) -> None:
        super().__init__()
        self.encoder = encoder
        self._phrases = phrases

    def forward(self, input_ids: Tensor) -> tuple[Tensor, ...]:
        encoded = self.encoder(input_ids, output_hidden_states=True)
        # the first is the embedding, which no layer has seen
        _, *earlier, _ = encoded.hidden_states
        norm = self.encoder.final_layer_norm
        layers = (encoded.last_hidden_state, *(norm(hidden) for hidden in reversed(earlier)))
        return (*layers, encoded.pooler_output) if self._phrases else layers


class _LastWithoutNorm(nn.Module):
    """One encoder's last layer before its final norm, and whole texts after it: what a latent upscaler is told."""

    def __init__(self, encoder: CLIPTextModel) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, input_ids: Tensor) -> tuple[Tensor, ...]:
        encoded = self.encoder(input_ids, output_hidden_states=True)
        return encoded.hidden_states[-1], encoded.pooler_output


class _InnerLayers(nn.Module):
    """Layers of the encoders before any norm, from the last but one down, and whole texts of the last `whole`."""

    def __init__(self, encoders: Sequence[nn.Module], layers: int, whole: int) -> None:
        super().__init__()
        self.encoders = nn.ModuleList(encoders)
        self._layers, self._whole = layers, whole

    def forward(self, *input_ids: Tensor) -> tuple[Tensor, ...]:
        encoded = [
            encoder(ids, output_hidden_states=True) for encoder, ids in zip(self.encoders, input_ids, strict=True)
        ]
        states = [one.hidden_states[-2 - skipped] for skipped in range(self._layers) for one in encoded]
        whole = [one.text_embeds for one in encoded[-self._whole :]]
        return (*states[: len(encoded)], *whole, *states[len(encoded) :])


def text_encoder(checkpoint: Checkpoint) -> Network:
    """Read the checkpoint's text encoders; their conditioning is a layer's hidden state.

    There is an output for every layer, the last one first, as A1111 and diffusers count them for clip skip. SDXL and
    SD 3 begin with the last but one, take none through the final norm, and have encoders' projections of a whole text.
    A latent upscaler has the last one alone, before the norm, and a whole text after it. For a denoiser that takes
    boxes there is a vector of a phrase.

    Raises:
        ExportError: a tokenizer cuts at more tokens than its encoder knows, or at another number than the other.
    """
    encoders = checkpoint.text_encoders()
    tokens = token_limit(checkpoint.tokenizers())
    for encoder in encoders:
        if tokens > encoder.config.max_position_embeddings:
            raise ExportError(
                f"tokenizer: cuts at {tokens} tokens, the text encoder knows {encoder.config.max_position_embeddings}"
            )
    hidden = [
        Conditioning(name=name, width=encoder.config.hidden_size, tokens=tokens, tokenizer=number)
        for number, (name, encoder) in enumerate(zip(HIDDEN_STATES, encoders, strict=False), 1)
    ]
    fewest = min(encoder.config.num_hidden_layers for encoder in encoders)
    module: nn.Module
    whole: tuple[Conditioning, ...]
    if checkpoint.upscales_latents:
        module = _LastWithoutNorm(encoders[0])
        whole = (Conditioning(name=TEXT_EMBEDS[0], width=encoders[0].config.hidden_size, tokens=None),)
        last = 0
    elif checkpoint.projecting:
        module = _InnerLayers(encoders, fewest - 1, checkpoint.projecting)
        numbers = range(len(encoders) - checkpoint.projecting + 1, len(encoders) + 1)
        whole = tuple(
            Conditioning(name=name, width=encoders[number - 1].config.projection_dim, tokens=None, tokenizer=number)
            for name, number in zip(TEXT_EMBEDS, numbers, strict=False)
        )
        last = fewest - 2
    else:
        module, whole, last = _LastLayers(encoders[0], checkpoint.takes_boxes), (), fewest - 1
    skipped = [tuple(f"{array.name}_{layer}" for array in hidden) for layer in range(last, 0, -1)]
    widths = {array.name: array.width for array in hidden}
    shape = ("batch", "tokens")
    outputs = [
        *(TensorSpec(name=array.name, dtype="float32", shape=(*shape, array.width)) for array in hidden),
        *(TensorSpec(name=array.name, dtype="float32", shape=("batch", array.width)) for array in whole),
        *(
            TensorSpec(name=name, dtype="float32", shape=(*shape, widths[array.name]))
            for names in skipped
            for name, array in zip(names, hidden, strict=True)
        ),
    ]
    if checkpoint.takes_boxes:
        outputs.append(TensorSpec(name=PHRASE, dtype="float32", shape=("batch", encoders[0].config.hidden_size)))
    contract = Contract(
        kind=Kind.TEXT_ENCODER,
        inputs=tuple(TensorSpec(name=name, dtype="int64", shape=shape) for name in INPUTS[: len(encoders)]),
        outputs=tuple(outputs),
        conditioning=(*hidden, *whole),
        skipped_layers=tuple((*names, *(array.name for array in whole)) for names in skipped),
    )
    layout = trials({"tokens": max(2, tokens // 2 - 1)}, {"tokens": tokens})
    bound = min(encoder.config.vocab_size for encoder in encoders)
    return Network(module, contract, layout, bound=bound)


def tokenizer_files(tokenizers: Sequence[CLIPTokenizer]) -> dict[str, str]:
    """Name and content of a component's tokenizer files: each cuts and pads to its token limit by itself."""
    limit = token_limit(tokenizers)
    return {
        name: tokenizer_file(tokenizer, limit) for name, tokenizer in zip(TOKENIZER_NAMES, tokenizers, strict=False)
    }


def tokenizer_file(tokenizer: CLIPTokenizer | T5Tokenizer, limit: int) -> str:
    """The content of a tokenizer's file: it cuts and pads to `limit` tokens by itself."""
    fast = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    fast.enable_truncation(limit)
    fast.enable_padding(length=limit, pad_id=tokenizer.pad_token_id, pad_token=tokenizer.pad_token)
    content: str = fast.to_str()
    return content


def token_limit(tokenizers: Sequence[CLIPTokenizer]) -> int:
    """The most tokens of a prompt, start and end marks included, which is the same of all tokenizers.

    Raises:
        ExportError: a tokenizer's configuration does not say, or they differ.
    """
    limits = {tokenizer.model_max_length for tokenizer in tokenizers}
    for limit in limits:
        if not 2 <= limit <= 4096:
            raise ExportError(f"tokenizer: model_max_length={limit}: must be between 2 and 4096")
    if len(limits) > 1:
        raise ExportError(f"tokenizers: cut at {' and '.join(map(str, sorted(limits)))} tokens; must cut at one number")
    return int(limits.pop())
