"""Gates of the published networks: squeeze-and-excitation (Hu et al. 2018, https://arxiv.org/abs/1709.01507).

The module of the search spaces, whose inner width, bias and gate the published networks set themselves.
"""

from search_spaces._attention import SqueezeExcite

__all__ = ["SqueezeExcite"]
