"""charlm samples: what a run wrote while it learnt."""

from __future__ import annotations

from charlm.config import ReelConfig
from charlm.errors import CharlmError
from charlm.options import parser_of, read

ABOUT = "show what a run wrote while it learnt"


def run(arguments: list[str]) -> int:
    """Run the command; its exit status."""
    parser = parser_of("samples", "The texts a run wrote while it learnt, from initialisation to the last epoch.")
    parser.add_argument("run", metavar="RUN", help="the directory of a training")
    config: ReelConfig
    named, config = read(parser, ReelConfig, arguments)
    path = named["run"]
    from charlm.run import Run

    def shown(epoch: float) -> str:  # what headings say, and people type
        return f"{epoch:.4g}"

    everything = Run(path).samples
    samples = [
        sample
        for sample in everything
        if config.prompt in (None, sample.prompt)
        and (config.epoch is None or shown(config.epoch) == shown(sample.epoch))
    ]
    if not samples:
        prompts = ", ".join(sorted({repr(sample.prompt) for sample in everything}))
        epochs = ", ".join(shown(epoch) for epoch in sorted({sample.epoch for sample in everything}))
        have = f"; it has prompts {prompts} at epochs {epochs}" if everything else " yet"
        raise CharlmError(f"{path} has no such samples{have}")
    if config.json:
        import dataclasses
        import json

        for sample in samples:
            print(json.dumps(dataclasses.asdict(sample), ensure_ascii=False))
    else:
        from charlm.views.reel import print_reel, print_side_by_side

        (print_side_by_side if config.side_by_side else print_reel)(samples)
    return 0
