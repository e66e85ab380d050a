"""Checkpoints of Lightning, written atomically and read without executing code in the file."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins import TorchCheckpointIO

from charlm.errors import CharlmError
from charlm.files import atomic
from charlm.manifest import Manifest

OURS = "charlm"
"""Key of a Lightning checkpoint under which `LanguageModule` stores what Lightning does not."""


class SafeCheckpointIO(TorchCheckpointIO):
    """The plugin by which Lightning writes checkpoints atomically and reads them safely.

    Reading never executes code in the file.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        data = io.BytesIO()  # torch.save to a file hides why it cannot be written
        torch.save(checkpoint, data)
        run = Manifest(Path(path).parent.parent)
        name = f"{Path(path).parent.name}/{Path(path).name}"
        with run.writing(name, "wb") if run.exists() else atomic(path, "wb") as file:
            file.write(data.getbuffer())

    def load_checkpoint(self, path: Any, map_location: Any = "cpu", weights_only: bool | None = True) -> Any:
        return load_checkpoint(path)


def load_checkpoint(path: Any) -> dict[str, Any]:
    """Read a checkpoint onto the CPU without executing code in the file, and check its numbers.

    Raises:
        CharlmError: the file is missing or damaged, or is not a checkpoint of a run.
    """
    try:
        checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        missing = {"state_dict", "global_step", OURS} - checkpoint.keys()
        if missing:
            raise ValueError(f"it has no {', '.join(sorted(missing))}")
        for name in checkpoint.keys() - {"callbacks"}:  # the callbacks of a user may store anything
            # Settings of an optimiser may be negative: a coefficient of Muon is.
            _check_numbers(checkpoint[name], name, -math.inf if name == "optimizer_states" else 0)
    except Exception as error:  # a damaged file can make the reader raise anything
        # The rest of torch's message explains how to load the file so that code in it is executed.
        line = str(error).strip().split(". ")[0].splitlines()[0] if str(error).strip() else type(error).__name__
        raise CharlmError(
            f"the checkpoint {path} is damaged ({line}); start a new run from the weights with `init_from`"
        ) from None
    return checkpoint


def _check_numbers(value: Any, name: str, least: float) -> None:
    """Raise ValueError if a part of a checkpoint has a number that no training saves.

    No number in a tensor may be infinite or NaN. Every other number must be finite and at
    least `least`.

    Args:
        value: The part: a number, a tensor, or a dictionary, list or tuple of these, nested to any
            depth. Values of other types are ignored.
        name: Name of the part, for the message.
        least: The lowest number allowed outside tensors.
    """
    if isinstance(value, dict):
        for key, inner in value.items():
            _check_numbers(inner, f"{name}.{key}", least)
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            _check_numbers(inner, f"{name}.{number}", least)
    elif isinstance(value, torch.Tensor):
        if not torch.isfinite(value).all():
            raise ValueError(f"{name} has numbers that are not finite")
    elif isinstance(value, int | float) and not (least <= value and math.isfinite(value)):
        raise ValueError(f"{name} is {value:g}")
