"""What a file weighs when it is stored packed: the one figure that zeros among the weights improve.

The whole ONNX file goes through DEFLATE at its highest level (zlib 9), which is what a zip archive, a gzip layer or an
app package does to it. Random float32 weights pack to about 93 % of their bytes, so compare packed with packed.
"""

import zlib
from pathlib import Path

import onnx

LEVEL = 9


def packed_bytes(model: Path | onnx.ModelProto) -> int:
    """Bytes of an ONNX file, or of a model as it would be written, under zlib at level 9; about 0.1 s for 1 MB.

    Raises:
        OSError: the file cannot be read.
    """
    content = model.read_bytes() if isinstance(model, Path) else model.SerializeToString(deterministic=True)
    return len(zlib.compress(content, LEVEL))
