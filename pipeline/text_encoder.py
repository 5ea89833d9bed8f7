"""The text encoder's stage: texts to conditioning."""

from collections.abc import Sequence
from functools import partial

import numpy as np
from tokenizers import Tokenizer

from components.contract import PHRASE, Contract, Kind
from components.errors import ComponentError
from components.folder import TOKENIZER_NAMES, ComponentFolder
from components.messages import Arrays, EncodedText, FloatArray
from pipeline.checks import check_name, check_whole
from pipeline.errors import RequestError
from pipeline.prompts.cache import CacheFigures, ConditioningCache, cache_key
from pipeline.prompts.tokens import PromptTokenizer
from pipeline.prompts.weighting import WEIGHTINGS, EncodedPrompt, side_by_side
from pipeline.stage import Interface, open_session
from runtime.settings import SessionSettings

# of a prompt in Stable Diffusion 1.5's width, some 140
CACHE_BYTES = 32 * 1024 * 1024

# of the first tokenizer's numbers, and of the second's
_INPUTS = ("input_ids", "second_input_ids")


class TextEncoder:
    """Tokenises texts and runs the text encoder on them; usable from any number of threads at once."""

    def __init__(
        self,
        folder: ComponentFolder,
        settings: SessionSettings,
        cache_bytes: int = CACHE_BYTES,
        *,
        kind: Kind = Kind.TEXT_ENCODER,
    ) -> None:
        """Open the component; conditioning of `cache_bytes` at most is kept for texts that come again.

        `kind` is that of the text encoder, or of a third one beside it.

        Raises:
            ComponentError: it is of another kind, or its tokenizer is missing, damaged or of another token limit.
            RuntimeFault: as `Session.open`.
        """
        inputs = _INPUTS[: _tokenizers_of(folder.manifest.contract)]
        self._tokenizers = [PromptTokenizer(_tokenizer(folder, name)) for name in TOKENIZER_NAMES[: len(inputs)]]
        self._session = open_session(folder, settings, Interface(kind, frozenset(inputs), frozenset()))
        self._cache = ConditioningCache(cache_bytes)
        self.contract = self._session.contract
        self.provider = self._session.provider

    @property
    def cache_figures(self) -> CacheFigures:
        """How often a text was found that was encoded before, and what is kept."""
        return self._cache.figures

    def encode(
        self,
        texts: Sequence[str],
        max_chunks: int = 1,
        weighting: str = "none",
        *,
        clip_skip: int = 1,
        phrases: Sequence[str] = (),
    ) -> EncodedText:
        """Encode checked texts to conditioning [texts, chunks * tokens, width] or [texts, width], read-only.

        A text beyond the token limit goes on in further chunks, each with marks and padding of its own and encoded on
        its own, as A1111 and ComfyUI do; what does not fit into `max_chunks` is cut off. All texts get the chunks of
        the longest one, the others empty ones at their end. `weighting` says by which grammar the texts weigh their
        parts, "none" that they are text alone. `clip_skip` 1 takes the last layer, 2 the one before it, ..., each after
        the final norm. Of a vector of a whole text, that of its first chunk counts, as in A1111. Each tokenizer reads
        the texts for itself. Every text runs on its own: its bytes hang on no other. `phrases` are those of boxes, text
        alone whatever the weighting, of the last layer, and no longer than one chunk.

        Raises:
            RequestError: there is no such weighting or layer, a text is none that `check_prompt` lets through, a phrase
                is longer than the token limit, or there are some and the component reads none.
            RuntimeFault: the session could not run.
        """
        check_name("weighting", weighting, WEIGHTINGS)
        check_whole("clip_skip", clip_skip, 1, self.contract.most_clip_skip)
        found = [self._phrase(number, phrase) for number, phrase in enumerate(phrases)]
        encoded = [self._encode(text, max_chunks, weighting, clip_skip) for text in texts]
        prompts = [prompt for prompt, _ in encoded]
        chunks = max(prompt.chunks for prompt in prompts)
        filled = [self._filled(prompt, chunks, clip_skip) for prompt in prompts]
        joined = {
            array.name: np.stack([arrays[array.name] for arrays in filled]) for array in self.contract.conditioning
        }
        for array in joined.values():
            array.flags.writeable = False
        truncated, tokens = zip(*((prompt.truncated, prompt.tokens) for prompt in prompts), strict=True)
        vectors = np.concatenate([prompt.arrays[PHRASE] for prompt, _ in found]) if found else None
        return EncodedText(joined, truncated, tokens, sum(cached for _, cached in (*encoded, *found)), vectors)

    def probe(self) -> None:
        """Run the session once, past whatever is kept.

        Raises:
            RuntimeFault: it could not run.
        """
        for number, tokenizer in enumerate(self._tokenizers, 1):
            self._run([tokenizer.row(())], number, clip_skip=1)

    def _encode(self, text: str, max_chunks: int, weighting: str, clip_skip: int) -> tuple[EncodedPrompt, bool]:
        """A text's conditioning, and whether it had been encoded before."""
        key = cache_key(text, weighting, max_chunks, clip_skip)
        found = self._cache.find(key)
        if found is not None:
            return found, True
        prompt = side_by_side(
            [
                WEIGHTINGS[weighting].encode(
                    tokenizer, partial(self._run, tokenizer=number, clip_skip=clip_skip), text, max_chunks
                )
                for number, tokenizer in enumerate(self._tokenizers, 1)
            ]
        )
        self._cache.keep(key, prompt)
        return prompt, False

    def _phrase(self, number: int, text: str) -> tuple[EncodedPrompt, bool]:
        """The vector [1, width] of the phrase of a box, and whether it had been encoded before."""
        if all(spec.name != PHRASE for spec in self.contract.outputs):
            raise RequestError("boxes", "boxes: must be left out, as this text encoder reads no phrases")
        key = cache_key(text, PHRASE, 1, 1)
        found = self._cache.find(key)
        if found is not None:
            return found, True
        tokenizer = self._tokenizers[0]
        encoding, *beyond = tokenizer.encodings(text)
        if beyond:
            field = f"boxes.{number}.phrase"
            raise RequestError(field, f"{field}: must have at most {tokenizer.room} tokens")
        feeds = {spec.name: np.array([encoding.ids], dtype=np.int64) for spec in self.contract.inputs}
        vector = self._session.run(feeds, outputs=(PHRASE,))
        prompt = EncodedPrompt(vector, truncated=False, tokens=encoding.special_tokens_mask.count(0))
        self._cache.keep(key, prompt)
        return prompt, False

    def _filled(self, prompt: EncodedPrompt, chunks: int, clip_skip: int) -> dict[str, FloatArray]:
        """A prompt's arrays [chunks * tokens, width], with empty chunks at the end where it has fewer, or [width]."""
        empty = self._encode("", 1, "none", clip_skip)[0].arrays if prompt.chunks_at_least < chunks else {}
        return {name: _flat(array, empty.get(name), chunks) for name, array in prompt.arrays.items()}

    def _run(self, rows: Sequence[Sequence[int]], tokenizer: int, clip_skip: int) -> Arrays:
        """The arrays that are made by one tokenizer's numbers; what the others are made of does not run."""
        own = {array.name for array in self.contract.conditioning if array.tokenizer == tokenizer}
        outputs = {
            name: output for name, output in self.contract.conditioning_outputs(clip_skip).items() if name in own
        }
        ids = np.array(rows, dtype=np.int64)
        feeds = {spec.name: ids for spec in self.contract.inputs}
        found = self._session.run(feeds, outputs=tuple(outputs.values()))
        return {name: found[output] for name, output in outputs.items()}


