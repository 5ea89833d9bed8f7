"""The text encoder as a component: token numbers to hidden states."""

from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from components.contract import Conditioning, Contract, Kind, TensorSpec
from exporters.checkpoint import Checkpoint
from exporters.errors import ExportError
from exporters.network import Network, trials

CONDITIONING = "hidden_states"


class _TextEncoder(nn.Module):
    def __init__(self, encoder: CLIPTextModel) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, input_ids: Tensor) -> tuple[Tensor, ...]:
        encoded = self.encoder(input_ids, output_hidden_states=True)
        # the first is the embedding, which no layer has seen
        _, *earlier, _ = encoded.hidden_states
        norm = self.encoder.final_layer_norm
        return (encoded.last_hidden_state, *(norm(hidden) for hidden in reversed(earlier)))


def text_encoder(checkpoint: Checkpoint) -> Network:
    """Read the checkpoint's text encoder; its conditioning is a layer's hidden state after the final norm.

    There is an output for every layer, the last one first, as A1111 and diffusers count them for clip skip.
    """
    encoder = checkpoint.text_encoder()
    tokens = token_limit(checkpoint.tokenizer())
    width = encoder.config.hidden_size
    if tokens > encoder.config.max_position_embeddings:
        raise ExportError(
            f"tokenizer: cuts at {tokens} tokens, the text encoder knows {encoder.config.max_position_embeddings}"
        )
    skipped = [f"{CONDITIONING}_{layer}" for layer in range(encoder.config.num_hidden_layers - 1, 0, -1)]
    shape = ("batch", "tokens", width)
    contract = Contract(
        kind=Kind.TEXT_ENCODER,
        inputs=(TensorSpec(name="input_ids", dtype="int64", shape=("batch", "tokens")),),
        outputs=tuple(TensorSpec(name=name, dtype="float32", shape=shape) for name in (CONDITIONING, *skipped)),
        conditioning=(Conditioning(name=CONDITIONING, width=width, tokens=tokens),),
        skipped_layers=tuple((name,) for name in skipped),
    )
    layout = trials({"tokens": max(2, tokens // 2 - 1)}, {"tokens": tokens})
    return Network(_TextEncoder(encoder), contract, layout, bound=encoder.config.vocab_size)


def tokenizer_json(tokenizer: CLIPTokenizer) -> str:
    """The content of `tokenizer.json`: the checkpoint's tokenizer, which cuts and pads to its token limit by itself."""
    fast = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    limit = token_limit(tokenizer)
    fast.enable_truncation(limit)
    fast.enable_padding(length=limit, pad_id=tokenizer.pad_token_id, pad_token=tokenizer.pad_token)
    content = fast.to_str()
    assert isinstance(content, str)
    return content


def token_limit(tokenizer: CLIPTokenizer) -> int:
    """The most tokens of a prompt, start and end marks included.

    Raises:
        ExportError: the tokenizer's configuration does not say.
    """
    limit = tokenizer.model_max_length
    if not 2 <= limit <= 4096:
        raise ExportError(f"tokenizer: model_max_length={limit}: must be between 2 and 4096")
    return int(limit)
