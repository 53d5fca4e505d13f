"""Source of a model: the word after `--model`, with options after a colon, and the net that it names.

    resnet18                          a published net of `nas.models.zoo`, in its small form
    resnet18:width=64                 the same in its published form
    timm:resnet18:in_chans=1          a net of timm, built by `timm.create_model`
    torchvision:shufflenet_v2_x0_5    a net of torchvision
    package.module:function:width=32  a function that returns a net
    runs/NAME:19                      a candidate of a run, by its trial or key, see `nas.models.run_candidate`

timm and torchvision are optional. Of torchvision only the builders are needed, so they are used even where its compiled
operators do not fit the installed torch, as `pip install torchvision --no-deps` beside a CPU build of torch gives.
"""

import ast
import inspect
import logging
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from nas import registry
from nas.errors import ConfigError, MissingPackageError, one_line
from nas.models.run_candidate import build_candidate, is_run
from nas.onnx_export.tensor_caches import caches_left_alone, clear_caches

logger = logging.getLogger(__name__)

TIMM, TORCHVISION, ZOO, FACTORY, RUN = "timm", "torchvision", "zoo", "factory", "run"
_INSTALL = {
    TIMM: "pip install --no-deps timm torchvision && pip install huggingface_hub safetensors pyyaml",
    TORCHVISION: "pip install --no-deps torchvision",
}
"""Without --no-deps pip replaces a CPU build of torch by one for CUDA."""
_SIZE_OPTIONS = {TIMM: "img_size", TORCHVISION: "image_size"}
"""Options of nets that are built for images of one size."""
_OPERATOR_SCHEMAS = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}
"""Operators of torchvision whose shapes it registers on import, whether or not its compiled part is there."""
_WRAPPERS: tuple[tuple[type[nn.Module], str], ...] = (
    (nn.DataParallel, "module"),
    (nn.parallel.DistributedDataParallel, "module"),
    (torch.optim.swa_utils.AveragedModel, "module"),
)


@dataclass(frozen=True)
class ModelSource:
    """The parts of a model's word.

    Attributes:
        origin: zoo, timm, torchvision, factory or run.
        name: of the net; "package.module:function" for a factory, "RUN:TRIAL" for a candidate of a run.
        options: keyword arguments for its builder.
    """

    origin: str
    name: str
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def word(self) -> str:
        """The word without its options."""
        return f"{self.origin}:{self.name}" if self.origin in (TIMM, TORCHVISION) else self.name


def parse_model(word: str) -> ModelSource:
    """The parts of the word after `--model`.

    Raises:
        ConfigError: an option has no value or is given twice, a library is named without a net, or a folder is no run.

    Examples:
        >>> parse_model("timm:resnet18:in_chans=1,drop_rate=0.1")
        ModelSource(origin='timm', name='resnet18', options={'in_chans': 1, 'drop_rate': 0.1})
        >>> parse_model("resnet18:width=64").options
        {'width': 64}
        >>> parse_model("mypkg.models:build").origin
        'factory'
    """
    first, _, rest = word.partition(":")
    if first in (TIMM, TORCHVISION):
        name, _, options = rest.partition(":")
        if not name:
            raise ConfigError(f"a model of {first} must be {first}:NAME, but got {word!r}; try {first}:resnet18")
        return ModelSource(first, name, _parse_options(options, word))
    if first not in registry.names("model") and is_run(word):
        return ModelSource(RUN, word)
    if ":" not in word or first in registry.names("model"):
        return ModelSource(ZOO, first, _parse_options(rest, word))
    if "/" in first and not first.endswith(".py"):
        raise ConfigError(
            f"a model {word!r} must be a candidate of a run, but {first} is no run folder (it holds no config.toml); "
            "give RUN:TRIAL, a published network, package.module:function or file.py:function"
        )
    function, _, options = rest.partition(":")
    return ModelSource(FACTORY, f"{first}:{function}", _parse_options(options, word))


def _parse_options(text: str, word: str) -> dict[str, Any]:
    """NAME=VALUE, separated by commas outside of brackets; values are Python literals, or else words."""
    options: dict[str, Any] = {}
    for item in re.split(r",(?![^(\[{]*[)\]}])", text) if text else ():
        name, equals, value = (part.strip() for part in item.partition("="))
        if not (equals and name.isidentifier() and value):
            raise ConfigError(f"options of a model must be NAME=VALUE,NAME=VALUE, but {word!r} has {item!r}")
        if name in options:
            raise ConfigError(f"an option of a model must be given once, but {word!r} has {name!r} twice")
        options[name] = _literal(value)
    return options


