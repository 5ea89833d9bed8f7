"""A checkpoint with LoRAs and textual inversions in its own weights, merged as diffusers merges them."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, ClassVar

from diffusers import UNet2DConditionModel
from diffusers.loaders import StableDiffusionLoraLoaderMixin, TextualInversionLoaderMixin
from diffusers.loaders.lora_base import fuse_text_encoder_lora
from diffusers.utils import recurse_remove_peft_layers, set_weights_and_activate_adapters
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from components.manifest import Edit
from exporters.adapter_files import Lora, TextualInversion
from exporters.checkpoint import Checkpoint
from exporters.errors import ExportError


@dataclass(frozen=True)
class Edits:
    """What goes into a checkpoint's weights, in order."""

    loras: tuple[Lora, ...] = ()
    inversions: tuple[TextualInversion, ...] = ()

    @property
    def records(self) -> tuple[Edit, ...]:
        """What `component.json` says of them."""
        return (*(lora.edit for lora in self.loras), *(inversion.edit for inversion in self.inversions))


@dataclass(frozen=True)
class EditedCheckpoint(Checkpoint):
    """A checkpoint whose text encoders, tokenizer and U-Net come with their edits."""

    edits: Edits

    @classmethod
    def of(cls, checkpoint: Checkpoint, edits: Edits) -> "EditedCheckpoint":
        """Take an open checkpoint.

        Raises:
            ExportError: an edit is for a network that the checkpoint lacks.
        """
        files = [*(lora.path.name for lora in edits.loras), *(inversion.path.name for inversion in edits.inversions)]
        if files and checkpoint.has_transformer:
            raise ExportError(f"{files[0]}: is for a U-Net; nothing is merged into {checkpoint.name}, a transformer")
        for lora in edits.loras:
            for part in ("text_encoder", "text_encoder_2"):
                if getattr(lora, part) and part not in checkpoint.text_parts:
                    raise ExportError(
                        f"{lora.path.name}: is for another family: it adapts {part}, which {checkpoint.name} lacks"
                    )
        for inversion in edits.inversions:
            if checkpoint.text_parts != ("text_encoder",):
                raise ExportError(
                    f"{inversion.path.name}: is for one text encoder; {checkpoint.name} has "
                    f"{', '.join(checkpoint.text_parts) or 'none'}"
                )
        return cls(**{field.name: getattr(checkpoint, field.name) for field in fields(checkpoint)}, edits=edits)

    def unet(self) -> UNet2DConditionModel:
        """The denoiser, with every LoRA merged.

        Raises:
            ExportError: as the checkpoint's own, or a LoRA does not fit.
        """
        unet = super().unet()
        names = self._inject(unet, "unet", StableDiffusionLoraLoaderMixin.load_lora_into_unet)
        if names:
            unet.set_adapters(names, self._scales("unet"))
            unet.fuse_lora(adapter_names=names)
            unet.unload_lora()
        return unet.requires_grad_(False)

    def text_encoders(self) -> list[CLIPTextModel | CLIPTextModelWithProjection]:
        """The text encoders, with every LoRA merged and the vectors of new words.

        Raises:
            ExportError: as the checkpoint's own, or a LoRA or a textual inversion does not fit.
        """
        encoders = super().text_encoders()
        for part, encoder in zip(self.text_parts, encoders, strict=True):
            load = partial(StableDiffusionLoraLoaderMixin.load_lora_into_text_encoder, prefix=part)
            if names := self._inject(encoder, part, load):
                set_weights_and_activate_adapters(encoder, names, self._scales(part))
                fuse_text_encoder_lora(encoder, adapter_names=names)
                recurse_remove_peft_layers(encoder)
        self._invert(super().tokenizers()[0], encoders[0])
        return [encoder.requires_grad_(False) for encoder in encoders]

    def tokenizers(self) -> list[CLIPTokenizer]:
        """The tokenizers, with the new words."""
        tokenizers = super().tokenizers()
        for inversion in self.edits.inversions:
            # a word more than once is refused with its vectors, by `text_encoders`
            tokenizers[0].add_tokens(list(inversion.words))
        return tokenizers

    def _inject(self, network: Any, part: str, load: Callable[..., None]) -> list[str]:
        """Put every LoRA that has something for `part` into `network`; the names that diffusers knows them by."""
        names = []
        for number, lora in enumerate(self.edits.loras):
            if not getattr(lora, part):
                continue
            lora.require_fit(network, part)
            name = f"lora_{number}"
            try:
                load(lora.state, lora.alphas, network, adapter_name=name, metadata=lora.metadata)
            except (ValueError, RuntimeError, KeyError, TypeError) as error:
                raise ExportError(f"{lora.path.name}: diffusers cannot load it into the {part}: {error}") from None
            names.append(name)
        return names

    def _scales(self, part: str) -> list[float]:
        return [lora.scale for lora in self.edits.loras if getattr(lora, part)]

    def _invert(self, tokenizer: CLIPTokenizer, encoder: CLIPTextModel) -> None:
        for inversion in self.edits.inversions:
            try:
                _Inverter().load_textual_inversion(
                    inversion.state, token=inversion.word, tokenizer=tokenizer, text_encoder=encoder
                )
            except ValueError as error:
                raise ExportError(f"{inversion.path.name}: does not fit the text encoder: {error}") from None


class _Inverter(TextualInversionLoaderMixin):  # type: ignore[misc] # diffusers is untyped
    """As much of a pipeline as diffusers' loader looks at."""

    hf_device_map = None
    components: ClassVar[dict[str, object]] = {}
