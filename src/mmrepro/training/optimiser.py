"""Adam by PyTorch's own function.

`torch.optim.Adam` is a class around that function; making one imports PyTorch's compiler, which costs every run two
seconds and is used for nothing here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.optim.adam import adam


class Adam:
    """Adam with L2 added to the gradient (Kingma and Ba, 2015), betas 0.9 and 0.999, epsilon 1e-8.

    A parameter without a gradient in a step is left alone, and so are its moments.

    Parameters
    ----------
    parameters
        Those that need a gradient are trained; their order must stay the same when a state is loaded.
    learning_rate
        Above 0; may be changed between steps.
    weight_decay
        At least 0.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], learning_rate: float, weight_decay: float) -> None:
        self.parameters = [p for p in parameters if p.requires_grad]
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        self.fused = all(p.device.type != "mps" for p in self.parameters)
        self.moments: dict[int, list[torch.Tensor]] = {}

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Move every parameter that has a gradient."""
        used = [(number, p) for number, p in enumerate(self.parameters) if p.grad is not None]
        for number, parameter in used:
            if number not in self.moments:
                count = torch.zeros((), dtype=torch.float32, device=parameter.device if self.fused else "cpu")
                self.moments[number] = [torch.zeros_like(parameter), torch.zeros_like(parameter), count]
        moments = [self.moments[number] for number, _ in used]
        adam(
            [p for _, p in used], [p.grad for _, p in used if p.grad is not None],
            [m[0] for m in moments], [m[1] for m in moments], [], [m[2] for m in moments],
            foreach=False, fused=self.fused, amsgrad=False, maximize=False, beta1=0.9, beta2=0.999,
            lr=self.learning_rate, weight_decay=self.weight_decay, eps=1e-8,
        )  # fmt: skip

    def state_dict(self) -> dict[int, list[torch.Tensor]]:
        """Return both moments and the number of steps of each parameter moved so far, by its number."""
        return self.moments

    def load_state_dict(self, state: dict[int, list[Any]]) -> None:
        """Go on from a state that `state_dict` returned."""
        devices = [p.device for p in self.parameters]
        self.moments = {
            number: [tensor.to(devices[number]) for tensor in values[:2]]
            + [values[2].to(devices[number] if self.fused else "cpu")]
            for number, values in state.items()
        }
