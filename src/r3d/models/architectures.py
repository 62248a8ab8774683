"""Which networks exist: families, depths, the options of each. Known without importing torch.

A family is one entry of `FAMILIES` and one module `r3d.models.<family>` with a function
`build(architecture)`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields

from r3d.errors import InputError

Blocks = tuple[int, int, int, int]

# Blocks in each of the four stages (He et al. 2016, table 1; the 200 layers: He et al. 2016b).
_BASIC: dict[int, Blocks] = {10: (1, 1, 1, 1), 18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}
_BOTTLENECK: dict[int, Blocks] = {
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    200: (3, 24, 36, 3),
}
# Layers in each of the four dense blocks (Huang et al. 2017, table 1).
_DENSE: dict[int, Blocks] = {
    121: (6, 12, 24, 16),
    169: (6, 12, 32, 32),
    201: (6, 12, 48, 32),
    264: (6, 12, 64, 48),
}


_STAGES = ("layer1", "layer2", "layer3", "layer4", "fc")


@dataclass(frozen=True)
class Family:
    """What is known of a family of networks without building one.

    Attributes:
        blocks: for each depth the number of blocks in the four stages.
        options: the options that only some families have; the stem's options are everyone's.
        begin_modules: the modules that fine-tuning may begin at, from input to output.
    """

    blocks: Mapping[int, Blocks]
    options: frozenset[str] = frozenset()
    begin_modules: tuple[str, ...] = ("conv1", "bn1", *_STAGES)

    @property
    def head(self) -> str:
        """The name of the last layer, whose outputs are the classes."""
        return self.begin_modules[-1]


_WIDENED = frozenset({"resnet_shortcut", "resnet_widen_factor"})

FAMILIES: dict[str, Family] = {
    "resnet": Family(_BASIC | _BOTTLENECK, _WIDENED),
    "resnet2p1d": Family(
        _BASIC | _BOTTLENECK,
        _WIDENED,
        # Its stem has two convolutions: conv1 is the first of them.
        begin_modules=("conv1", "conv1_s", "bn1_s", "conv1_t", "bn1_t", *_STAGES),
    ),
    "preresnet": Family(_BASIC | _BOTTLENECK, _WIDENED),
    "wideresnet": Family(_BOTTLENECK, frozenset({"resnet_shortcut", "wide_resnet_k"})),
    "resnext": Family(_BOTTLENECK, frozenset({"resnet_shortcut", "resnext_cardinality"})),
    "resnetrs": Family(
        _BOTTLENECK,
        frozenset({"resnet_widen_factor"}),
        begin_modules=("conv1", "bn1", "conv2", "bn2", "conv3", "bn3", *_STAGES),
    ),
    "densenet": Family(
        _DENSE,
        begin_modules=(
            *("conv1", "norm1"),
            *("denseblock1", "transition1", "denseblock2", "transition2"),
            *("denseblock3", "transition3", "denseblock4", "norm5"),
            "classifier",
        ),
    ),
}

MODEL_DEPTHS: dict[str, tuple[int, ...]] = {
    name: tuple(family.blocks) for name, family in FAMILIES.items()
}


_COUNTS = (
    "n_classes",
    "n_input_channels",
    "conv1_t_size",
    "conv1_t_stride",
    "wide_resnet_k",
    "resnext_cardinality",
)
_MOST = 1_000_000


def begin_modules(model: str) -> tuple[str, ...]:
    """The names that `ft_begin_module` accepts for a family, beside "" (train everything)."""
    return FAMILIES[model].begin_modules


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """Everything that decides which layers a network has, under the names of the options.

    `conv1_t_size` and `conv1_t_stride` are the stem's kernel size and stride in time (frames),
    `n_input_channels` is 3 for RGB and 2 for optical flow.

    Raises:
        InputError: if a value is not accepted, or the family does not have the option.
    """

    model: str
    model_depth: int
    n_classes: int
    n_input_channels: int = 3
    conv1_t_size: int = 7
    conv1_t_stride: int = 1
    no_max_pool: bool = False
    resnet_shortcut: str = "B"
    resnet_widen_factor: float = 1.0
    wide_resnet_k: int = 2
    resnext_cardinality: int = 32

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)  # of a checkpoint it may be anything
            if not isinstance(value, str | int | float):
                raise InputError(
                    f"{field.name}: a {type(value).__name__}; accepted: a value as in a config"
                )
        if self.model not in FAMILIES:
            raise InputError(f"model: {self.model!r} is not one of {', '.join(FAMILIES)}")
        if self.model_depth not in FAMILIES[self.model].blocks:
            raise InputError(
                f"model_depth: {self.model_depth!r} is not a depth of {self.model}; "
                f"accepted: {', '.join(map(str, MODEL_DEPTHS[self.model]))}"
            )
        for field in fields(self):
            having = [name for name in FAMILIES if field.name in FAMILIES[name].options]
            value = getattr(self, field.name)
            if having and self.model not in having and value != field.default:
                raise InputError(
                    f"{field.name}: {value!r} has no meaning for {self.model}, which accepts "
                    f"{field.default!r} only; families with this option: {', '.join(having)}"
                )
        for name in _COUNTS:
            value = getattr(self, name)
            if not isinstance(value, int) or not 1 <= value <= _MOST:
                raise InputError(
                    f"{name}: {value!r} is refused; accepted: whole numbers from 1 to {_MOST}"
                )
        if not isinstance(self.no_max_pool, bool):
            raise InputError(f"no_max_pool: {self.no_max_pool!r} is refused; accepted: true, false")
        if self.resnet_shortcut not in ("A", "B"):
            raise InputError(f"resnet_shortcut: {self.resnet_shortcut!r} is not one of 'A', 'B'")
        factor = self.resnet_widen_factor
        # The stem has 64 channels, of resnetrs first 32.
        if not isinstance(factor, int | float) or not 1 / 64 <= factor <= _MOST:
            raise InputError(
                f"resnet_widen_factor: {self.resnet_widen_factor!r} is refused; "
                f"accepted: numbers from 1/64 to {_MOST}"
            )

    @property
    def name(self) -> str:
        """Family and depth as checkpoints of the reference name them, such as `resnet-50`."""
        return f"{self.model}-{self.model_depth}"

    @property
    def blocks(self) -> Blocks:
        """Blocks in each of the four stages."""
        return FAMILIES[self.model].blocks[self.model_depth]
