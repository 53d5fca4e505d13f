"""NNI 3.0 on current torch: imported at use, with the two patches that it needs.

NNI (https://github.com/microsoft/nni) has been frozen since 2023, before torch 2.1. Its pruners and quantisers run
unchanged. Its `ModelSpeedup` needs two changes, which `import_speedup` makes:

1. Its tracer wraps every callable of `torch._C.TensorBase` and sorts them by a qualified name that began with
   "_TensorBase" then. Methods are also recognised by their type, but three static constructors are not, and have no
   module to be looked up in ("'NoneType' object has no attribute 'startswith'"). They make tensors of tensors inside
   torch and a net never calls them, so they are removed from the tracer's list.
2. torch.fx now calls `Node.is_impure(impure_random)`; NNI's replacement takes no argument ("node_is_impure_wrapper()
   got an unexpected keyword argument"). It gets one.

NNI's log lines are kept off standard output, where they would mix with the program's own lines.
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
    """NNI's evaluator for a training by plain gradient descent, which its pruners start and observe.

    Args:
        net: the net whose weights are trained.
        training_loop: the loop, called with (net, optimizer, loss, scheduler, steps, epochs).
        loss: called with (batch, net) by the loop.
        lr: learning rate.

    Raises:
        MissingPackageError: nni is not installed.
    """
    nni = _import_nni()
    from nni.compression import TorchEvaluator

    return TorchEvaluator(training_loop, nni.trace(torch.optim.SGD)(net.parameters(), lr=lr), loss)


def import_speedup() -> Any:
    """The class nni.compression.speedup.ModelSpeedup, patched as the module docstring describes.

    Raises:
        MissingPackageError: nni is not installed.
    """
    _import_nni()
    from nni.common.concrete_trace_utils import concrete_tracer

    _patch_tracer(concrete_tracer)
    with warnings.catch_warnings():  # NNI registers torch.fx's list and dict types, which torch now does itself
        warnings.filterwarnings("ignore", message=r".*_register_pytree_node", category=FutureWarning)
        warnings.filterwarnings("ignore", message=".*is already registered as pytree node", category=UserWarning)
        from nni.compression.speedup import ModelSpeedup

    return ModelSpeedup


@contextmanager
def suppress_deprecation_warnings() -> Iterator[None]:
    """Context manager that hides the `saved_variables` deprecation, which NNI raises in each backward pass."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*saved_variables.*", category=DeprecationWarning)
        yield


def require_nni() -> None:
    """Check that nni is installed, without importing it, which takes seconds.

    Raises:
        MissingPackageError: it is not installed, or not version 3.
    """
    try:
        installed = version("nni")
    except PackageNotFoundError:
        raise MissingPackageError(f"this needs NNI 3.0, which is not installed; type: {INSTALL_COMMAND}") from None
    if not installed.startswith("3."):
        raise MissingPackageError(f"this needs NNI 3.0, but got {installed}; type: {INSTALL_COMMAND}")


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
