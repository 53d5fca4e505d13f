"""Framing of faces: what detector, crop and net reach together, beside the net on the given crops, on the same faces.

    python -m benchmarks.framing --data fer2013.csv --model examples/fer2013-front/plain-945k/model-int8.onnx
    python -m benchmarks.framing --data fer2013.csv --measure
    python -m benchmarks.framing ... --detector haar --detector dlib --yunet face_detection_yunet_2023mar.onnx

FER2013 has crops alone, so a photograph is made of each: the face is enlarged by 3.0 to 3.5, and its edges are
continued outwards by half of its side. On such a picture a detector works as on a photograph, and where the crop was is
known.

- `--measure` takes faces of Training. It prints the medians that `nas.vision.framing` holds: side and centre of the
  given crop against the detected box, whose width is the unit.
- Otherwise the faces are of PublicTest. For each detector: the share of faces that it finds, and the accuracy on these
  of the given crops, of the whole chain with the framing, and of the chain with the bare box. In the last column faces
  that are not found count as wrong.

Continued edges are no background, so finding a face in a photograph may be easier or harder than here.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from nas.data.base import Images, Split
from nas.data.loading import load_data
from nas.intervals import wilson_interval
from nas.registry import load
from nas.vision.base import Box, DetectFunction, Pixels
from nas.vision.classifier import FaceClassifier
from nas.vision.framing import Framing, crop, find_framing, frame_box
from nas.vision.opencv import import_cv2

ENLARGEMENT, MARGIN_SHARE = 3.0, 0.5
STEP, PHASES = 1.2, 12
"""Sizes of faces within the largest step of a detector, which is dlib's: boxes come in steps, so one size alone would
measure where it lies between two of them."""
MIN_FACE = 64
"""Pixels; under half of the side of the smallest face, which is 144."""
BARE = Framing(scale=1.0, right=0.0, down=0.0, source="the detector's own box")


@dataclass(frozen=True, kw_only=True)
class Row:
    """Figures of one detector and model; accuracies 0..1."""

    model: str
    detector: str
    faces: int
    found: int
    given: float
    chain: float
    bare: float
    chain_of_all: float
    given_of_all: float
    low: float
    high: float


def photograph(face: Images, index: int) -> tuple[Pixels, Box]:
    """A picture with a face [1, 48, 48], and where the face's crop is in it; the index sets the size."""
    cv2 = import_cv2()
    side = round(ENLARGEMENT * face.shape[1] * STEP ** (index % PHASES / PHASES))
    margin = round(MARGIN_SHARE * side)
    large = cv2.resize(face[0], (side, side), interpolation=cv2.INTER_CUBIC)
    padded = np.pad(large, margin, mode="edge")
    pixels = np.ascontiguousarray(np.repeat(padded[:, :, None], 3, axis=2))
    return pixels, Box(x=margin, y=margin, width=side, height=side)


def measure(faces: Images, detect: DetectFunction) -> tuple[int, npt.NDArray[np.float64]]:
    """Number of detected faces, and quartiles [3, 3] of scale, right and down of the given crop against the box."""
    rows = []
    for index, face in enumerate(faces):
        pixels, truth = photograph(face, index)
        if boxes := detect(pixels):
            box = boxes[0]
            rows.append(
                (
                    truth.width / box.width,
                    (truth.x + truth.width / 2 - box.x - box.width / 2) / box.width,
                    (truth.y + truth.height / 2 - box.y - box.height / 2) / box.width,
                )
            )
    return len(rows), np.percentile(np.array(rows), [25, 50, 75], axis=0).T


def find_faces(faces: Images, detect: DetectFunction) -> dict[int, tuple[Pixels, Box]]:
    """The photograph and the largest box of each face that is found, by index."""
    found = {}
    for index, face in enumerate(faces):
        pixels, _ = photograph(face, index)
        if boxes := detect(pixels):
            found[index] = (pixels, boxes[0])
    return found


def score(name: str, split: Split, classes: Sequence[str], found: dict[int, tuple[Pixels, Box]], model: Path) -> Row:
    """The whole chain beside the given crops, on the faces that detector `name` found."""
    framing, _ = find_framing(name, "fer2013")
    rows = list(found)
    with FaceClassifier(model) as net:
        columns = np.array([net.classes.index(c) for c in classes])

        def right_with(crops: Images, labels: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
            return net.probabilities(crops)[:, columns].argmax(1) == labels

        def framed(frame: Framing) -> Images:
            return np.concatenate([crop(p, frame_box(box, frame), net.input_shape) for p, box in found.values()])

        given = right_with(split.images, split.labels)
        right = right_with(framed(framing), split.labels[rows])
        bare = right_with(framed(BARE), split.labels[rows])
    low, high = wilson_interval(int(right.sum()), len(rows))
    return Row(
        model=model.parent.name, detector=name, faces=len(split), found=len(rows), given=float(given[rows].mean()),
        chain=float(right.mean()), bare=float(bare.mean()), chain_of_all=float(right.sum() / len(split)),
        given_of_all=float(given.mean()), low=low, high=high,
    )  # fmt: skip


def subset(split: Split, n: int) -> Split:
    """N faces of a split, spread evenly."""
    rows = split.evenly_spread_rows(n)
    return Split(images=split.images[rows], labels=split.labels[rows])


def main() -> None:
    """Measure the framings, or score the chain, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="fer2013.csv")
    parser.add_argument("--dataset", default="fer2013")
    parser.add_argument("--model", type=Path, action="append", default=[], help="ONNX file that names its classes")
    parser.add_argument("--detector", action="append", choices=("haar", "dlib", "yunet"), help="default: haar, dlib")
    parser.add_argument("--yunet", type=Path, help="file of yunet")
    parser.add_argument("--faces", type=int, default=1000)
    parser.add_argument("--measure", action="store_true")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    data = load_data(args.dataset, args.data, keep_duplicates=True)
    split = subset(data.train if args.measure else data.val, args.faces)
    rows = []
    if args.measure:
        print("detector  found            scale [quartiles]            right [quartiles]             down [quartiles]")
    else:
        print("model            detector  found   given crops  whole chain (95 %)      bare box   chain, all faces")
    for name in args.detector or ("haar", "dlib"):
        detect = load("detector", name).load(model=args.yunet if name == "yunet" else None, min_face=MIN_FACE)
        if args.measure:
            n, quartiles = measure(split.images, detect)
            cells = [f"{middle:+.3f} [{low:+.3f}, {high:+.3f}]" for low, middle, high in quartiles]
            print(f"{name:8}  {n / len(split):.1%}  " + "   ".join(f"{cell:>26}" for cell in cells), flush=True)
            continue
        found = find_faces(split.images, detect)
        for model in args.model:
            row = score(name, split, data.classes, found, model)
            rows.append(asdict(row))
            print(
                f"{row.model:15}  {name:8}  {row.found / row.faces:.1%}  {row.given:10.1%}   {row.chain:.1%} "
                f"({row.low:.1%} to {row.high:.1%})  {row.bare:10.1%}  {row.chain_of_all:.1%} of "
                f"{row.given_of_all:.1%}",
                flush=True,
            )
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
