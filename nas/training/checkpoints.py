"""Checkpoints of a run: weights after each rung, and the execution format of each candidate.

    runs/NAME/checkpoints/KEY-RUNG.pt            state dict after the last finished rung; earlier rungs are deleted
    runs/NAME/checkpoints/KEY-state-*.pt         state amid a phase that takes minutes; deleted at its end
    runs/NAME/checkpoints/KEY-execution.json     `ExecutionFormat` of the training, chosen once by timing

The files let a search that was interrupted repeat: another format would round differently, and timing may choose
another one each time.
"""

import io
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn

from nas.candidate import Candidate
from nas.files import write_atomic
from nas.models.seeding import forked_rng
from nas.results.run_folder import RunFolder
from nas.training.execution_format import ExecutionFormat
from nas.training.model_builder import ModelBuilder


@dataclass(frozen=True, kw_only=True)
class Checkpoints:
    """Saves and restores the progress of candidates in a run folder.

    Attributes:
        folder: of the run.
        builder: rebuilds a network before its weights are loaded.
        n_rungs: rungs of the search.
    """

    folder: RunFolder
    builder: ModelBuilder
    n_rungs: int

    def load(self, candidate: Candidate) -> tuple[nn.Module | None, int]:
        """The network after its last finished rung, in eval mode, and the number of that rung.

        Returns:
            (None, 0) where there is no checkpoint, and for every training after a candidate's first: those start from
            fresh weights.
        """
        rung = self.last_rung(candidate)
        if not rung or self.builder.seed_index:
            return None, 0
        with forked_rng(0):  # fresh weights, which are overwritten in the next line
            net = self.builder.build_final_shape(candidate)
        net.load_state_dict(torch.load(self.path(candidate, rung), weights_only=True))
        return net.eval(), rung

    def last_rung(self, candidate: Candidate) -> int:
        """The last rung of which there is a checkpoint; 0 without one."""
        rungs = range(self.n_rungs, 0, -1)
        return next((rung for rung in rungs if self.path(candidate, rung).exists()), 0)

    def save(self, candidate: Candidate, net: nn.Module, rung: int) -> None:
        """Write the weights after a rung, then delete those of the rung before."""
        write_state_dict(self.path(candidate, rung), net)
        self.path(candidate, rung - 1).unlink(missing_ok=True)
        self.forget_states(candidate)

    def state_path(self, candidate: Candidate, phase_index: int, pruning_step: int) -> Path:
        """File of the state amid a phase of training, see `nas.training.training_state`; it may not exist."""
        name = f"{candidate.key}-state-{self.builder.seed_index}-{phase_index}-{pruning_step}.pt"
        return self.folder.path / "checkpoints" / name

    def forget_states(self, candidate: Candidate) -> None:
        """Delete the states of a candidate: what they led to has been saved."""
        for path in self.folder.path.glob(f"checkpoints/{candidate.key}-state-{self.builder.seed_index}-*.pt"):
            path.unlink()

    def path(self, candidate: Candidate, rung: int) -> Path:
        """File of the weights after a rung, counted from 1; it may not exist."""
        return self.folder.path / "checkpoints" / f"{candidate.key}-{rung}.pt"

    def load_execution(self, candidate: Candidate, *, device: str) -> ExecutionFormat | None:
        """The saved execution format of a candidate.

        Args:
            candidate: which one.
            device: "auto", "cpu" or "cuda".

        Returns:
            None where none was saved, or where it needs a device that is absent or not allowed.
        """
        path = self.folder.path / self._execution_file(candidate)
        if not path.exists():
            return None
        saved = ExecutionFormat(**self.folder.read_json(self._execution_file(candidate), ExecutionFormat))
        is_present = saved.device == "cpu" or torch.cuda.is_available()
        return saved if is_present and device in ("auto", saved.device) else None

    def save_execution(self, candidate: Candidate, execution: ExecutionFormat) -> None:
        """Write the execution format of a candidate, in the place of an earlier one."""
        self.folder.write(self._execution_file(candidate), json.dumps(asdict(execution)))

    def _execution_file(self, candidate: Candidate) -> str:
        return f"checkpoints/{candidate.key}-execution.json"


def write_state_dict(path: Path, net: nn.Module) -> None:
    """Write the state dict of a network as a whole file.

    Raises:
        OSError: the folder cannot be written, or the disk is full, of which `torch.save` to a path tells only in words.
    """
    buffer = io.BytesIO()
    torch.save(net.state_dict(), buffer)
    write_atomic(path, buffer.getvalue())