def _literal(value: str) -> Any:
    if value.lower() in ("true", "false"):
        return value.lower() == "true"
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return value


def make_model(word: str, *, input_shape: tuple[int, int, int], classes: int) -> nn.Module:
    """The net that a word names, in eval mode, in float32 on the CPU.

    Wrappers such as DataParallel are taken off, and lazy layers get their sizes from images of `input_shape`. Nets of
    timm and torchvision keep their three input channels unless an option says otherwise; one that is built for another
    image size is built for this one where it has an option for that, which is logged.

    Args:
        word: see `parse_model`.
        input_shape: (C, H, W) of the images that reach the net.
        classes: number of logits.

    Raises:
        UnknownMemberError: the zoo has no such net.
        ConfigError: the library has no such net, its options are not the net's, a factory fails, or a run has no such
            candidate.
        MissingPackageError: timm or torchvision is not installed.
    """
    source = parse_model(word)
    if source.origin == ZOO:
        net = _zoo_net(source, input_shape, classes)
    elif source.origin == RUN:
        net = build_candidate(source.name, input_shape=input_shape, classes=classes)
    elif source.origin == FACTORY:
        net = _factory_net(source, input_shape, classes)
    else:
        net = _library_net(source, input_shape, classes)
    return prepared_net(net, input_shape=input_shape)


def prepared_net(net: nn.Module, *, input_shape: tuple[int, int, int]) -> nn.Module:
    """A net as later steps expect it: without wrappers, lazy layers initialised, eval mode, float32 on the CPU.

    Args:
        net: any net; its modules are changed in place.
        input_shape: (C, H, W) of the images that reach the net.

    Raises:
        ConfigError: it is a TorchScript archive, its tensors hold no data, or a lazy layer gets no size.
    """
    while (child := _wrapped(net)) is not None:
        net = child
    if any(isinstance(module, torch.jit.ScriptModule) for module in net.modules()):
        raise ConfigError(
            "a net must be Python code, whose layers can be followed, but it is a TorchScript archive; give the "
            "function that builds it to --model and its state dict to --weights"
        )
    lazy = (nn.UninitializedParameter, nn.UninitializedBuffer)
    if any(isinstance(tensor, lazy) for tensor in (*net.parameters(), *net.buffers())):
        try:
            with torch.no_grad():
                net.cpu().eval()(torch.zeros(2, *input_shape))
        except Exception as error:  # the user's code may raise anything
            raise ConfigError(
                f"lazy layers must get their sizes from an image {list(input_shape)}, but {one_line(error)}"
            ) from None
        clear_caches(net)
    if any(tensor.is_meta for tensor in (*net.parameters(), *net.buffers())):
        raise ConfigError("a net must have weights, but its tensors are on the device meta; build it on the CPU")
    return net.cpu().float().eval()


def _wrapped(net: nn.Module) -> nn.Module | None:
    """The net inside a wrapper; None where there is none."""
    if type(net).__name__ == "OptimizedModule" and isinstance(getattr(net, "_orig_mod", None), nn.Module):
        return net.get_submodule("_orig_mod")  # torch.compile
    return next((net.get_submodule(child) for kind, child in _WRAPPERS if isinstance(net, kind)), None)


def accepted_channels(net: nn.Module, image_shape: tuple[int, int, int]) -> int | None:
    """Channels that a net takes for images of this shape: theirs, else 3 for grey images; None if it runs on neither.

    The net is run, because its first layer does not tell: a net may repeat grey images itself.

    Args:
        net: a net in eval mode.
        image_shape: (C, H, W) of the images.
    """
    channels, *size = image_shape
    tried = (channels, 3) if channels == 1 else (channels,)
    return next((c for c in tried if run_error(net, (c, size[0], size[1])) is None), None)


def run_error(net: nn.Module, input_shape: tuple[int, int, int]) -> str | None:
    """Why a net does not run on two images of this shape, in one line; None if it does."""
    try:
        with torch.no_grad(), caches_left_alone(net):
            net(torch.zeros(2, *input_shape))
    except Exception as error:  # the user's code may raise anything
        return one_line(error) or type(error).__name__
    return None


def _zoo_net(source: ModelSource, input_shape: tuple[int, int, int], classes: int) -> nn.Module:
    model = registry.load("model", source.name)
    try:
        net: nn.Module = model.build(input_shape=input_shape, classes=classes, **source.options)
    except (TypeError, ValueError) as error:
        known = [name for name in _parameters(model.make) if name not in ("input_shape", "classes")]
        raise ConfigError(
            f"options of model {source.name} must be of {', '.join(known) or 'none'}, but it could not be built with "
            f"{_shown(source.options)}: {one_line(error)}"
        ) from None
    return net


