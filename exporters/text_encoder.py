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

    def forward(self, input_ids: Tensor) -> tuple[Tensor]:
        return (self.encoder(input_ids).last_hidden_state,)


def text_encoder(checkpoint: Checkpoint) -> Network:
    """Read the checkpoint's text encoder; its conditioning is the last hidden state after the final norm."""
    encoder = checkpoint.text_encoder()
    tokens = token_limit(checkpoint.tokenizer())
    width = encoder.config.hidden_size
    if tokens > encoder.config.max_position_embeddings:
        raise ExportError(
            f"tokenizer: cuts at {tokens} tokens, the text encoder knows {encoder.config.max_position_embeddings}"
        )
    contract = Contract(
        kind=Kind.TEXT_ENCODER,
        inputs=(TensorSpec(name="input_ids", dtype="int64", shape=("batch", "tokens")),),
        outputs=(TensorSpec(name=CONDITIONING, dtype="float32", shape=("batch", "tokens", width)),),
        conditioning=(Conditioning(name=CONDITIONING, width=width, tokens=tokens),),
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
