"""Layers of torch that the pruner and the quantiser follow; every other module becomes an opaque region."""

from torch import nn

from nas.onnx_export.opaque_region import Region
from nas.onnx_export.tensor_ops import Pad
from search_spaces._leaf import Leaf

ELEMENTWISE_LAYERS: tuple[type[nn.Module], ...] = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.Mish, nn.Softplus, nn.Hardtanh, nn.Tanh, nn.GELU,
    nn.SiLU, nn.Sigmoid, nn.Hardswish, nn.Hardsigmoid, nn.LogSigmoid, nn.Softsign, nn.RReLU, nn.Identity, nn.Dropout,
    nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout,
)  # fmt: skip
DROPOUT_LAYERS = (
    nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout,
)  # fmt: skip
SPATIAL_LAYERS: tuple[type[nn.Module], ...] = (
    nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.ZeroPad2d,
)  # fmt: skip
_KNOWN_TENSORS = {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"}


def is_followed(module: nn.Module, ranks: list[int]) -> bool:
    """Whether pruner, quantiser and writer know a layer that reads tensors of these ranks."""
    if isinstance(module, Region):
        return False
    if isinstance(module, Leaf):
        return True
    if len(ranks) != 1 or set(module.state_dict()) - _KNOWN_TENSORS:
        return False
    (rank,) = ranks
    if isinstance(module, nn.Linear):
        return rank == 2
    if isinstance(module, nn.Flatten):
        return (module.start_dim, module.end_dim) == (1, -1)
    if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
        return module.running_mean is not None
    if isinstance(module, nn.InstanceNorm2d):
        return rank == 4 and not module.track_running_stats
    if isinstance(module, nn.AvgPool2d):
        return rank == 4 and module.divisor_override is None
    if isinstance(module, nn.MaxPool2d | nn.AdaptiveMaxPool2d):
        return rank == 4 and not module.return_indices
    if isinstance(module, nn.Upsample):
        is_bilinear = module.mode == "bilinear" and not module.align_corners and module.size is not None
        return rank == 4 and (is_bilinear or module.mode == "nearest")
    if isinstance(module, nn.Softmax | nn.LogSoftmax):
        return rank == 2 or (module.dim is not None and module.dim % rank > 1)
    if isinstance(module, nn.Conv2d | nn.GroupNorm | nn.ChannelShuffle):
        return rank == 4
    return isinstance(module, (*ELEMENTWISE_LAYERS, nn.PReLU)) or (rank == 4 and isinstance(module, SPATIAL_LAYERS))


def split_padding(conv: nn.Conv2d) -> tuple[Pad, nn.Conv2d] | None:
    """A convolution that pads with other values than zeros, as a pad and a convolution that shares its weights."""
    if conv.padding_mode == "zeros":
        return None
    plain = nn.Conv2d(
        conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, 0, conv.dilation, conv.groups,  # type: ignore[arg-type]
        bias=conv.bias is not None,
    )  # fmt: skip
    plain.weight, plain.bias = conv.weight, conv.bias
    # torch's own order for F.pad: the last axis first.
    return Pad(tuple(conv._reversed_padding_repeated_twice), conv.padding_mode), plain.eval()