def _factory_net(source: ModelSource, input_shape: tuple[int, int, int], classes: int) -> nn.Module:
    factory = registry.factory(source.name)
    arguments = {"input_shape": input_shape, "classes": classes, "num_classes": classes}
    parameters = _parameters(factory)
    accepted = {name: value for name, value in arguments.items() if name in parameters}
    try:
        net = factory(**(accepted | dict(source.options)))
    except Exception as error:  # the user's code may raise anything
        raise ConfigError(
            f"factory {source.name} must build a net, but raised {type(error).__name__}: {error}; correct the factory"
        ) from error
    if not isinstance(net, nn.Module):
        raise ConfigError(
            f"factory {source.name} must return a torch.nn.Module, but returned {type(net).__name__}; correct the "
            "factory"
        )
    return net


def _parameters(function: Callable[..., Any]) -> tuple[str, ...]:
    """Names of a function's parameters; none if its signature is not known."""
    try:
        return tuple(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return ()


def _shown(options: Mapping[str, Any]) -> str:
    return ",".join(f"{name}={value}" for name, value in options.items()) or "no options"


def _library_net(source: ModelSource, input_shape: tuple[int, int, int], classes: int) -> nn.Module:
    """A net of timm or torchvision; one built for another image size is built again for this one where it can be."""
    builder = _timm_builder(source.name) if source.origin == TIMM else _torchvision_builder(source.name)
    net = _built(builder, source, {"num_classes": classes})
    option = _SIZE_OPTIONS[source.origin]
    if option in source.options or accepted_channels(net, input_shape) is not None:
        return net
    _, height, width = input_shape
    for size in ((height, width), height) if height == width else ((height, width),):
        try:
            resized = _built(builder, source, {"num_classes": classes, option: size})
        except ConfigError:
            continue
        if accepted_channels(resized, input_shape) is not None:
            logger.warning("%s is built for the images' size: %s=%s", source.word, option, size)
            return resized
    return net  # later steps name the layer that cannot take the image


def _built(builder: Callable[..., Any], source: ModelSource, arguments: Mapping[str, Any]) -> nn.Module:
    try:
        net: nn.Module = builder(**(dict(arguments) | dict(source.options))).eval()
    except Exception as error:  # the library's code may raise anything
        raise ConfigError(
            f"{source.word} must be built with {_shown(source.options)}, but {source.origin} raised "
            f"{type(error).__name__}: {one_line(error)}; correct the options"
        ) from None
    return net


def _timm_builder(name: str) -> Callable[..., Any]:
    _import_torchvision(TIMM)  # which imports it
    try:
        import timm
    except ImportError as error:
        raise _missing(TIMM, error) from None
    if not timm.is_model(name):
        raise _unknown(TIMM, name, timm.list_models())
    return lambda **options: timm.create_model(name, **options)


def _torchvision_builder(name: str) -> Callable[..., Any]:
    models = _import_torchvision().models
    known = models.list_models(module=models)
    if name not in known:
        raise _unknown(TORCHVISION, name, known)
    return lambda **options: models.get_model(name, weights=None, **options)


def _missing(library: str, error: ImportError) -> MissingPackageError:
    missing = f"{error.name} is not installed" if error.name else one_line(error)
    return MissingPackageError(f"models of {library} need {library}, but {missing}; {_INSTALL[library]}")


def _unknown(library: str, name: str, known: list[str]) -> ConfigError:
    return ConfigError(f"{library} must have the model, but has none of the name {name!r}{registry.near(name, known)}")


def _import_torchvision(needed_by: str = TORCHVISION) -> Any:
    """torchvision, with or without its compiled operators.

    Args:
        needed_by: library that imports it, for the message.

    Raises:
        MissingPackageError: it is not installed.
    """
    for _ in range(1 + len(_OPERATOR_SCHEMAS)):
        try:
            import torchvision
            import torchvision.models
        except ImportError as error:
            raise _missing(needed_by, error) from None
        except RuntimeError as error:
            match = re.search(r"operator torchvision::(\w+) does not exist", str(error))
            if match is None or match[1] not in _OPERATOR_SCHEMAS:
                raise ConfigError(f"torchvision must be importable, but it is not: {one_line(error)}") from None
            library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
            library.define(_OPERATOR_SCHEMAS[match[1]])  # type: ignore[no-untyped-call]
            _DEFINED.append(library)
            for module in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
                del sys.modules[module]
        else:
            return torchvision
    raise ConfigError("torchvision must be importable, but its operators cannot be registered; install it again")


_DEFINED: list[torch.library.Library] = []
"""Definitions of operators; they last as long as their object."""
