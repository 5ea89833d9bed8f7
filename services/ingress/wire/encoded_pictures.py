"""Pictures in the text of a body."""

import base64
import binascii

from services.errors import FieldError


class NotBase64Error(FieldError):
    """A text that is to be a file is none."""


def file_of_text(field: str, text: str) -> bytes:
    """The file of a text in base64, perhaps with `data:image/png;base64,` before it.

    Raises:
        FieldError: it is a link.
        NotBase64Error: it is no base64.
    """
    if text[:8].lower().startswith(("http://", "https://")):
        raise FieldError(f"{field}: is a link, and links are not followed here; send the file in base64", field)
    content = text.partition(",")[2] if text[:5].lower() == "data:" else text
    try:
        return base64.b64decode(content)
    except (binascii.Error, ValueError):
        raise NotBase64Error(f"{field}: must be a picture's file in base64", field) from None
