"""Which engine computes a network, and what makes it ready."""

from dataclasses import dataclass

import torch

from r3d.compute.device import choose_device, choose_dtype, expected_device
from r3d.config.normalisation import input_normalisation
from r3d.config.options import InferenceOptions, RunOptions
from r3d.engines import on_openvino
from r3d.engines.base import Engine
from r3d.engines.calibrating import Clips, SomeClips, open_int8
from r3d.engines.choosing import Choosing
from r3d.engines.on_onnxruntime import open_onnxruntime
from r3d.engines.on_torch import OnTorch
from r3d.engines.onnxfiles import need_onnx
from r3d.errors import InputError
from r3d.models.base import VideoModel
from r3d.models.folding import fold_batch_norms


def device_for(options: InferenceOptions, run: RunOptions) -> torch.device:
    """The device to compute on, which may mean to wait for it, once its engine is known to.

    Raises:
        InputError: as `need_engine`.
    """
    need_engine(options, run, expected_device(no_cuda=run.no_cuda))
    device = choose_device(no_cuda=run.no_cuda)
    need_engine(options, run, device)
    return device


def need_engine(options: InferenceOptions, run: RunOptions, device: torch.device) -> None:
    """Check that the engine that is asked for can compute here, before any work.

    Raises:
        InputError: if a package is missing, or it computes neither on the device nor in the
            precision.
    """
    asked = None
    if options.int8:
        asked = "int8: true"
        if run.engine not in ("auto", "openvino"):
            raise InputError(
                f"int8: true goes with engine: openvino or auto, not {run.engine}; accepted with "
                f"{run.engine}: int8: false"
            )
    elif run.engine in ("openvino", "onnxruntime"):
        asked = f"engine: {run.engine}"
    if asked is None:
        return
    if device.type != "cpu":
        raise InputError(
            f"{asked} computes on the CPU, and here a GPU would compute; set no_cuda: true to use "
            "the CPU, or leave it out to use the GPU"
        )
    if run.engine != "onnxruntime":
        on_openvino.need_openvino(int8=options.int8)
        return
    need_onnx(what="engine: onnxruntime", extra="onnxruntime")
    if options.precision == "bf16":
        raise InputError(
            "engine: onnxruntime computes in fp32 on CPUs, not in bf16; accepted with it: "
            "precision: fp32 or auto; with precision: bf16 take engine: openvino or torch"
        )


@dataclass(frozen=True, eq=False)
class Calibration:
    """Where int8 has its ranges from: clips like those of the training, and clips to check it on.

    What opens clips is called only if they are needed. Where there are none of the training, it is
    the latest calibration that is kept.
    """

    training: SomeClips
    checked: Clips


def open_engine(
    network: VideoModel,
    options: InferenceOptions,
    run: RunOptions,
    device: torch.device,
    calibration: Calibration | None = None,
) -> Engine:
    """Make a network ready to compute, in place.

    Raises:
        InputError: as `need_engine`; for int8, if nothing was or can be calibrated, or its scores
            are not good enough; if OpenVINO is asked for and cannot convert the network.
    """
    need_engine(options, run, device)
    dtype = choose_dtype(options.precision, device, run.memory_format)
    normalisation = input_normalisation(options)
    n_frames = options.sample_duration
    fold_batch_norms(network)
    if options.int8:
        clips = (calibration.training, calibration.checked) if calibration else None
        with on_openvino.told_if_not_converted("int8: true", "int8: false with engine: torch"):
            return open_int8(network, options, normalisation, dtype, clips)
    if run.engine == "openvino":
        with on_openvino.told_if_not_converted("engine: openvino", "engine: torch"):
            return on_openvino.open_openvino(network, normalisation, n_frames, dtype)
    if run.engine == "onnxruntime":
        return open_onnxruntime(network, normalisation, n_frames)
    plain = OnTorch(network, options, device, dtype, run.memory_format)
    if run.engine != "auto" or device.type != "cpu" or run.deterministic:
        return plain
    return Choosing(plain, network, normalisation, options, dtype)
