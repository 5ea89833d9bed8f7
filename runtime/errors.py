"""What can go wrong between a component and ONNX Runtime."""


class RuntimeFault(Exception):  # noqa: N818 - RuntimeError is Python's own
    """A graph cannot be opened, does not keep its contract, or cannot run; the message names the component and why."""
