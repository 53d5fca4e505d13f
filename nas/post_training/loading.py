"""Loading of a model for post-training work: a net in torch, or an ONNX file."""

from collections.abc import Sequence
from pathlib import Path

from hw_profiles._base import HardwareProfile
from nas.config import SearchConfig
from nas.data.base import FaceData
from nas.errors import ConfigError
from nas.post_training.base import PostTrainingModel
from nas.post_training.onnx_graph import OnnxGraph
from nas.post_training.user_net import UserNet

TORCH_FIELDS = ("weights", "mean", "std", "input_size")
"""Fields that say how a net in torch is built; an ONNX file holds all of that."""
ONNX_FIELDS = frozenset({"target", "model", "keep", "dataset", "data", "data_options", "seed", "threads", "device"})
"""Fields that post-training work on an ONNX file uses or may ignore."""


def is_onnx(model: str | Path) -> bool:
    """Whether a model is an ONNX file, by its name."""
    return str(model).lower().endswith(".onnx")


def load_model(
    config: SearchConfig, data: FaceData, profile: HardwareProfile, *, classes: Sequence[str] = ()
) -> PostTrainingModel:
    """The model of a configuration.

    Args:
        config: names the model, and what stays as it is.
        data: the data set.
        profile: of the target.
        classes: class names in the order of an ONNX file's outputs.

    Raises:
        ConfigError: a field does not go with the kind of the model, or the model does not fit.
    """
    name = str(config.search.model)
    if is_onnx(name):
        if given := [field for field in TORCH_FIELDS if config.get(field) is not None]:
            raise ConfigError(
                f"an ONNX file holds its weights and pre-processing, so --{given[0].replace('_', '-')} does not apply "
                f"to {name}; leave it out"
            )
        return OnnxGraph(Path(name), data, profile, classes=tuple(classes), keep=tuple(config.search.keep or ()))
    if classes:
        raise ConfigError(f"--classes names the outputs of an ONNX file, but {name} is none; leave it out")
    return UserNet(config, data, profile)


def refuse_training_fields(config: SearchConfig) -> None:
    """Refuse fields that only a search or a training uses, for an ONNX file without its source.

    Raises:
        ConfigError: one of them was given.
    """
    given = sorted(config.fields_set - ONNX_FIELDS - set(TORCH_FIELDS))
    if given:
        raise ConfigError(
            f"{config.search.model} has no source to train, so only post-training work is possible, but "
            f"--{given[0].replace('_', '-')} needs a training or a search; leave it out, or give --model a factory"
        )


def default_out(model: str | Path, suffix: str) -> Path:
    """The file that is written where none is named: NAME-SUFFIX.onnx in the current folder."""
    word = str(model)
    name = Path(word).stem if is_onnx(word) else "-".join(filter(None, word.replace(".py", "").split(":")))
    safe = "".join(c if c.isalnum() or c in "._-" else "-" for c in Path(name).name if c)
    return Path(f"{safe or 'model'}-{suffix}.onnx")
