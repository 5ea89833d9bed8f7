"""The optimisation loop that the VAE and the denoiser share: resumable, averaged, logged."""

import copy
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import mlflow
import torch
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.resnet import ResnetBlock2D
from PIL import Image
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor, nn

from training.settings import LoopSettings, Settings


class Task(Protocol):
    """What is trained: a module, its loss, and a picture of how well it does."""

    name: str
    module: nn.Module

    def losses(self, generator: torch.Generator, batch: int) -> Mapping[str, Tensor]:
        """Draw a batch and compute its losses; `loss` is the one to minimise, the others are logged."""

    def sample(self, averaged: nn.Module) -> Image.Image:
        """A grid of pictures made with the averaged weights."""


@dataclass(frozen=True)
class History:
    """What training weights have behind them: samples, hours of steps alone, and the id of the last run in MLflow."""

    samples: int
    hours: float
    run: str | None = None


_NO_HISTORY = History(0, 0.0)


class Loop:
    """Trains a task for a number of steps and can go on where an earlier process stopped.

    The state (weights, averaged weights, optimiser, step) is written to `folder`/state.pt. The batch of a step is a
    function of the seed and the step alone, so that a resumed run sees what an uninterrupted one would have seen.
    `before` is what the weights that it begins with have behind them.
    """

    def __init__(self, task: Task, settings: LoopSettings, folder: Path, before: History = _NO_HISTORY) -> None:
        self._task, self._settings = task, settings
        self._state_file = state_file(folder)
        self._samples = folder / "samples"
        self.averaged = copy.deepcopy(task.module).requires_grad_(False).eval()
        if settings.compile:
            compile_blocks(task.module)
        self._optimiser = torch.optim.AdamW(
            _groups(task.module, settings.weight_decay), lr=settings.learning_rate, betas=settings.betas
        )
        self._step = 0
        self._seconds = 0.0
        self._before = before
        self._run_id: str | None = None
        if self._state_file.exists():
            self._load()

    @property
    def history(self) -> History:
        """What the averaged weights have seen so far."""
        own = History(self._step * self._settings.batch, self._seconds / 3600)
        return History(own.samples + self._before.samples, own.hours + self._before.hours, self._run_id)

    def run(self, record: Settings, keep: Callable[[], None] = lambda: None) -> None:
        """Train up to the settings' number of steps, logging to MLflow under the task's name.

        `keep` is called whenever samples were drawn, and at the end.
        """
        self._samples.mkdir(parents=True, exist_ok=True)
        mlflow.set_experiment("training")
        with mlflow.start_run(run_id=self._run_id, run_name=self._task.name) as run, _progress() as progress:
            if self._run_id is None:
                mlflow.log_params(_flat(record.model_dump()))
                self._run_id = run.info.run_id
            bar = progress.add_task(self._task.name, total=self._settings.steps, completed=self._step, loss=math.nan)
            while self._step < self._settings.steps:
                losses = self._advance()
                if self._step % self._settings.log_every == 0:
                    values = {name: float(value) for name, value in losses.items()}
                    mlflow.log_metrics({**values, "learning_rate": self._rate()}, step=self._step)
                    progress.update(bar, completed=self._step, loss=values["loss"])
                if self._step % self._settings.sample_every == 0:
                    self._sample()
                    keep()
                if self._step % self._settings.save_every == 0 or self._step == self._settings.steps:
                    self._save()
        keep()

    def _advance(self) -> Mapping[str, Tensor]:
        settings, begun = self._settings, time.perf_counter()
        generator = torch.Generator().manual_seed(settings.seed * 1_000_000_007 + self._step)
        for group in self._optimiser.param_groups:
            group["lr"] = self._rate()
        losses = self._task.losses(generator, settings.batch)
        if not torch.isfinite(losses["loss"]):
            raise ArithmeticError(f"{self._task.name}: the loss of step {self._step} is {float(losses['loss'])}")
        self._optimiser.zero_grad(set_to_none=True)
        losses["loss"].backward()
        nn.utils.clip_grad_norm_(self._task.module.parameters(), settings.gradient_clip)
        self._optimiser.step()
        self._step += 1
        self._average()
        self._seconds += time.perf_counter() - begun
        return {name: value.detach() for name, value in losses.items()}

    def _rate(self) -> float:
        settings = self._settings
        rise = (self._step + 1) / max(1, settings.warmup)
        left = (settings.steps - self._step) / max(1, settings.cooldown)
        fall = settings.final_fraction + (1 - settings.final_fraction) * left
        return settings.learning_rate * min(1.0, rise, fall)

    @torch.no_grad()
    def _average(self) -> None:
        # A young average forgets faster, so that it is never mostly the random start.
        decay = min(self._settings.ema, (1 + self._step) / (10 + self._step))
        for mean, new in zip(self.averaged.parameters(), self._task.module.parameters(), strict=True):
            mean.lerp_(new, 1 - decay)

    def _sample(self) -> None:
        image = self._task.sample(self.averaged)
        image.save(self._samples / f"{self._task.name}-{self._step:07d}.png")
        mlflow.log_image(image, f"samples/{self._step:07d}.png")

    def _save(self) -> None:
        partial = self._state_file.with_suffix(".partial")
        state = {
            "module": self._task.module.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "step": self._step,
            "seconds": self._seconds,
            "before": asdict(self._before),
            "run_id": self._run_id,
        }
        torch.save(state, partial)
        partial.replace(self._state_file)

    def _load(self) -> None:
        state = torch.load(self._state_file, weights_only=True)
        self._task.module.load_state_dict(state["module"])
        self.averaged.load_state_dict(state["averaged"])
        self._optimiser.load_state_dict(state["optimiser"])
        self._step, self._seconds, self._run_id = state["step"], state["seconds"], state["run_id"]
        self._before = History(**state["before"])


def state_file(folder: Path) -> Path:
    """Where a loop keeps its state in its folder."""
    return folder / "state.pt"


def compile_blocks(module: nn.Module) -> None:
    """Compile the residual and attention blocks of a network in place; its weights keep their names.

    Block by block, because the backward pass of a whole compiled VAE or U-Net is wrong here: torch 2.13 on the CPU
    gives gradients of zero to everything that lies before a nearest-neighbour upsampling.
    """
    torch._dynamo.config.recompile_limit = 64  # one compilation for each shape of block
    for block in module.modules():
        if isinstance(block, (ResnetBlock2D, BasicTransformerBlock)):
            block.compile()


def _groups(module: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Decay matrices and kernels only, not biases, norms or embeddings of one dimension."""
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    return [
        {"params": [parameter for parameter in parameters if parameter.ndim > 1], "weight_decay": weight_decay},
        {"params": [parameter for parameter in parameters if parameter.ndim <= 1], "weight_decay": 0.0},
    ]


def _flat(values: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for name, value in values.items():
        flat.update(_flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value})
    return flat


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.4f}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        refresh_per_second=0.2,
    )
