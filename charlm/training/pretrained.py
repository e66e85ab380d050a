"""The start of a run from the weights of another run: shared settings, and copying the weights."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

from charlm.config import Config, ModelConfig
from charlm.config.plain import merge
from charlm.errors import CharlmError
from charlm.run_directory import RunDirectory

if TYPE_CHECKING:
    from charlm.network.model import LanguageModel

TOKENIZER_SETTINGS = ("kind", "lowercase")
"""Settings of the tokenizer that a run shares with the run that it starts from."""


def inherit(values: dict[str, Any]) -> dict[str, Any]:
    """Return settings, with missing ones filled in from the run that the setting `init_from` names.

    Only settings of the network and the tokenizer and the direction are filled in.

    Args:
        values: Nested settings, which win over those of the other run. Without `init_from` they are
            returned unchanged.

    Raises:
        CharlmError: there is no such run, or its settings are damaged.
    """
    if not values.get("init_from"):
        return values
    theirs = RunDirectory(str(values["init_from"])).config.to_dict()
    tokenizer = {name: theirs["tokenizer"][name] for name in TOKENIZER_SETTINGS}
    model = {name: value for name, value in values.get("model", {}).items() if value is not None}
    data = {"direction": theirs["data"]["direction"]}
    return merge({"data": data, "model": theirs["model"], "tokenizer": tokenizer}, {**values, "model": model})


def check_fits(config: Config, source: RunDirectory) -> None:
    """Raise CharlmError if a setting does not fit the trained weights or the tokens of another run.

    Args:
        config: Settings of the new run.
        source: The run from whose weights the new run starts.
    """
    theirs = source.config
    for definition in fields(ModelConfig):
        name, role = definition.name, definition.metadata["role"]
        ours, wanted = getattr(config.model, name), getattr(source.model_config, name)
        if ours == wanted or role == "regularises":
            continue
        if role == "starts weights":
            raise CharlmError(
                f"`model.{name}` sets how weights start, and those of {source.path} are trained; leave it out"
            )
        raise CharlmError(
            f"`model.{name}` {ours} does not fit {source.path}, whose weights have {wanted}; leave it out"
        )
    if config.data.direction != theirs.data.direction:
        raise CharlmError(
            f"`data.direction` {config.data.direction} does not fit {source.path}, which is trained "
            f"{theirs.data.direction}; leave it out"
        )
    for name in TOKENIZER_SETTINGS:
        ours, wanted = getattr(config.tokenizer, name), getattr(theirs.tokenizer, name)
        if ours != wanted:
            raise CharlmError(
                f"`tokenizer.{name}` {ours} does not fit {source.path}, whose tokens have {wanted}; leave it out"
            )


def load_pretrained(model: LanguageModel, directory: RunDirectory, source: RunDirectory) -> None:
    """Copy the best weights of a trained run into the network of a new run.

    Of the embedding and the output layer, only the rows of tokens in both vocabularies are copied.

    Args:
        model: The new network.
        directory: The new run.
        source: The trained run.

    Raises:
        CharlmError: the weights of the trained run are missing or damaged, or one of them does not
            fit the new network.
    """
    import torch

    old = {name: torch.from_numpy(value) for name, value in source.read_weights("best").items()}
    known = {token: number for number, token in enumerate(source.tokenizer.tokens)}
    pairs = [(new, known[token]) for new, token in enumerate(directory.tokenizer.tokens) if token in known]
    to, from_ = torch.tensor(pairs, dtype=torch.long).view(-1, 2).T
    with torch.no_grad():
        for name, weight in model.state_dict().items():
            by_token = name.startswith(("embedding.", "output."))  # one row for each token
            if name not in old or old[name].shape[by_token:] != weight.shape[by_token:]:
                have = "x".join(map(str, old[name].shape)) if name in old else "missing"
                raise CharlmError(
                    f"the weights of {source.path} do not fit the new network: {name} is {have} there and "
                    f"{'x'.join(map(str, weight.shape))} here; start from another run"
                )
            if by_token:
                weight[to] = old[name][from_]
            else:
                weight.copy_(old[name])
