"""NNI 3.0 on current torch: imported at use, with what it needs to run.

NNI (https://github.com/microsoft/nni) stopped in 2023, before torch 2.1. Its pruners and quantisers run unchanged; its
`ModelSpeedup` needs two changes, made here when it is asked for:

1. Its tracer wraps every callable of `torch._C.TensorBase` and sorts them by a qualified name that began with
   "_TensorBase" then. Methods are also recognised by their type, but three static constructors are not, and have no
   module to be looked up in ("'NoneType' object has no attribute 'startswith'"). They make tensors of tensors within
   torch and are never called by a net: they leave the tracer's list.
2. torch.fx now asks `Node.is_impure(impure_random)`; NNI's stand-in takes no argument ("node_is_impure_wrapper() got an
   unexpected keyword argument"). It gets one.

Its log lines leave standard output, where they would stand between ours.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import wraps
from importlib.metadata import PackageNotFoundError, version
from types import MethodDescriptorType
from typing import Any

import torch
from torch import nn

from nas.errors import MissingPackageError

INSTALL_COMMAND = "pip install 'fer-nas[nni]'"


def import_pruning() -> Any:
    """The package nni.compression.pruning.

    Raises:
        MissingPackageError: nni is not installed.
    """
    _import_nni()
    import nni.compression.pruning as package

    return package


def import_quantization(*activation_types: type) -> Any:
    """The package nni.compression.quantization.

    Args:
        activation_types: further classes of modules without weights whose outputs it shall quantise.

    Raises:
        MissingPackageError: nni is not installed.
    """
    _import_nni()
    import nni.compression.quantization as package
    from nni.compression.base.setting import QuantizationSetting

    for kind in activation_types:
        QuantizationSetting.register(kind.__name__, QuantizationSetting.activation_setting)
    return package


def make_evaluator(net: nn.Module, training_loop: Any, loss: Any, *, lr: float) -> Any:
    """NNI's handle on a training by plain gradient descent, which its pruners start and watch.

    Args:
        net: whose weights learn.
        training_loop: called with (net, optimizer, loss, scheduler, steps, epochs); the loop.
        loss: called with (batch, net) by the loop.
        lr: of learning.

    Raises:
        MissingPackageError: nni is not installed.
    """
    nni = _import_nni()
    from nni.compression import TorchEvaluator

    return TorchEvaluator(training_loop, nni.trace(torch.optim.SGD)(net.parameters(), lr=lr), loss)


def import_speedup() -> Any:
    """The class nni.compression.speedup.ModelSpeedup, patched as the head of this file says.

    Raises:
        MissingPackageError: nni is not installed.
    """
    _import_nni()
    from nni.common.concrete_trace_utils import concrete_tracer

    _patch_tracer(concrete_tracer)
    with warnings.catch_warnings():  # it registers torch.fx's lists and dictionaries, which torch has done by now
        warnings.filterwarnings("ignore", message=r".*_register_pytree_node", category=FutureWarning)
        warnings.filterwarnings("ignore", message=".*is already registered as pytree node", category=UserWarning)
        from nni.compression.speedup import ModelSpeedup

    return ModelSpeedup


@contextmanager
def suppress_deprecation_warnings() -> Iterator[None]:
    """Without the deprecation that each backward pass of NNI's roundings tells of: `saved_variables`."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*saved_variables.*", category=DeprecationWarning)
        yield


def require_nni() -> None:
    """Look whether nni is installed, without importing it, which takes seconds.

    Raises:
        MissingPackageError: it is not, or is not of version 3.
    """
    try:
        found = version("nni")
    except PackageNotFoundError:
        raise MissingPackageError(f"this needs NNI 3.0, which is not installed; type: {INSTALL_COMMAND}") from None
    if not found.startswith("3."):
        raise MissingPackageError(f"this needs NNI 3.0, but got {found}; type: {INSTALL_COMMAND}")


def _import_nni() -> Any:
    require_nni()
    import nni

    nni.silence_stdout()
    return nni


def _patch_tracer(tracer: Any) -> None:
    if hasattr(tracer.node_is_impure_wrapper, "patched"):
        return
    wrapped = tracer.ConcreteTracer.default_autowrap_leaf_function
    for function in [f for f in wrapped if _is_static_constructor(f)]:
        del wrapped[function]
    without_argument = tracer.node_is_impure_wrapper

    @wraps(without_argument)
    def is_impure(node: Any, impure_random: bool = True) -> Any:
        return without_argument(node)

    is_impure.patched = True  # type: ignore[attr-defined]
    tracer.node_is_impure_wrapper = is_impure


def _is_static_constructor(function: Any) -> bool:
    return (
        getattr(function, "__module__", None) is None
        and getattr(function, "__qualname__", "").startswith("TensorBase.")
        and not isinstance(function, MethodDescriptorType)
    )
