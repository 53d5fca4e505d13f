"""Parity of two files of one network that take pictures in different forms: the same picture, the same answer.

Each test picture goes two ways: through the package's own conversion on the host (Pillow: grey, then size) into the
plain file, and as it is into the file of the other form. Two things are compared, and a file that fails is refused:

- the picture that the network sees, byte by byte: none may differ;
- the probabilities: by at most `MAX_DIFFERENCE`, and the class must be the same.

Pictures are noise, in which every rounding occurs, and smooth shades, of the sizes that are hard for a resize: one
pixel, smaller, twice and one and a half times as large (whose averages lie halfway between two grey levels), and far
larger.
"""

import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from nas import registry
from nas.data.images import fit_picture
from nas.errors import MissingPackageError, ParityError
from nas.input_form import InputForm
from nas.onnx_export.input_rewrite import picture_model
from nas.onnx_export.pillow_resize import MAX_EXACT_REDUCTION
from nas.runtimes.base import Runtime, Session

PARITY_RUNTIME = "onnxruntime"
MAX_DIFFERENCE = 1e-5
"""Largest difference of a probability. The network gets the same bytes and has the same nodes, so only the rounding of
float32 in a layer that the runtime fuses differently is left; every network tried so far gave a difference of 0."""
PICTURES_PER_SIZE = 2
N_FIXED_SIZE = 16
"""Pictures of each kind where only one size is taken."""

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class InputParity:
    """Agreement of a file that takes another form of input with the plain file.

    Attributes:
        n_images: number of pictures compared.
        sizes: the distinct (height, width) among them.
        n_pixels: pixels of all pictures as the network sees them.
        differing_pixels: how many of these differ from the host's.
        max_difference: largest difference of a probability, 0..1.
        agreement: share of pictures with the same class, 0..1.
        versions: of the runtime.
    """

    n_images: int
    sizes: tuple[tuple[int, int], ...]
    n_pixels: int
    differing_pixels: int
    max_difference: float
    agreement: float
    versions: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return asdict(self)


def check_input_parity(plain: Path, changed: Path, form: InputForm) -> InputParity:
    """Compare two files on test pictures in ONNX Runtime.

    Args:
        plain: takes float32 [N, C, H, W].
        changed: takes `form`, written by `nas.onnx_export.input_rewrite`.
        form: of `changed`.

    Raises:
        ParityError: they do not agree.
        MeasureError: ONNX Runtime refuses one of them.
        MissingPackageError: pillow is not installed.
    """
    runtime: Runtime = registry.load("runtime", PARITY_RUNTIME)
    sizes, differing, n_pixels, differences, same = [], 0, 0, [], []
    with tempfile.TemporaryDirectory() as folder:
        first_part = Path(folder) / "picture.onnx"
        onnx.save(picture_model(onnx.load(changed)), first_part)
        with (
            closing(runtime.load(plain)) as plain_session,
            closing(runtime.load(changed)) as session,
            closing(runtime.load(first_part)) as picture_session,
        ):
            for picture in parity_pictures(form):
                seen = host_picture(picture, form)
                given = form.to_input(picture.transpose(2, 0, 1)[None])
                differing += int((_run(picture_session, given)[0] != seen).sum())
                n_pixels += seen.size
                expected, got = _run(plain_session, seen[None].astype(np.float32)), _run(session, given)
                differences.append(float(np.nan_to_num(np.abs(expected - got), nan=np.inf).max()))
                same.append(expected.argmax() == got.argmax())
                sizes.append(picture.shape[:2])
    parity = InputParity(
        n_images=len(same), sizes=tuple(dict.fromkeys(sizes)), n_pixels=n_pixels, differing_pixels=differing,
        max_difference=max(differences), agreement=float(np.mean(same)), versions=runtime.versions(),
    )  # fmt: skip
    _refuse(parity, form)
    return parity


def host_picture(picture: Pixels, form: InputForm) -> Pixels:
    """Pixels [C, H, W] that the network must see of a picture [H, W, channels], by Pillow on the host.

    Raises:
        MissingPackageError: pillow is not installed.
    """
    try:
        from PIL import Image
    except ImportError:
        raise MissingPackageError("parity of input forms needs pillow: pip install 'fer-nas[images]'") from None
    image = Image.fromarray(picture if picture.shape[2] == 3 else picture[:, :, 0])
    return fit_picture(image, size=form.network[1:], grey=form.network[0] == 1)


def parity_pictures(form: InputForm) -> Iterator[Pixels]:
    """Pictures uint8 [H, W, channels] of the form's colour, always the same."""
    rng = np.random.default_rng(0)
    sizes = _sizes(form)
    count = PICTURES_PER_SIZE if len(sizes) > 1 else N_FIXED_SIZE
    for height, width in sizes:
        for _ in range(count):
            yield rng.integers(0, 256, (height, width, form.channels), dtype=np.uint8)
            yield _shades(rng, height, width, form.channels)


def _sizes(form: InputForm) -> list[tuple[int, int]]:
    """Sizes to try: the form's own, or those that are hard for a resize."""
    if form.size is not None:
        return [form.size]
    _, height, width = form.network
    longest = min(MAX_EXACT_REDUCTION * height, form.max_side)
    sizes = [
        (height, width), (1, 1), (height // 2 + 1, width // 3 + 2), (2 * height, 2 * width),
        (3 * height // 2, 3 * width // 2), (5 * height + 7, 3 * width - 5), (2 * height - 1, 7 * width + 1),
        (longest, 3), (3, min(MAX_EXACT_REDUCTION * width, form.max_side)),
    ]  # fmt: skip
    return list(dict.fromkeys((max(1, h), max(1, w)) for h, w in sizes))


def _shades(rng: np.random.Generator, height: int, width: int, channels: int) -> Pixels:
    """Waves of low frequency under little noise."""
    y, x = np.mgrid[:height, :width] / max(height, width)
    waves = [np.sin(2 * np.pi * (a * y + b * x + c)) for a, b, c in rng.uniform(0, 2, (channels, 3))]
    shades = 127.5 + 90 * np.stack(waves, axis=-1) + rng.normal(0, 3, (height, width, channels))
    return shades.round().clip(0, 255).astype(np.uint8)


def _run(session: Session, images: npt.NDArray[Any]) -> Floats:
    return session.predict(images)


def _refuse(parity: InputParity, form: InputForm) -> None:
    """Raise unless the two files agree."""
    if parity.differing_pixels or parity.max_difference > MAX_DIFFERENCE or parity.agreement < 1:
        raise ParityError(
            f"the file that takes {form.describe()} must compute what the plain file does, but on {parity.n_images} "
            f"pictures {parity.differing_pixels:,} of {parity.n_pixels:,} pixels differ, probabilities differ by "
            f"{parity.max_difference:.2g}, and {parity.agreement:.1%} of the classes agree; export without --input, "
            "and report this"
        )
