"""mini_XCEPTION, the net that many works on lightweight models prune.

Arriaga et al., "Real-time convolutional neural networks for emotion and gender classification", 2017,
https://arxiv.org/abs/1710.07557. The published code has 58,423 parameters for 1x64x64 and 7 classes, as Keras counts
them with the batch-norm statistics; 56,951 of them are trained. Different here: logits instead of a softmax, and the
padding of max pooling.
"""

from functools import partial

from nas.models.base import PublishedSize, ZooModel
from nas.models.blocks.xception import NOTES, SOURCE, xception

MODEL = ZooModel(
    name="mini_xception",
    make=partial(xception, stem=(8, 8), widths=(16, 32, 64, 128)),
    source=SOURCE,
    notes=NOTES,
    published_params=(PublishedSize(params=56_951, input_shape=(1, 64, 64), classes=7),),
)
