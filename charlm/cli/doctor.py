"""charlm doctor: what to know about a text before training on it, and what to start with."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from charlm.cli.options import Options, Texts, read
from charlm.config import DataConfig
from charlm.config.fields import setting


@dataclass(frozen=True)
class DoctorOptions:
    """The options of `charlm doctor`: the text to examine, and the device of the later training."""

    device: Literal["auto", "cpu", "cuda"] = setting("auto", "where you will train (auto: cuda if it is there)")
    json: bool = setting(False, "print JSON")
    data: DataConfig = field(default_factory=DataConfig)


def doctor(
    *text: Annotated[Texts, Parameter(help="files, folders, globs or -; none: the built-in corpus")],
    options: Options[DoctorOptions] = None,
) -> None:
    """Examine a text before training: encoding, rare characters, copies, drift, and settings to start with.

    Copies are passages that occur more than once; drift is a change of the text from its beginning
    to its end. The text is read and split as `charlm train` does with the same options. Nothing is
    trained and nothing is written.
    """
    config = read(DoctorOptions, options)
    from charlm.evaluation.diagnosis import diagnose
    from charlm.views.diagnosis import print_diagnosis
    from charlm.views.terminal import Terminal

    data = replace(config.data, text=text) if text else config.data
    gpu = config.device == "cuda" or config.device == "auto" and any(Path("/proc/driver/nvidia/gpus").glob("*"))
    terminal = Terminal()
    try:
        diagnosis = diagnose(data, gpu=gpu, progress=terminal.progress)
    finally:
        terminal.close()
    if config.json:
        import json

        print(json.dumps(diagnosis.to_dict(), ensure_ascii=False))
    else:
        print_diagnosis(diagnosis)
