"""The text encoder's stage: texts to conditioning."""

from collections.abc import Sequence

import numpy as np
from tokenizers import Tokenizer

from components.contract import Kind
from components.errors import ComponentError
from components.folder import TOKENIZER_NAME, ComponentFolder
from components.messages import EncodedText
from pipeline.stage import Interface, open_session
from runtime.settings import SessionSettings

_INTERFACE = Interface(Kind.TEXT_ENCODER, frozenset({"input_ids"}), frozenset())


class TextEncoder:
    """Tokenises texts and runs the text encoder on them; usable from any number of threads at once."""

    def __init__(self, folder: ComponentFolder, settings: SessionSettings) -> None:
        """Open the component.

        Raises:
            ComponentError: it is no text encoder, or its tokenizer is missing, damaged or of another token limit.
            RuntimeFault: as `Session.open`.
        """
        self._tokenizer = _tokenizer(folder)
        self._session = open_session(folder, settings, _INTERFACE)
        self.contract = self._session.contract
        self.provider = self._session.provider

    def encode(self, texts: Sequence[str], max_chunks: int = 1) -> EncodedText:
        """Encode checked texts to conditioning [texts, chunks * tokens, width].

        A text beyond the token limit goes on in further chunks, each with marks and padding of its own and encoded on
        its own, as A1111 and ComfyUI do; what does not fit into `max_chunks` is cut off. All texts get the chunks of
        the longest one, the others empty ones at their end.

        Raises:
            RuntimeFault: the session could not run.
        """
        encodings = [self._tokenizer.encode(text) for text in texts]
        # what the tokenizer cuts off it has marked and padded too, chunk by chunk
        wanted = [[encoding.ids, *(more.ids for more in encoding.overflowing)] for encoding in encodings]
        chunks = min(max_chunks, max(map(len, wanted)))
        empty = self._tokenizer.encode("").ids
        rows = [row for ids in wanted for row in (ids + [empty] * chunks)[:chunks]]
        arrays = self._session.run({"input_ids": np.array(rows, dtype=np.int64)})
        joined = {name: array.reshape(len(texts), -1, array.shape[-1]) for name, array in arrays.items()}
        return EncodedText(joined, tuple(len(ids) > chunks for ids in wanted))


def _tokenizer(folder: ComponentFolder) -> Tokenizer:
    try:
        text = (folder.path / TOKENIZER_NAME).read_text(encoding="utf-8")
        tokenizer = Tokenizer.from_str(text)
    except (OSError, UnicodeDecodeError) as error:
        raise ComponentError(f"{folder.path.name}: {TOKENIZER_NAME} cannot be read: {type(error).__name__}") from None
    except Exception as error:
        # the package raises nothing more particular
        raise ComponentError(f"{folder.path.name}: {TOKENIZER_NAME} is no tokenizer: {error}") from error
    limits = {array.tokens for array in folder.manifest.contract.conditioning}
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
