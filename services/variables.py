"""How environment variables of settings are called."""

PREFIX = "LATENTWORKS_"
NESTED = "__"


def variable_of(*path: str) -> str:
    """The variable of a field by the names of its parts and its own, such as `LATENTWORKS_DENOISER__RUN_ROWS`."""
    return f"{PREFIX}{NESTED.join(path)}".upper()
