"""OpenAI's face: `/v1/images/generations`, `edits` and `variations`."""
