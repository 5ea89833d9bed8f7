"""How environment variables of settings are called."""

PREFIX = "LATENTWORKS_"
NESTED = "__"


def variable_of(part: str, field: str) -> str:
    """The variable of a part's field, such as `LATENTWORKS_DENOISER__RUN_ROWS`."""
    return f"{PREFIX}{part}{NESTED}{field}".upper()
