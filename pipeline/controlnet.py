"""The ControlNet's stage: noisy latents and a control picture to what is added within the denoiser."""

from collections.abc import Sequence

import numpy as np

from components.contract import Kind
from components.folder import ComponentFolder
from components.messages import Arrays, FloatArray
from pipeline.joining import joined
from pipeline.stage import Interface, latent_space, open_session
from runtime.interrupt import Interrupt
from runtime.settings import SessionSettings

_INTERFACE = Interface(Kind.CONTROLNET, frozenset({"latents", "timestep", "control_image", "scale"}), frozenset())


class ControlNet:
    """Runs a ControlNet beside the denoiser, in its replica; usable from any number of threads at once."""

    def __init__(self, folder: ComponentFolder, settings: SessionSettings) -> None:
        """Open the component.

        Raises:
            ComponentError: it is no ControlNet.
            RuntimeFault: as `Session.open`.
        """
        self._session = open_session(folder, settings, _INTERFACE)
        self.space = latent_space(self._session)
        self.contract = self._session.contract
        self.provider = self._session.provider

    def warm_up(self) -> None:
        """Run it on zeros, as opening it did; what a sound session can always do.

        Raises:
            RuntimeFault: the session could not run.
        """
        self._session.warm_up()

    def residuals(
        self,
        asked: Sequence[Arrays],
        images: Sequence[FloatArray],
        scales: Sequence[float],
        interrupt: Interrupt | None = None,
    ) -> list[Arrays]:
        """What is added within the denoiser for each of several walks, in one run.

        `asked` is what the denoiser is asked, arrays [rows, ...]; all rows of a walk see its picture [1, 3, H, W] of
        RGB in 0..1, and what is added has its scale.

        Raises:
            RuntimeFault: the session could not run, or `interrupt` broke it off.
        """
        taken = {spec.name for spec in self.contract.inputs}
        rows = [len(arrays["latents"]) for arrays in asked]
        parts = [
            {
                **{name: array for name, array in arrays.items() if name in taken},
                "control_image": np.repeat(image, count, axis=0),
                "scale": np.full(count, scale, np.float32),
            }
            for arrays, image, scale, count in zip(asked, images, scales, rows, strict=True)
        ]
        added = self._session.run(joined(parts, rows), interrupt)
        starts = np.cumsum([0, *rows])
        return [
            {name: array[start : start + count] for name, array in added.items()}
            for start, count in zip(starts[:-1], rows, strict=True)
        ]
