"""Optimisers and gradient clipping."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from charlm.config import OptimizerConfig
from charlm.errors import CharlmError
from charlm.network.model import LanguageModel


def build_optimizer(model: LanguageModel, config: OptimizerConfig) -> Optimizer:
    """Build the optimiser `config.name` for a model; vectors (biases, gains) get no weight decay.

    Raises:
        CharlmError: there is no such optimiser, or the installed version of torch lacks it.
    """
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    lr, betas = config.lr, (config.beta1, config.beta2)
    match config.name:
        case "adamw":
            return torch.optim.AdamW(groups, lr=lr, betas=betas, fused=True)
        case "adam":
            return torch.optim.Adam(groups, lr=lr, betas=betas, fused=True)
        case "sgd":
            return torch.optim.SGD(groups, lr=lr, momentum=config.momentum, fused=True)
        case "rmsprop":
            return torch.optim.RMSprop(groups, lr=lr, alpha=config.beta2, momentum=config.momentum)
        case "muon":
            return MuonWithAdamW(model, config)
    raise CharlmError(f"there is no optimiser {config.name!r}")


class MuonWithAdamW(Optimizer):
    """Muon (Jordan et al. 2024) on the matrices of the recurrent layers, AdamW on everything else.

    A layer stacks the matrices of its gates in one parameter. Muon orthogonalises the update of a
    matrix, which is only meaningful for the matrix of a single gate. Therefore Muon gets the matrix
    of each gate separately, as a view of the parameter. `param_groups` holds the group of Muon,
    then the groups of AdamW; the learning rate of the first group is used for all groups.
    """

    def __init__(self, model: LanguageModel, config: OptimizerConfig) -> None:
        if not hasattr(torch.optim, "Muon"):
            raise CharlmError("`optimizer.name` muon needs torch 2.9 or newer; use adamw")
        recurrent = [p for p in model.layers.parameters() if p.ndim == 2]
        taken = {id(p) for p in recurrent}
        others = [p for p in model.parameters() if id(p) not in taken]
        hidden = model.config.hidden
        self.sources = recurrent
        self.gates = [[nn.Parameter(gate) for gate in p.data.split(hidden)] for p in recurrent]
        self.adamw = torch.optim.AdamW(
            [
                {"params": [p for p in others if p.ndim >= 2], "weight_decay": config.weight_decay},
                {"params": [p for p in others if p.ndim < 2], "weight_decay": 0.0},
            ],
            lr=config.lr,
            betas=(config.beta1, config.beta2),
            fused=True,
        )
        # "match_rms_adamw" scales the step to the size of AdamW's, so that one learning rate serves both.
        self.muon = torch.optim.Muon(
            [gate for gates in self.gates for gate in gates],
            lr=config.lr,
            weight_decay=config.weight_decay,
            momentum=0.95,
            adjust_lr_fn="match_rms_adamw",
        )
        super().__init__([{"params": recurrent}, *self.adamw.param_groups], {"lr": config.lr})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for source, gates in zip(self.sources, self.gates, strict=True):
            if source.grad is not None:
                hidden = gates[0].shape[0]
                for gate, data, grad in zip(gates, source.data.split(hidden), source.grad.split(hidden), strict=True):
                    gate.data, gate.grad = data, grad
        for group in self.adamw.param_groups + self.muon.param_groups:
            group["lr"] = self.param_groups[0]["lr"]
        self.adamw.step()
        self.muon.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        return {
            "adamw": self.adamw.state_dict(),
            "muon": self.muon.state_dict(),
            "lr": self.param_groups[0]["lr"],
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.adamw.load_state_dict(state_dict["adamw"])
        self.muon.load_state_dict(state_dict["muon"])
        for group in self.param_groups:
            group["lr"] = state_dict["lr"]


def clip_gradients(parameters: Iterable[nn.Parameter], limit: float, algorithm: str) -> torch.Tensor:
    """Clip gradients in place and return their norm before clipping, a scalar tensor.

    Args:
        parameters: The parameters of a network; those without a gradient are ignored.
        limit: Largest norm or value allowed; 0: clip nothing.
        algorithm: "norm" limits the norm of all gradients together (Pascanu, Mikolov, Bengio 2013);
            "value" limits each number to the range from `-limit` to `limit` (as in char-rnn).
    """
    parameters = [p for p in parameters if p.grad is not None]
    norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    if limit > 0 and algorithm == "norm":
        nn.utils.clip_grads_with_norm_(parameters, limit, norm)
    elif limit > 0:
        nn.utils.clip_grad_value_(parameters, limit)
    return norm
