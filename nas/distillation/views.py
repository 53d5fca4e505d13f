"""View bank: seeded changed copies of the training images, which a teacher answers once and its students see again.

Distillation works best where the teacher answers the very image that the student sees, for many epochs and with strong
augmentation (Beyer et al., "Knowledge distillation: a good teacher is patient and consistent", CVPR 2022,
https://arxiv.org/abs/2106.05237). To ask the teacher in each step would cost more than the student's own step. A bank
asks once: view v of an image is the image changed by numbers drawn from (seed, v), the same for everybody, so only
the answers are kept, some MB, and no pixel.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from nas.data.augment import MEDIUM, Augmentation, Draws, apply_draws
from nas.data.base import Images

_SEED_STRIDE = 100_003


@dataclass(frozen=True, kw_only=True)
class ViewBank:
    """Views of N images, numbered from 0.

    Attributes:
        n_images: images of the training split.
        n_views: views of each image, at least 1.
        augmentation: strength of the changes.
        seed: of the changes.
    """

    n_images: int
    n_views: int
    augmentation: Augmentation = MEDIUM
    seed: int = 0

    def draws(self, view: int) -> Draws:
        """The numbers of one view of all images."""
        generator = torch.Generator().manual_seed(_SEED_STRIDE * self.seed + view)
        return Draws.of(self.n_images, self.augmentation, generator)

    def show(self, images: Tensor, rows: Tensor, views: Tensor) -> Tensor:
        """Changed copies of a batch.

        Args:
            images: [B, C, H, W] float32, 0..255, unchanged: these rows of the training images.
            rows: [B] row numbers, on any device.
            views: [B] number of the view of each, 0..n_views - 1.

        Returns:
            [B, C, H, W] float32, 0..255.
        """
        rows, views = rows.cpu(), views.cpu()
        affine, light, hole = (table[views, :, rows].T.to(images.device) for table in self._tables)
        return apply_draws(images, self.augmentation, Draws(affine, light, hole))

    def show_rows(self, images: Images, rows: slice, view: int) -> Images:
        """One view of consecutive images, rounded to whole numbers: [B, C, H, W] uint8, of images [N, C, H, W]."""
        draws = self.draws(view)
        part = Draws(*(numbers[:, rows] for numbers in (draws.affine, draws.light, draws.hole)))
        changed = apply_draws(torch.from_numpy(images[rows].copy()).float(), self.augmentation, part)
        rounded: Images = changed.round_().to(torch.uint8).numpy()
        return rounded

    @cached_property
    def _tables(self) -> tuple[Tensor, Tensor, Tensor]:
        """[V, 5 or 2, N] of all views: 1.4 kB an image for 32 views."""
        all_draws = [self.draws(view) for view in range(self.n_views)]
        return (
            torch.stack([draws.affine for draws in all_draws]),
            torch.stack([draws.light for draws in all_draws]),
            torch.stack([draws.hole for draws in all_draws]),
        )

    def __getstate__(self) -> dict[str, object]:
        """Without the tables, which are drawn again in another process."""
        return {name: value for name, value in self.__dict__.items() if name != "_tables"}
