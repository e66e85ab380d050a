"""CudaGraph: graphs by shape, taken only where they work; on a GPU, equal to the module."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from charlm.config import ModelConfig
from charlm.network.cells import cells
from charlm.network.cuda_graph import CudaGraph, can_capture
from charlm.network.layer import Layer


class Doubling(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, inputs: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        self.calls += 1
        return 2 * inputs, state + 1


def test_each_shape_is_captured_once() -> None:
    captures: list[tuple[int, ...]] = []

    def capture(module: nn.Module, examples: tuple[Tensor, ...], **options: Any) -> nn.Module:
        captures.append(tuple(examples[0].shape))
        return module

    graph = CudaGraph(Doubling(), capture=capture)
    for time in (3, 5, 3, 5, 3):
        outputs, state = graph(torch.ones(time, 2), torch.zeros(2))
        assert torch.equal(outputs, torch.full((time, 2), 2.0))
        assert torch.equal(state, torch.ones(2))
    assert captures == [(3, 2), (5, 2)]
    assert graph.captured == 2


def test_the_module_is_called_where_it_cannot_be_captured() -> None:
    def capture(*_: Any, **__: Any) -> Any:
        raise RuntimeError("operation not permitted when stream is capturing")

    graph = CudaGraph(Doubling(), capture=capture)
    with pytest.warns(UserWarning, match="no CUDA graph is used.* not permitted"):
        outputs, _ = graph(torch.ones(3, 2), torch.zeros(2))
    assert torch.equal(outputs, torch.full((3, 2), 2.0))


def test_a_graph_that_gives_other_numbers_is_not_used() -> None:
    def tripling(*_: Any, **__: Any) -> Any:
        return lambda inputs, state: (3 * inputs, state + 1)

    graph = CudaGraph(Doubling(), capture=tripling)
    with pytest.warns(UserWarning, match="no CUDA graph is used.* other numbers"):
        outputs, _ = graph(torch.ones(3, 2), torch.zeros(2))
    assert torch.equal(outputs, torch.full((3, 2), 2.0))
    graph = CudaGraph(Doubling(), random=True, capture=tripling)  # other numbers are expected
    outputs, _ = graph(torch.ones(3, 2), torch.zeros(2))
    assert torch.equal(outputs, torch.full((3, 2), 3.0))


def test_nothing_is_captured_on_a_cpu() -> None:
    assert not can_capture(torch.ones(1))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", cells)
def test_a_graph_gives_the_results_of_the_module_on_a_gpu(name: str) -> None:
    torch.manual_seed(1)
    layer = Layer(cells[name](), 32, ModelConfig(name, hidden=32)).cuda()
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.3)
    layer.stepped = True
    for seed in (1, 2, 3):  # replays, not only the capture
        torch.manual_seed(seed)
        inputs, state = torch.randn(4, 9, 32).cuda(), torch.randn(layer.cell.states, 4, 32).cuda()
        results = []
        for training in (True, False):  # the graph, the steps themselves
            layer.train(training)
            layer.zero_grad()
            outputs, new = layer(inputs, state)
            (outputs.sin().sum() + new.sum()).backward()
            results.append(
                [outputs.clone(), new.clone(), *(p.grad.clone() for p in layer.parameters() if p.grad is not None)]
            )
        for a, b in zip(*results, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
    assert layer.cuda_graph is not None
    assert layer.cuda_graph.captured == 1
