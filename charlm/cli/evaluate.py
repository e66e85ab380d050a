"""charlm evaluate: how well a run predicts a text."""

from __future__ import annotations

from charlm.config import EvaluateConfig
from charlm.errors import CharlmError
from charlm.options import parser_of, read

ABOUT = "measure how well a run predicts a text"


def run(arguments: list[str]) -> int:
    """Run the command; its exit status."""
    parser = parser_of(
        "evaluate",
        "How well a run predicts a text, or a part of its own text: bits a character, perplexity.",
        "The whole text is read to its last token with the state carried along.",
    )
    parser.add_argument("run", metavar="RUN", help="the directory of a training")
    parser.add_argument("text", nargs="*", metavar="TEXT", help="files, folders, globs or -")
    config: EvaluateConfig
    named, config = read(parser, EvaluateConfig, arguments)
    path, texts = named["run"], named["text"]
    from charlm.run import Run
    from charlm.views.terminal import Terminal, print_evaluation

    run, terminal = Run(path), Terminal()
    try:
        stream = run.encode(texts, config.encoding) if texts else None
    except CharlmError as error:  # the options of train are the same, in a group
        raise CharlmError(str(error).replace("--data.", "--")) from None
    result = run.evaluate(
        stream,
        split=config.split,
        lanes=config.lanes,
        checkpoint=config.checkpoint,
        device=config.device,
        progress=terminal.progress,
    )
    terminal.close()
    if config.json:
        import json

        print(json.dumps(result.to_dict()))
    else:
        print_evaluation(result)
    return 0