def third_text_encoder(
    folder: ComponentFolder, settings: SessionSettings, cache_bytes: int = CACHE_BYTES
) -> TextEncoder:
    """Open the text encoder that some denoisers take beside the first, as `TextEncoder`.

    It reads a text in one part of its own token limit.
    """
    return TextEncoder(folder, settings, cache_bytes, kind=Kind.THIRD_TEXT_ENCODER)


def _flat(array: FloatArray, empty: FloatArray | None, chunks: int) -> FloatArray:
    if array.ndim == 3:
        filled = array if empty is None else np.concatenate([array, *[empty] * (chunks - len(array))])
        return filled.reshape(-1, array.shape[-1])
    whole: FloatArray = array[0]
    return whole


def _tokenizers_of(contract: Contract) -> int:
    """How many tokenizers a text encoder has: its contract counts them by the arrays that they make."""
    return max(array.tokenizer for array in contract.conditioning)


def _tokenizer(folder: ComponentFolder, name: str) -> Tokenizer:
    try:
        text = (folder.path / name).read_text(encoding="utf-8")
        tokenizer = Tokenizer.from_str(text)
    except (OSError, UnicodeDecodeError) as error:
        raise ComponentError(f"{folder.path.name}: {name} cannot be read: {type(error).__name__}") from None
    except Exception as error:
        # the package raises nothing more particular
        raise ComponentError(f"{folder.path.name}: {name} is no tokenizer: {error}") from error
    limits = folder.manifest.contract.token_limits
    cut, padded = (
        None if part is None else part[key]
        for part, key in ((tokenizer.truncation, "max_length"), (tokenizer.padding, "length"))
    )
    if limits != {cut} or limits != {padded}:
        raise ComponentError(
            f"{folder.path.name}: {name} cuts at {cut} tokens and pads to {padded}, "
            f"the contract says {', '.join(map(str, sorted(limits)))}"
        )
    return tokenizer
