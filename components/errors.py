"""What can be wrong with a component."""


class ComponentError(Exception):
    """A component folder, its contract or its name cannot be used; the message says which part and why."""
