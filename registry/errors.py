"""What can go wrong between us and the registry."""


class RegistryError(Exception):
    """The registry refuses, cannot be reached, or holds something that cannot be used; the message is one sentence."""


class RegistryAwayError(RegistryError):
    """The registry does not answer just now; what is asked may well be right."""
