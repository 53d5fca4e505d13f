"""A published net or a user's factory with trained weights, for post-training work."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from torch import Tensor, fx, nn

from hw_profiles._base import FLOAT32_BITS, HardwareProfile
from nas import registry
from nas.candidate import Candidate
from nas.compression.pipeline import CompressionPipeline
from nas.compression.quantization.calibration import CALIBRATION_GENE, DEFAULT_CALIBRATION
from nas.config import SearchConfig
from nas.data.base import FaceData
from nas.errors import CandidateError, ConfigError
from nas.models.layer_patterns import layer_names
from nas.models.user_model import UserModelSpace, load_user_model
from nas.onnx_export.exporter import export_onnx
from nas.onnx_export.folding import module_nodes
from nas.onnx_export.parity import check_parity, parity_tolerance
from nas.post_training.base import CALIBRATION_IMAGES, PostTrainingModel, Predict
from nas.post_training.bits import BitsPlan
from nas.runtimes.base import Runtime
from nas.training.model_builder import UNTRAINED_CALIBRATION_IMAGES, ModelBuilder
from search_spaces._base import HEAD, STEM

HOST_RUNTIME = "onnxruntime"
COMPRESSORS = ("prune_structured", "quantize")
N_PARITY_IMAGES = 256
"""Images of the selection split, at most, on which torch and the runtime must agree."""


class UserNet(PostTrainingModel):
    """A net in torch, whose units and layers are those of `nas.models.user_model`.

    Attributes:
        config: the configuration that names the model.
        space: the net as a space of one architecture.
        builder: builds it in any widths, and compresses its graph.
        candidate: the net as it is.
        net: with its trained weights, in eval mode.

    Raises:
        ConfigError: there are no weights, no such model, or it cannot be compressed.
    """

    def __init__(self, config: SearchConfig, data: FaceData, profile: HardwareProfile) -> None:
        if config.search.weights is None:
            raise ConfigError(
                "post-training work starts from trained weights, but there are none; give --weights FILE, or train the "
                "model with nas compress"
            )
        self.config, self.data, self.profile = config, data, profile
        self.name, self.timed_shape = str(config.search.model), data.input_shape
        self.space: UserModelSpace = load_user_model(config, data, channel_multiple=profile.channel_multiple)
        compressors = [registry.load("compressor", word) for word in COMPRESSORS]
        self.compression = CompressionPipeline(compressors=compressors, profile=profile)
        self.builder = ModelBuilder(
            compression_config=config.compression, space=self.space, compression=self.compression, data=data,
            seed=config.run.seed,
        )  # fmt: skip
        self.candidate: Candidate = self.compression.decode(self.space, {})
        self.net: nn.Module = self.builder.build(self.candidate, self.candidate.widths).eval()
        self.units = (STEM, *self.space.stages, HEAD)
        self._runtime: Runtime = registry.load("runtime", HOST_RUNTIME)

    @cached_property
    def layers(self) -> Mapping[str, str]:  # type: ignore[override]
        """Layers of the folded graph that may be named: name in the net to the name in the user's own code."""
        graph = self.graph(BitsPlan(units=dict.fromkeys(self.units, FLOAT32_BITS)), is_draft=True)
        names = {str(node.target) for node in module_nodes(graph)}
        return {name: other for name, other in layer_names(self.net).items() if name in names}

    def given_file(self, folder: Path) -> Path:
        """The uncompressed net as a file in `folder`."""
        path = folder / "given.onnx"
        self.write(path, BitsPlan(units=dict.fromkeys(self.units, FLOAT32_BITS)), calibration=DEFAULT_CALIBRATION)
        return path

    def write(self, path: Path, plan: BitsPlan, *, calibration: str, is_draft: bool = False) -> None:
        """See `PostTrainingModel.write`."""
        self.write_net(self.net, self.candidate, path, plan, calibration=calibration, is_draft=is_draft)

    def write_net(
        self, net: nn.Module, candidate: Candidate, path: Path, plan: BitsPlan, *,
        calibration: str = DEFAULT_CALIBRATION, is_draft: bool = False,
    ) -> None:  # fmt: skip
        """Write this net, or a pruned form of it, in a plan of bit-widths.

        Args:
            net: the net in its final shape.
            candidate: its widths.
            path: the file.
            plan: bit-widths.
            calibration: method of the activations' ranges.
            is_draft: whether the file is only timed.

        Raises:
            CandidateError: the file cannot be written, or ONNX Runtime computes something else than torch.
        """
        candidate = self._with_bits(candidate, plan, calibration)
        graph = self._compressed(net, candidate, plan, is_draft=is_draft)
        metadata = {"model": self.name, "bits": plan.describe(), "dataset": self.data.name}
        export_onnx(
            graph, path, input_shape=self.data.input_shape, classes=self.data.classes,
            metadata={} if is_draft else metadata,
        )  # fmt: skip
        if not is_draft:
            self._check_parity(graph, path, plan)

    def graph(
        self, plan: BitsPlan, *, calibration: str = DEFAULT_CALIBRATION, is_draft: bool = False
    ) -> fx.GraphModule:
        """The folded graph of the net in a plan of bit-widths, which computes in torch what its file computes."""
        return self._compressed(self.net, self._with_bits(self.candidate, plan, calibration), plan, is_draft=is_draft)

    @contextmanager
    def open(self, path: Path) -> Iterator[Predict]:
        """See `PostTrainingModel.open`."""
        session = self._runtime.load(path, threads=1)
        try:
            yield session.predict
        finally:
            session.close()

    def own_names(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A state dict under the names of the user's own code, without the pre-processing's."""
        layers = layer_names(self.net)
        own: dict[str, Tensor] = {}
        for name, tensor in state.items():
            layer = next((known for known in layers if name.startswith(f"{known}.")), None)
            if layer is not None:
                own[f"{layers[layer]}{name.removeprefix(layer)}"] = tensor
        return own

    def _with_bits(self, candidate: Candidate, plan: BitsPlan, calibration: str) -> Candidate:
        settings = {} if calibration == DEFAULT_CALIBRATION else {CALIBRATION_GENE: calibration}
        return replace(candidate, bits=dict(plan.units), settings={**candidate.settings, **settings})

    def _compressed(self, net: nn.Module, candidate: Candidate, plan: BitsPlan, *, is_draft: bool) -> fx.GraphModule:
        n_images = UNTRAINED_CALIBRATION_IMAGES if is_draft else CALIBRATION_IMAGES
        context = self.builder.compression_context(candidate, n_images)
        return self.compression.compress_graph(
            net, replace(context, layer_bits=dict(plan.layers), shapes_only=is_draft)
        )

    def _check_parity(self, graph: fx.GraphModule, path: Path, plan: BitsPlan) -> None:
        session = self._runtime.load(path, threads=1)
        try:
            check_parity(
                graph, session, self.data.val.images[:N_PARITY_IMAGES], path=path, load=self._runtime.load,
                max_difference=parity_tolerance({**plan.units, **plan.layers}),
            )  # fmt: skip
        except CandidateError:
            path.unlink(missing_ok=True)
            raise
        finally:
            session.close()
