"""The text encoder's stage: texts to conditioning."""

from collections.abc import Sequence
from functools import partial

import numpy as np
from tokenizers import Tokenizer

from components.contract import Kind
from components.errors import ComponentError
from components.folder import TOKENIZER_NAME, ComponentFolder
from components.messages import Arrays, EncodedText, FloatArray
from pipeline.checks import check_name, check_whole
from pipeline.prompts.cache import CacheFigures, ConditioningCache, cache_key
from pipeline.prompts.tokens import PromptTokenizer
from pipeline.prompts.weighting import WEIGHTINGS, EncodedPrompt
from pipeline.stage import Interface, open_session
from runtime.settings import SessionSettings

# of a prompt in Stable Diffusion 1.5's width, some 140
CACHE_BYTES = 32 * 1024 * 1024

_INTERFACE = Interface(Kind.TEXT_ENCODER, frozenset({"input_ids"}), frozenset())


class TextEncoder:
    """Tokenises texts and runs the text encoder on them; usable from any number of threads at once."""

    def __init__(self, folder: ComponentFolder, settings: SessionSettings, cache_bytes: int = CACHE_BYTES) -> None:
        """Open the component; conditioning of `cache_bytes` at most is kept for texts that come again.

        Raises:
            ComponentError: it is no text encoder, or its tokenizer is missing, damaged or of another token limit.
            RuntimeFault: as `Session.open`.
        """
        self._tokenizer = PromptTokenizer(_tokenizer(folder))
        self._session = open_session(folder, settings, _INTERFACE)
        self._cache = ConditioningCache(cache_bytes)
        self.contract = self._session.contract
        self.provider = self._session.provider

    @property
    def cache_figures(self) -> CacheFigures:
        """How often a text was found that was encoded before, and what is kept."""
        return self._cache.figures

    def encode(
        self, texts: Sequence[str], max_chunks: int = 1, weighting: str = "none", *, clip_skip: int = 1
    ) -> EncodedText:
        """Encode checked texts to conditioning [texts, chunks * tokens, width], read-only.

        A text beyond the token limit goes on in further chunks, each with marks and padding of its own and encoded on
        its own, as A1111 and ComfyUI do; what does not fit into `max_chunks` is cut off. All texts get the chunks of
        the longest one, the others empty ones at their end. `weighting` says by which grammar the texts weigh their
        parts, "none" that they are text alone. `clip_skip` 1 takes the last layer, 2 the one before it, ..., each after
        the final norm. Every text runs on its own: its bytes hang on no other.

        Raises:
            RequestError: there is no such weighting or layer, or a text is none that `check_prompt` lets through.
            RuntimeFault: the session could not run.
        """
        check_name("weighting", weighting, WEIGHTINGS)
        check_whole("clip_skip", clip_skip, 1, self.contract.most_clip_skip)
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
        return EncodedText(joined, truncated, tokens, sum(cached for _, cached in encoded))

    def probe(self) -> None:
        """Run the session once, past whatever is kept.

        Raises:
            RuntimeFault: it could not run.
        """
        self._run([self._tokenizer.row(())], clip_skip=1)

    def _encode(self, text: str, max_chunks: int, weighting: str, clip_skip: int) -> tuple[EncodedPrompt, bool]:
        """A text's conditioning, and whether it had been encoded before."""
        key = cache_key(text, weighting, max_chunks, clip_skip)
        found = self._cache.find(key)
        if found is not None:
            return found, True
        run = partial(self._run, clip_skip=clip_skip)
        prompt = WEIGHTINGS[weighting].encode(self._tokenizer, run, text, max_chunks)
        self._cache.keep(key, prompt)
        return prompt, False

    def _filled(self, prompt: EncodedPrompt, chunks: int, clip_skip: int) -> dict[str, FloatArray]:
        """A prompt's arrays [chunks * tokens, width], with empty chunks at the end where it has fewer."""
        arrays = prompt.arrays
        if prompt.chunks < chunks:
            empty = self._encode("", 1, "none", clip_skip)[0].arrays
            more = chunks - prompt.chunks
            arrays = {name: np.concatenate([array, *[empty[name]] * more]) for name, array in arrays.items()}
        return {name: array.reshape(-1, array.shape[-1]) for name, array in arrays.items()}

    def _run(self, rows: Sequence[Sequence[int]], clip_skip: int) -> Arrays:
        outputs = self.contract.conditioning_outputs(clip_skip)
        found = self._session.run({"input_ids": np.array(rows, dtype=np.int64)}, outputs=tuple(outputs.values()))
        return {name: found[output] for name, output in outputs.items()}


def _tokenizer(folder: ComponentFolder) -> Tokenizer:
    try:
        text = (folder.path / TOKENIZER_NAME).read_text(encoding="utf-8")
        tokenizer = Tokenizer.from_str(text)
    except (OSError, UnicodeDecodeError) as error:
        raise ComponentError(f"{folder.path.name}: {TOKENIZER_NAME} cannot be read: {type(error).__name__}") from None
    except Exception as error:
        # the package raises nothing more particular
        raise ComponentError(f"{folder.path.name}: {TOKENIZER_NAME} is no tokenizer: {error}") from error
    limits = folder.manifest.contract.token_limits
    cut, padded = (
        None if part is None else part[key]
        for part, key in ((tokenizer.truncation, "max_length"), (tokenizer.padding, "length"))
    )
    if limits != {cut} or limits != {padded}:
        raise ComponentError(
            f"{folder.path.name}: {TOKENIZER_NAME} cuts at {cut} tokens and pads to {padded}, "
            f"the contract says {', '.join(map(str, sorted(limits)))}"
        )
    return tokenizer
