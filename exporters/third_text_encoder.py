"""The third text encoder of SD 3, T5, as a component of its own: token numbers to hidden states."""

from torch import Tensor, nn
from transformers import T5EncoderModel

from components.contract import Conditioning, Contract, Kind, TensorSpec
from exporters.checkpoint import Checkpoint
from exporters.network import Network, trials

THIRD_HIDDEN_STATES = "third_hidden_states"

# diffusers' default, and the most that it takes
TOKENS, MOST_TOKENS = 256, 512


class _T5(nn.Module):
    """The last hidden state, of which padding is a part: diffusers masks none."""

    def __init__(self, encoder: T5EncoderModel) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, input_ids: Tensor) -> tuple[Tensor]:
        return (self.encoder(input_ids).last_hidden_state,)


def third_text_encoder(checkpoint: Checkpoint, tokens: int = TOKENS) -> Network:
    """Read the checkpoint's T5; it takes texts padded to `tokens`, and gives as many.

    Raises:
        ExportError: it cannot be read.
    """
    encoder = checkpoint.third_text_encoder()
    array = Conditioning(name=THIRD_HIDDEN_STATES, width=encoder.config.d_model, tokens=tokens)
    contract = Contract(
        kind=Kind.THIRD_TEXT_ENCODER,
        inputs=(TensorSpec(name="input_ids", dtype="int64", shape=("batch", tokens)),),
        outputs=(third_spec(tokens, encoder.config.d_model),),
        conditioning=(array,),
    )
    return Network(_T5(encoder), contract, trials({}, {}), bound=encoder.config.vocab_size)


def third_spec(tokens: int, width: int, *, optional: bool = False) -> TensorSpec:
    """What the encoder gives, and the denoiser takes."""
    return TensorSpec(name=THIRD_HIDDEN_STATES, dtype="float32", shape=("batch", tokens, width), optional=optional)
