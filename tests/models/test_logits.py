"""Logits among several outputs: where they are found, and when a net is refused."""

from collections import OrderedDict, namedtuple
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nas.errors import BuildError
from nas.models.logits import LogitsOf, find_logits

SHAPE = (1, 8, 8)
Named = namedtuple("Named", ["aux", "logits"])


@dataclass
class Output:
    """As the nets of some libraries return."""

    features: Tensor
    logits: Tensor


class Net(nn.Module):
    """Its forward pass returns what `arrange` makes of logits [N, 3], other values [N, 3] and features [N, 5]."""

    def __init__(self, arrange: Any) -> None:
        super().__init__()
        self.arrange = arrange

    def forward(self, x: Tensor) -> Any:
        return self.arrange(x.mean((2, 3)).expand(-1, 3), torch.zeros(len(x), 3), torch.zeros(len(x), 5))


@pytest.mark.parametrize(
    ("arrange", "place"),
    [
        (lambda y, z, f: y, None),
        (lambda y, z, f: (f, y), (1,)),
        (lambda y, z, f: (y, f, [f, f]), (0,)),
        (lambda y, z, f: (y, z), (0,)),
        (lambda y, z, f: [f, {"head": y}], (1, "head")),
        (lambda y, z, f: {"features": f, "logits": y}, ("logits",)),
        (lambda y, z, f: OrderedDict(out=y, aux=z), ("out",)),
        (lambda y, z, f: Named(z, y), ("logits",)),
        (lambda y, z, f: Output(f, y), ("logits",)),
    ],
)
def test_logits_are_found(arrange: Any, place: object) -> None:
    net = Net(arrange)
    assert find_logits(net, SHAPE, classes=3) == place
    if place is not None:
        image = torch.rand(2, *SHAPE) + 1
        torch.testing.assert_close(LogitsOf(net, place)(image), image.mean((2, 3)).expand(-1, 3))  # type: ignore[arg-type]


def test_the_choice_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    find_logits(Net(lambda y, z, f: (y, z)), SHAPE, classes=3)
    assert "returns a tuple; its logits are taken from [0], of 2 tensors of its shape" in caplog.text


@pytest.mark.parametrize(
    ("arrange", "message"),
    [
        (lambda y, z, f: (f, f), r"must return logits \[N, 3\], .* returns a tuple of \[N, 5\], \[N, 5\]"),
        (lambda y, z, f: {}, "returns a dict of no tensors"),
        (lambda y, z, f: {"a": y, "b": z}, r"several tensors of this shape: \['a'\], \['b'\]; return one"),
    ],
)
def test_outputs_without_clear_logits_are_refused(arrange: Any, message: str) -> None:
    with pytest.raises(BuildError, match=message):
        find_logits(Net(arrange), SHAPE, classes=3)
