"""Arithmetic of the rooflines: padded multiply-accumulates, and the peak rate of a device at a bit-width."""

import math

from hw_profiles._base import HardwareProfile
from nas.latency.costs import Kernel


def padded_macs(kernel: Kernel, channel_multiple: int) -> float:
    """Multiply-accumulates with the channels of each group rounded up to `channel_multiple`.

    Depthwise convolutions are not padded, nor are kernels without channels (a product of two activations).
    """
    if kernel.kind == "depthwise" or not (kernel.macs and kernel.in_channels and kernel.out_channels):
        return kernel.macs
    sides = (kernel.in_channels / kernel.groups, kernel.out_channels / kernel.groups)
    return kernel.macs * math.prod(math.ceil(side / channel_multiple) * channel_multiple / side for side in sides)


def peak_gops(profile: HardwareProfile, bits: int) -> float:
    """Peak rate at a bit-width in 10^9 operations a second; without that width (INT8), at the next wider one."""
    return profile.peak_gops[min((b for b in profile.peak_gops if b >= bits), default=max(profile.peak_gops))]
