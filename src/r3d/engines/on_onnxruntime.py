"""ONNX Runtime as an engine: on CPUs, in fp32."""

from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch import Tensor

from r3d.clips.loader import ClipBatch
from r3d.engines import stored
from r3d.engines.graph import export_graph
from r3d.engines.onnxfiles import open_onnx, write_onnx
from r3d.models.base import VideoModel

_MODEL = "model.onnx"


class OnOnnxRuntime:
    """A network as ONNX Runtime computes it, on as many threads as torch has."""

    def __init__(self, file: Path) -> None:
        import onnxruntime

        self._run = open_onnx(file)
        self.name = f"onnxruntime {onnxruntime.__version__} in fp32"

    def __call__(self, batch: ClipBatch) -> Tensor:
        return self._run(batch.clips.contiguous())


def open_onnxruntime(
    network: VideoModel, normalisation: dict[str, Any], n_frames: int
) -> OnOnnxRuntime:
    """A network in ONNX Runtime: as it was kept, or converted and kept."""
    import onnxruntime

    digest = stored.network_digest(network, normalisation)
    versions = (onnxruntime.__version__, version("onnxscript"))
    path = stored.entry(digest, str(n_frames), "onnxruntime", *versions)
    with stored.alone(path):
        if stored.use_entry(path):
            try:
                return OnOnnxRuntime(path / _MODEL)
            except Exception:  # whose classes the package does not name
                stored.remove_entry(path)
        n_channels = network.architecture.n_input_channels
        program = export_graph(network, normalisation, clip_shape=(n_frames, 0, 0, n_channels))

        def write(folder: Path) -> None:
            write_onnx(program, {}, folder / _MODEL)

        if stored.write_entry(path, write):
            return OnOnnxRuntime(path / _MODEL)
    with TemporaryDirectory() as folder:  # the cache cannot be written
        write(Path(folder))
        return OnOnnxRuntime(Path(folder) / _MODEL)
