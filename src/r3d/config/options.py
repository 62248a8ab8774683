"""The options of a network, a clip, a training and an inference, as sections of the config.

The names are those of the reference implementation, so are the defaults. A step takes only the
groups that change its result: editing any other option leaves the step as it is. The texts below
the options are their documentation, on the command line and in config/README.md.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, model_validator
from pydantic_core import PydanticCustomError

from r3d.errors import InputError
from r3d.models.architectures import MODEL_DEPTHS, Architecture, begin_modules
from r3d.paths import expanded


def _scalar(text: str) -> bool | int | float | str:
    """The number or truth value that a text stands for, else the text.

    YAML 1.1 reads `1e-3` as a text, and Snakemake hands on all values of `--config` as texts.
    """
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _is_text(annotation: Any) -> bool:
    """Whether an option of this type is a text, or one of several texts."""
    types = get_args(annotation) or (annotation,)
    return str in types or any(isinstance(choice, str) for choice in types)


# What is beyond these limits is a slip, and would be an overflow or fill the memory later on.
_LARGEST = 1e20
_MOST = 1_000_000_000

Number = Annotated[float, Field(allow_inf_nan=False)]
Fraction = Annotated[Number, Field(ge=0, le=1)]
Positive = Annotated[Number, Field(gt=0, le=_LARGEST)]
NotNegative = Annotated[Number, Field(ge=0, le=_LARGEST)]
Count = Annotated[int, Field(ge=1, le=_MOST)]
CountOrZero = Annotated[int, Field(ge=0, le=_MOST)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Processes = Annotated[int, Field(ge=0, le=1000)]


AS_WRITTEN = {"as_written": True}
"""Context of a validation of what a person has written, in whose paths `~` and `$NAME` stand for
folders. Options that were validated before, as those in a checkpoint, are taken as they are."""


def _expanded(path: str | None, info: ValidationInfo) -> str | None:
    if path is None or not (info.context or {}).get("as_written"):
        return path
    try:
        return expanded(path)
    except InputError as error:
        reason = str(error).removeprefix(f"{path!r}: ")  # the message of a validation has the path
        raise PydanticCustomError("path", "{reason}", {"reason": reason}) from None


PathText = Annotated[str, AfterValidator(_expanded)]
OptionalPath = Annotated[str | None, AfterValidator(_expanded)]


class Section(BaseModel):
    """A part of the config: unknown keys and wrong types are refused, values never change."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        use_attribute_docstrings=True,
        defer_build=True,  # a help needs no validators, which take as long as Python itself
    )

    @model_validator(mode="before")
    @classmethod
    def _read_scalars(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        read = dict(values)
        for name, field in cls.model_fields.items():
            value = values.get(name)
            if isinstance(value, str) and not _is_text(field.annotation):
                read[name] = _scalar(value)
            elif isinstance(value, float) and _is_text(field.annotation):
                read[name] = str(value)  # mean_dataset: 0.5
        return read

    @model_validator(mode="after")
    def _check(self) -> Self:
        found = [problem for part in type(self).__mro__[::-1] for problem in _problems(part, self)]
        if found:
            raise ValueError("\n".join(found))
        return self

    def problems(self) -> Iterable[str]:
        """What does not fit together among the options that this class adds to its bases'."""
        return ()


def _problems(part: type, section: Section) -> Iterable[str]:
    """Those of one class of a section: a section of several bases is checked by all of them."""
    own: Callable[[Section], Iterable[str]] = vars(part).get("problems", lambda _: ())
    return own(section)


class ModelOptions(Section):
    """Which network."""

    model: Literal[tuple(MODEL_DEPTHS)] = "resnet"  # type: ignore[valid-type]
    """Family of the network."""
    model_depth: Count = 18
    """Depth: 10, 18, 34, 50, 101, 152 or 200; 50 and deeper for wideresnet, resnext and resnetrs;
    121, 169, 201 or 264 for densenet."""
    conv1_t_size: Count = 7
    """Size of the first convolution in time, in frames; resnetrs is published with 5."""
    conv1_t_stride: Count = 1
    """Stride of the first convolution in time, in frames; resnetrs is published with 2."""
    no_max_pool: bool = False
    """Leave out the max pooling after the first convolution."""
    resnet_shortcut: Literal["A", "B"] = "B"
    """Shortcut where a stage changes size: A strides and pads with zeros, B convolves."""
    resnet_widen_factor: Positive = 1.0
    """Factor on the widths of resnet, resnet2p1d, preresnet and resnetrs."""
    wide_resnet_k: Count = 2
    """Factor on the widths of wideresnet."""
    resnext_cardinality: Count = 32
    """Groups of the convolutions of resnext."""
    input_type: Literal["rgb", "flow"] = "rgb"
    """Colour frames, or the two components of optical flow (hdf5 only)."""

    def problems(self) -> Iterator[str]:
        try:
            Architecture(n_classes=1, **self.network())
        except InputError as error:
            yield str(error)

    @property
    def n_input_channels(self) -> int:
        """Three colours, or the two components of optical flow."""
        return 3 if self.input_type == "rgb" else 2

    def network(self) -> dict[str, Any]:
        """The arguments of `r3d.models.building.build_model` but for the number of classes."""
        options = {name: getattr(self, name) for name in ModelOptions.model_fields}
        del options["input_type"]
        return {**options, "n_input_channels": self.n_input_channels}


class ClipOptions(Section):
    """What a clip is: its size in space and time, its normalisation, and how it is computed on."""

    sample_size: Annotated[int, Field(ge=8, le=10_000)] = 112
    """Height and width of a clip, in pixels."""
    sample_duration: Annotated[int, Field(ge=1, le=100_000)] = 16
    """Frames of a clip; a shorter video is looped."""
    sample_t_stride: Count = 1
    """Take every so many frames of the video."""
    mean_dataset: Literal["kinetics", "activitynet", "0.5", "hara2018", "torchvision"] = "kinetics"
    """Whose mean and standard deviation normalise the input; weight files of 2018 go with hara2018,
    no_std_norm: true and value_scale: 255, those of torchvision with torchvision."""
    no_mean_norm: bool = False
    """Do not subtract the mean."""
    no_std_norm: bool = False
    """Do not divide by the standard deviation."""
    value_scale: Literal[1, 255] = 1
    """Largest value of an input pixel; mean and deviation are scaled alike."""
    frozen: bool = False
    """Control: replace each clip by copies of its first frame, which takes its motion away."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """What convolutions compute in; auto is bf16 on GPUs that multiply in it, and on CPUs where it
    was measured to be clearly faster, else fp32. A training goes on in what it began with."""


class TrainOptions(Section):
    """How the network is trained: whatever changes the trained weights."""

    pretrain: str | None = None
    """Experiment whose model to start from, with a fresh head, and with its network and its
    normalisation where these are not given; with its split after it where another than the own one
    is meant, as scratch/01."""
    pretrain_path: OptionalPath = None
    """Model to start from, with a fresh head: a checkpoint file, the name of one in the folder
    models (r3d50_K_200ep), an experiment (scratch, or scratch/01 with its split), or
    torchvision:r3d_18. What is not given of network and normalisation is as it has it."""
    n_pretrain_classes: CountOrZero = 0
    """Classes of the pretrained model; 0 reads the number from the file."""
    ft_begin_module: str = ""
    """Train the parameters from this module on (conv1, layer1 ... layer4, fc; in a densenet
    denseblock1 ... classifier; or a norm or transition between them); what lies before is frozen
    with its batch-norm statistics."""
    resume_path: OptionalPath = None
    """Checkpoint file to go on from: a training goes on from it and then from its own states, and
    another file begins another training. n_epochs, and learning_rate, momentum, dampening,
    weight_decay, nesterov and plateau_patience where they are not at their defaults, are used from
    there on; at their defaults they are as in the file."""

    class_balance: Fraction = 0.0
    """How far classes of unequal size come equally often: an epoch has as many clips as there are
    videos, of a class of m videos in proportion to m to the power of 1 - class_balance; 0 takes
    each video once, 1 each class equally often, a video of a small class several times. It pays
    where the classifier alone is trained (docs/finetune.md)."""
    crops_per_clip: Count = 1
    """Samples that a clip is read and decoded once for, in the same batch: of the same frames, with
    a crop, flip and colours of their own. An epoch has so many times the steps (docs/tuning.md)."""
    train_crop: Literal["random", "corner", "center"] = "random"
    """Spatial crop: of random area and shape, at a corner in one of five scales, or the centre."""
    train_crop_min_scale: Annotated[Number, Field(gt=0, le=1)] = 0.25
    """Least area of a random crop, as a share of the frame."""
    train_crop_min_ratio: Annotated[Number, Field(gt=0, le=1)] = 0.75
    """Least ratio of width to height of a random crop; the greatest is its inverse."""
    train_t_crop: Literal["random", "center"] = "random"
    """Where in time a clip starts: anywhere, or so that it lies in the middle."""
    no_hflip: bool = False
    """Do not mirror half of the clips."""
    colorjitter: bool = False
    """Change brightness, contrast, saturation and hue of each clip at random."""
    randaugment: Annotated[int, Field(ge=0, le=30)] = 0
    """Strength of two random changes of each clip (RandAugment), up to 30; 0 makes none."""

    optimizer: Literal["sgd", "adamw"] = "sgd"
    """How weights follow gradients."""
    learning_rate: Positive = 0.1
    """Learning rate of the first epoch (after the warm-up, if there is one)."""
    learning_rate_batch_size: CountOrZero = 0
    """Batch size that learning_rate is meant for: the rate is scaled by batch_size over it; 0 takes
    the rate as it is."""
    momentum: Annotated[Number, Field(ge=0, lt=1)] = 0.9
    """Momentum of sgd."""
    dampening: Fraction = 0.0
    """Dampening of sgd's momentum; Nesterov's has none."""
    weight_decay: NotNegative = 1e-3
    """Weight decay."""
    nesterov: bool = False
    """Nesterov's momentum."""
    lr_scheduler: Literal["multistep", "plateau", "cosine"] = "multistep"
    """How the learning rate falls: tenfold at milestones, tenfold when the validation loss stays,
    or along a cosine to zero at the last epoch."""
    multistep_milestones: list[Count] = [50, 100, 150]
    """Epochs after which multistep divides the rate by ten."""
    overwrite_milestones: bool = False
    """With resume_path, take these milestones instead of those in the checkpoint."""
    plateau_patience: CountOrZero = 10
    """Epochs without a lower validation loss that plateau waits for."""
    warmup_epochs: CountOrZero = 0
    """Epochs in which the rate first rises linearly (multistep and cosine)."""
    batch_size: Count = 128
    """Clips of a batch, over all devices."""
    accumulate_steps: Count = 1
    """Parts that a batch is computed in, where it does not fit into memory whole."""
    multigrid: Literal["none", "long", "short", "both"] = "none"
    """Train in fewer steps, most of them on larger batches of smaller clips: long goes from short
    and small clips to whole ones between milestones, short changes the size from step to step, and
    both take a third of the work (docs/tuning.md). An epoch then has fewer steps."""
    batchnorm_sync: bool = False
    """Take batch-norm statistics over the clips of all GPUs, not of each by itself."""
    clip_grad_norm: NotNegative = 0.0
    """Largest norm of all gradients together; 0 leaves them as they are."""
    n_epochs: Count = 200
    """Epochs to train."""
    manual_seed: Seed = 1
    """Seed of everything random."""

    dropout: Annotated[Number, Field(ge=0, lt=1)] = 0.0
    """Share of the features that the last layer does not see in training, anew for each clip."""
    stochastic_depth: Annotated[Number, Field(ge=0, lt=1)] = 0.0
    """How likely the last block, in a densenet the last layer, is left out of a training clip; for
    those before it the rate grows linearly with the depth (in resnetrs from stage to stage)."""
    label_smoothing: Annotated[Number, Field(ge=0, lt=1)] = 0.0
    """Share of the target that is spread over all classes."""
    mixup_alpha: NotNegative = 0.0
    """Blend pairs of clips, by shares from a Beta(alpha, alpha); 0 does not."""
    cutmix_alpha: NotNegative = 0.0
    """Paste rectangles of other clips, of areas from a Beta(alpha, alpha); 0 does not."""
    ema_decay: Annotated[Number, Field(ge=0, lt=1)] = 0.0
    """Decay of a running average of the weights, which then is the model; 0 keeps none."""

    no_val: bool = False
    """Do not validate during the training."""
    n_val_samples: Count = 3
    """Clips a video, evenly spaced, in this validation."""
    final_model: Literal["last", "best"] = "last"
    """The model to hand on: of the last epoch, or of the best validation accuracy."""

    def problems(self) -> Iterator[str]:
        if self.nesterov and self.momentum == 0:
            yield "nesterov: true needs momentum above 0"
        if self.pretrain and self.pretrain_path:
            yield (
                f"pretrain: {self.pretrain!r} and pretrain_path: {self.pretrain_path!r} exclude "
                "each other: give an experiment or a file"
            )
        if self.ft_begin_module and not (self.pretrain or self.pretrain_path):
            yield (
                f"ft_begin_module: {self.ft_begin_module!r} needs pretrained weights: give "
                "pretrain (an experiment) or pretrain_path (a file)"
            )
        if self.no_val and (self.lr_scheduler == "plateau" or self.final_model == "best"):
            yield (
                "no_val: true goes with neither lr_scheduler: plateau nor final_model: best, "
                "which follow the validation"
            )
        if self.warmup_epochs and self.lr_scheduler == "plateau":
            yield ("warmup_epochs: goes with lr_scheduler: multistep or cosine only")
        if self.warmup_epochs >= self.n_epochs:
            yield (f"warmup_epochs: {self.warmup_epochs} must be below n_epochs ({self.n_epochs})")
        if self.crops_per_clip > self.batch_size:
            yield (
                f"crops_per_clip: {self.crops_per_clip} cannot exceed batch_size "
                f"({self.batch_size}), which holds them"
            )
        if self.accumulate_steps > self.batch_size:
            yield (
                f"accumulate_steps: {self.accumulate_steps} cannot exceed batch_size "
                f"({self.batch_size}), which it divides"
            )


class InferOptions(Section):
    """How a trained network is applied."""

    inference_stride: Count = 16
    """Frames from the start of one clip to the next, of those that sample_t_stride leaves."""
    inference_crop: Literal["center", "nocrop", "three"] = "center"
    """The square in the middle, the whole frame (fully convolutional), or three squares along the
    long side."""
    inference_clips: Annotated[int, Field(ge=0, le=10_000)] = 0
    """Evenly spaced clips of a video (with three crops the usual multi-view testing); 0 takes clips
    at every inference_stride."""
    inference_no_average: bool = False
    """Give the scores of each clip, not their average over the video."""
    int8: bool = False
    """Compute on the CPU in integers of 8 bits (openvino), whose ranges are found on training clips
    of the annotation. What that costs in accuracy is measured, said, and refused beyond 5 %."""
    class_order: OptionalPath = None
    """The classes of the model in the order of its outputs, where its file does not name them, nor
    is known by its name (r3d released): a text file with one class a line, an annotation JSON, or
    the word annotation for the order of the annotation it is applied to."""
    output_topk: int = 5
    """Classes to give of each video, the most likely first; 0 or less gives all."""


class TrainingOptions(ModelOptions, ClipOptions, TrainOptions):
    """All that the trained weights depend on.

    >>> import r3d
    >>> r3d.TrainingOptions(model_depth=50, learning_rate=0.01).n_epochs
    200
    """

    def problems(self) -> Iterator[str]:
        modules = begin_modules(self.model)
        if self.ft_begin_module and self.ft_begin_module not in modules:
            yield (
                f"ft_begin_module: {self.ft_begin_module!r} is not a module of {self.model}; "
                f"accepted: {', '.join(modules)} or '' (train everything)"
            )
        for name in ("colorjitter", "randaugment"):
            if getattr(self, name) and self.input_type == "flow":
                yield (
                    f"{name}: {getattr(self, name)} changes colours, so it goes with input_type: "
                    "'rgb' only, not 'flow'"
                )
        if self.multigrid != "none":
            yield from self._multigrid_problems()

    def _multigrid_problems(self) -> Iterator[str]:
        has_long_cycle = self.multigrid != "short"
        for name, least in {"sample_size": 16, "sample_duration": 8}.items():
            value = getattr(self, name)
            if (value % 4 or value < least) and (has_long_cycle or name == "sample_size"):
                nearest = max(least, value // 4 * 4)
                yield (
                    f"{name}: {value} cannot be divided as multigrid: {self.multigrid} does; "
                    f"accepted with it: multiples of 4 from {least}, as {nearest} or {nearest + 4}"
                )
        if has_long_cycle and self.lr_scheduler == "plateau":
            yield (
                f"multigrid: {self.multigrid} ends its cycles where the learning rate falls, which "
                "lr_scheduler: plateau does not know beforehand; accepted with plateau: "
                "multigrid: short or none"
            )
        if self.batchnorm_sync:
            yield (
                f"multigrid: {self.multigrid} takes batch-norm statistics over the clips that a "
                "process has in the plain schedule, and batchnorm_sync: true over those of all; "
                "set one of them to none or false"
            )


class InferenceOptions(ModelOptions, ClipOptions, InferOptions):
    """All that the results of a trained network depend on.

    >>> import r3d
    >>> r3d.InferenceOptions(model_depth=50, inference_clips=10).inference_crop
    'center'
    """


class Resources(Section):
    """What a training or inference job asks the cluster for."""

    nodes: Count = 1
    """Nodes that work together; more than one needs SLURM."""
    gpus: Processes = 0
    """GPUs of each node; each gets a process of its own. 0 is a single process, which computes on a
    free GPU of the machine if there are any (no_cuda: true keeps it off them), and on SLURM asks
    for none."""
    processes: Processes = 0
    """Processes on each node, each with a GPU of its own where there are any, also with gpus: 0
    (but not with no_cuda: true, nor on SLURM without gpus); 0 is one for each of gpus, or a single
    one."""
    cores: CountOrZero = 0
    """Cores of each process; 0 is one for itself and one for each of n_threads."""
    mem_mb: Count = 8000
    """Memory of each node, in MB; a second attempt asks for twice as much, and so on."""
    runtime: Count = 1440
    """Longest time, in minutes."""

    @property
    def processes_per_node(self) -> int:
        """How many processes share the work on each node."""
        return self.processes or max(1, self.gpus)

    @property
    def gpus_per_node(self) -> int:
        """How many GPUs a job has on each node: one for each process, if it asks for any."""
        return max(self.gpus, self.processes_per_node) if self.gpus else 0

    @property
    def gpus_option(self) -> str:
        """The option that says how many GPUs there have to be, for messages."""
        return "gpus" if self.gpus >= self.processes_per_node else "processes"


class RunOptions(Section):
    """How and where steps run; nothing that a result depends on beyond rounding.

    >>> import r3d
    >>> r3d.RunOptions(n_threads=8).cores_per_process
    9
    """

    n_threads: Processes = 4
    """Processes that load clips, beside the one that trains; 0 loads in that one."""
    no_cuda: bool = False
    """Use the CPU even where there is a GPU."""
    memory_format: Literal["auto", "contiguous", "channels_last"] = "auto"
    """Layout of clips and weights in memory; auto is channels last, but contiguous for training in
    bf16 on CPUs."""
    compile: bool = False
    """Compile the network for training (`torch.compile`), which takes a minute or more at first and
    needs a C++ compiler; on a GPU, triton and a C compiler."""
    deterministic: bool = False
    """On GPUs, give the same bits in each run: of the same options, cards, versions and number of
    processes, and if it is on from the first step. It is slower; by how much was not measured. On
    CPUs it changes nothing: they do so anyway."""
    engine: Literal["auto", "torch", "openvino", "onnxruntime"] = "auto"
    """What computes a network in inference: openvino and onnxruntime on CPUs only, once they are
    installed (pip install 'r3d[openvino]'); auto takes one of torch and openvino before the
    first score: openvino where long work makes a measurement worth while that shows it to be faster
    and to agree, or an earlier one did; else torch."""
    inference_batch_size: CountOrZero = 0
    """Clips of a batch in inference; 0 takes batch_size."""
    checkpoint: Count = 10
    """Keep a checkpoint every so many epochs."""
    tensorboard: bool = False
    """Write the curves for TensorBoard, too."""
    resources: Resources = Resources()
    """What the jobs ask the cluster for."""

    @property
    def cores_per_process(self) -> int:
        """Cores that each process is given, for loading clips and for itself."""
        return self.resources.cores or self.n_threads + 1
