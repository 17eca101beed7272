"""An accelerator that is not there: tells tensors that were moved to it from those left on the host."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

READS_HOST = (Tensor.numpy, Tensor.__array__)


class NotMoved(AssertionError):
    """A kernel was given tensors of both memories; a GPU would refuse."""


class Accelerator:
    """Within it, whatever is computed from moved tensors, or made with `device=`, counts as moved.

    A kernel that mixes both memories raises `NotMoved`; scalars may come from the host, as on a GPU.
    """

    def __init__(self) -> None:
        self.memory: dict[int, Tensor] = {}  # holds the tensors, so that no address comes twice
        self.modes = (_Requests(self), _Kernels(self))

    def __enter__(self) -> "Accelerator":
        for mode in self.modes:
            mode.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        for mode in reversed(self.modes):
            mode.__exit__(*error)

    def move(self, module: nn.Module) -> None:
        """Do what `module.to(device)` does."""
        module._apply(lambda part: self.keep(part.detach().clone()))
        for parameter in module.parameters():
            self.keep(parameter)

    def keep(self, tensor: Tensor) -> Tensor:
        self.memory[_address(tensor)] = tensor
        return tensor

    def release(self, tensor: Tensor) -> Tensor:
        self.memory.pop(_address(tensor), None)
        return tensor

    def holds(self, tensor: Tensor) -> bool:
        return _address(tensor) in self.memory


def _address(tensor: Tensor) -> int:
    dense = tensor.values() if tensor.layout == torch.sparse_csr else tensor
    return dense.untyped_storage().data_ptr()


def _tensors(values: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor) and leaf.numel()]


class _Requests(TorchFunctionMode):
    """What is asked for by name: a device, or memory that numpy can read."""

    def __init__(self, accelerator: Accelerator) -> None:
        super().__init__()
        self.accelerator = accelerator

    def __torch_function__(self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if function in READS_HOST and self.accelerator.holds(args[0]):
            raise NotMoved(f"{function.__name__} of a tensor that is not on the host")
        result = function(*args, **kwargs)
        if function is Tensor.cpu:
            return self.accelerator.release(result.clone())
        named = any(isinstance(value, torch.device) for value in (*args, *kwargs.values()))
        like = function is Tensor.to and any(self.accelerator.holds(x) for x in args[1:] if isinstance(x, Tensor))
        return self.accelerator.keep(result.clone()) if (named or like) and isinstance(result, Tensor) else result


class _Kernels(TorchDispatchMode):
    """Every kernel, also inside autograd and its backward pass."""

    def __init__(self, accelerator: Accelerator) -> None:
        super().__init__()
        self.accelerator = accelerator

    def __torch_dispatch__(self, kernel: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if kernel is torch.ops.aten.copy_.default:  # between memories; the target stays where it is
            return kernel(*args, **(kwargs or {}))
        given = _tensors((args, kwargs or {}))
        moved = [self.accelerator.holds(tensor) for tensor in given]
        if any(moved) and not all(there or tensor.dim() == 0 for there, tensor in zip(moved, given, strict=True)):
            left = [tuple(tensor.shape) for there, tensor in zip(moved, given, strict=True) if not there]
            raise NotMoved(f"{kernel}: {left} stayed on the host")
        result = kernel(*args, **(kwargs or {}))
        if any(moved):
            for tensor in _tensors(result):
                self.accelerator.keep(tensor)
        return result
