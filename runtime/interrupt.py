"""Breaking off one run of a session while it is under way."""

import onnxruntime as ort


class Interrupt:
    """Breaks off the one run that it is handed to, between two of the graph's nodes; any thread may call it.

    A run that it broke off raises `RuntimeFault`. One object serves one run: ONNX Runtime would break off the next
    one too.
    """

    def __init__(self) -> None:
        self.options = ort.RunOptions()

    @property
    def asked(self) -> bool:
        """Whether the run was told to stop; it may have ended by itself before it heard."""
        return bool(self.options.terminate)

    def break_off(self) -> None:
        """Tell the run to stop, whether it has begun or not."""
        self.options.terminate = True
