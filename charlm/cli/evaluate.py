"""charlm evaluate: how well a run predicts a text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from cyclopts import Parameter

from charlm.cli.options import Options, Texts, read
from charlm.cli.protocol import ProtocolOptions
from charlm.config.fields import PositiveInteger, setting


@dataclass(frozen=True)
class EvaluateOptions(ProtocolOptions):
    """The options of `charlm evaluate`: the text, how it is read, and the form of the output."""

    split: Literal["train", "val", "test"] = setting("val", "which split of the run's own text, if no text is named")
    lanes: PositiveInteger = setting(
        32, "places of the text that are read side by side, for speed; the result is the same"
    )
    baselines: bool = setting(False, "compare with n-gram models and compressors that have read the training split")
    json: bool = setting(False, "print JSON")


def evaluate(
    run: Annotated[str, Parameter(help="the directory of a training")],
    /,
    *text: Annotated[Texts, Parameter(help="files, folders, globs or -")],
    options: Options[EvaluateOptions] = None,
) -> None:
    """Measure how well a run predicts a text, or a split of its own: bits per character, perplexity.

    By default the state is carried from the first token to the last. If the run was trained on
    separate lines or documents, each of them starts from the zero state.
    """
    config = read(EvaluateOptions, options)
    from charlm.evaluation.baselines import describe_training
    from charlm.run import Run
    from charlm.views.terminal import Terminal, print_baselines, print_evaluation

    protocol, loaded, terminal = config.chosen(), Run(run), Terminal()
    stream = None
    if text:
        from charlm.text.store import encode_files

        data = loaded.config.data
        stream = encode_files(
            loaded.tokenizer,
            text,
            encoding=config.encoding,
            newlines=data.newlines,
            column=config.column,
            unit=data.unit,
        )
    result = loaded.evaluate(
        stream,
        split=config.split,
        protocol=protocol,
        lanes=config.lanes,
        checkpoint=config.checkpoint,
        device=config.device,
        progress=terminal.progress,
    )
    baselines = None
    if config.baselines:
        baselines = loaded.baselines(stream, split=config.split, progress=terminal.progress)
    terminal.close()
    if config.json:
        import json

        values: dict[str, object] = dict(result.to_dict())
        if baselines is not None:
            values["baselines_have_read"] = describe_training(loaded.directory.stream("train"))
            values["baselines"] = {name: baseline.to_dict() for name, baseline in baselines.items()}
        print(json.dumps(values))
        return
    print_evaluation(result, len(loaded.tokenizer), items=loaded.config.data.unit != "stream")
    if result.protocol.tuned_on and not text and config.split == "val":
        print("the same split was tuned on, so this result is a little too good")
    if baselines is not None:
        print_baselines(result, baselines, describe_training(loaded.directory.stream("train")))
