"""Networks of both sides: the same parameters, and with the same weights the same scores."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from checkout import Reference
from deviations import DEVIATIONS
from torch import Tensor, nn

from r3d.models.architectures import MODEL_DEPTHS, Architecture, begin_modules
from r3d.models.base import freeze_before, head_name
from r3d.models.building import build_model

pytestmark = pytest.mark.differential

BROKEN = ("preresnet", "resnext", "densenet")
# The original has no resnetrs.
DEPTHS = {model: depths for model, depths in MODEL_DEPTHS.items() if model != "resnetrs"}
EVERY_NETWORK = [(model, depth) for model, depths in DEPTHS.items() for depth in depths]
OPTIONS: list[dict[str, Any]] = [
    {"model": "resnet", "model_depth": 10, "resnet_shortcut": "A", "n_input_channels": 2},
    {"model": "resnet", "model_depth": 18, "conv1_t_size": 3, "conv1_t_stride": 2},
    {"model": "resnet", "model_depth": 34, "resnet_widen_factor": 0.3, "no_max_pool": True},
    {"model": "resnet", "model_depth": 50, "resnet_shortcut": "A", "resnet_widen_factor": 0.5},
    {"model": "resnet", "model_depth": 101, "resnet_widen_factor": 0.25},
    {"model": "resnet2p1d", "model_depth": 18},
    {"model": "resnet2p1d", "model_depth": 34, "resnet_shortcut": "A", "n_input_channels": 2},
    {"model": "resnet2p1d", "model_depth": 50, "resnet_widen_factor": 0.3, "conv1_t_size": 5},
    {"model": "preresnet", "model_depth": 18, "resnet_shortcut": "A", "no_max_pool": True},
    {"model": "preresnet", "model_depth": 50, "resnet_widen_factor": 0.5, "conv1_t_stride": 2},
    {"model": "wideresnet", "model_depth": 50, "wide_resnet_k": 1},
    {"model": "wideresnet", "model_depth": 50, "resnet_shortcut": "A", "conv1_t_stride": 2},
    {"model": "resnext", "model_depth": 50, "conv1_t_size": 3},
    {"model": "resnext", "model_depth": 101, "resnet_shortcut": "A", "n_input_channels": 2},
    {"model": "resnext", "model_depth": 50, "resnext_cardinality": 8},
    {"model": "densenet", "model_depth": 121, "n_input_channels": 2, "no_max_pool": True},
    {"model": "densenet", "model_depth": 169, "conv1_t_size": 3},
]


def options_id(options: dict[str, Any]) -> str:
    return " ".join(str(value) for value in options.values())


def build_reference(reference: Reference, architecture: Architecture) -> nn.Module:
    """The reference's network; the broken families from their own modules, arguments put right."""
    if architecture.model not in BROKEN:
        return reference.module("model").generate_model(architecture)
    stem = {
        name: getattr(architecture, name)
        for name in ("n_input_channels", "conv1_t_size", "conv1_t_stride", "no_max_pool")
    }
    depth, n_classes = architecture.model_depth, architecture.n_classes
    if architecture.model == "densenet":
        module = reference.module("models.densenet")
        return module.generate_model(depth, num_classes=n_classes, **stem)
    stem["shortcut_type"] = architecture.resnet_shortcut
    with pytest.MonkeyPatch.context() as patch:
        if architecture.model == "preresnet":
            module = reference.module("models.pre_act_resnet")
            for name in ("PreActivationBasicBlock", "PreActivationBottleneck"):
                patch.setattr(module, name, _with_in_planes(getattr(module, name)))
            widen_factor = architecture.resnet_widen_factor
            return module.generate_model(
                depth, n_classes=n_classes, widen_factor=widen_factor, **stem
            )
        module = reference.module("models.resnext")
        patch.setattr(module, "ResNeXtBottleneck", _with_in_planes(module.ResNeXtBottleneck))
        # What it takes for the number of classes it also uses as the width factor.
        cardinality = architecture.resnext_cardinality
        network = module.generate_model(depth, n_classes=1, cardinality=cardinality, **stem)
        network.fc = nn.Linear(2 * module.get_inplanes()[-1], n_classes)  # of any cardinality
        return network


def _with_in_planes(block: type[nn.Module]) -> type[nn.Module]:
    """The block, taking its first argument under the name by which it is called."""

    class Block(block):  # type: ignore[misc, valid-type]
        def __init__(self, in_planes: int, *arguments: Any, **options: Any) -> None:
            super().__init__(in_planes, *arguments, **options)

    return Block


def both(reference: Reference, device: str, **options: Any) -> tuple[nn.Module, nn.Module]:
    with torch.device(device):
        ours = build_model(**options)
        return ours, build_reference(reference, ours.architecture)


def shapes(network: nn.Module) -> list[tuple[str, tuple[int, ...], torch.dtype]]:
    return [(name, tuple(value.shape), value.dtype) for name, value in network.state_dict().items()]


@pytest.mark.filterwarnings("ignore:.*kaiming_normal:FutureWarning")
@pytest.mark.parametrize(("model", "depth"), EVERY_NETWORK)
def test_state_dict_of_every_network(reference: Reference, model: str, depth: int) -> None:
    ours, theirs = both(reference, "meta", model=model, model_depth=depth, n_classes=400)
    assert shapes(ours) == shapes(theirs)
    assert [name for name, _ in ours.named_parameters()] == [
        name for name, _ in theirs.named_parameters()
    ]


@pytest.mark.filterwarnings("ignore:.*kaiming_normal:FutureWarning")
@pytest.mark.parametrize("options", OPTIONS, ids=options_id)
def test_scores_with_the_same_weights(reference: Reference, options: dict[str, Any]) -> None:
    ours, theirs = both(reference, "meta", n_classes=11, **options)
    weights = random_weights(ours)
    for network in (ours, theirs):
        network.to_empty(device="cpu").load_state_dict(weights)
        network.eval()
    generator = torch.Generator().manual_seed(1)
    n_frames = 16 if options["model"] == "densenet" else 8
    channels = options.get("n_input_channels", 3)
    clips = torch.randn(2, channels, n_frames, 34, 47, generator=generator)
    with torch.no_grad():
        expected, found = theirs(clips), ours(clips)
    assert expected.std() > 1e-3
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(expected.norm()))


def random_weights(network: nn.Module) -> dict[str, Tensor]:
    """Weights that keep the scale of activations, and statistics that are not the identity."""
    generator = torch.Generator().manual_seed(0)
    weights = {}
    for name, value in network.state_dict().items():
        draw: Callable[..., Tensor] = torch.rand if value.ndim == 1 else torch.randn
        if not value.is_floating_point():
            weights[name] = torch.zeros(value.shape, dtype=value.dtype)
        elif value.ndim > 1:
            scale = (2 / value[0].numel()) ** 0.5
            weights[name] = draw(value.shape, generator=generator) * scale
        else:
            lowest = {"var": 0.5, "weight": 0.1}.get(name.rpartition("_")[2].split(".")[-1], -0.5)
            weights[name] = draw(value.shape, generator=generator) * 0.5 + lowest
    return weights


@pytest.mark.parametrize("model", BROKEN)
def test_broken_families(reference: Reference, model: str) -> None:
    options = {"model": model, "model_depth": DEPTHS[model][-2], "n_classes": 11}
    with torch.device("meta"):
        architecture = build_model(**options).architecture
        with pytest.raises(TypeError):
            reference.module("model").generate_model(architecture)
    assert DEVIATIONS["broken family"]


def test_cardinality(reference: Reference) -> None:
    """The last layer as the reference makes it does not fit the one before."""
    module = reference.module("models.resnext")
    with torch.device("meta"), pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "ResNeXtBottleneck", _with_in_planes(module.ResNeXtBottleneck))
        theirs = module.generate_model(50, n_classes=1, cardinality=8)
        ours = build_model(model="resnext", model_depth=50, n_classes=1, resnext_cardinality=8)
    assert theirs.layer4[-1].conv3.out_channels == ours.fc.in_features, DEVIATIONS["cardinality"]
    assert theirs.fc.in_features != ours.fc.in_features, DEVIATIONS["cardinality"]


@pytest.mark.filterwarnings("ignore:.*kaiming_normal:FutureWarning")
def test_short_clip(reference: Reference) -> None:
    clip = torch.randn(1, 3, 8, 32, 32)
    ours, theirs = both(reference, "cpu", model="densenet", model_depth=121, n_classes=2)
    assert ours.eval()(clip).shape == (1, 2)
    with pytest.raises(RuntimeError, match="smaller than kernel"):
        theirs.eval()(clip)
    assert DEVIATIONS["short clip"]


def test_shortcut_a(reference: Reference) -> None:
    """The gradient that comes through the shortcut alone."""
    options = {"model": "resnet", "model_depth": 10, "n_classes": 2, "resnet_shortcut": "A"}
    reached = []
    for network in both(reference, "cpu", **options, resnet_widen_factor=0.125):
        block = network.layer2[0]
        nn.init.zeros_(block.bn2.weight)
        x = torch.rand(1, 8, 2, 4, 4, requires_grad=True)
        block.eval()(x).sum().backward()
        assert x.grad is not None
        reached.append(bool(x.grad.any()))
    assert reached == [True, False], DEVIATIONS["shortcut A"]


@pytest.mark.filterwarnings("ignore:.*kaiming_normal:FutureWarning")
@pytest.mark.parametrize("model", DEPTHS)
def test_fine_tuning_trains_the_same_parameters(reference: Reference, model: str) -> None:
    depth = DEPTHS[model][0]
    ours, theirs = both(reference, "meta", model=model, model_depth=depth, n_classes=7)
    module = reference.module("model")
    modules = dict.fromkeys(module.get_module_name(name) for name, _ in theirs.named_parameters())
    assert {*modules} <= {*begin_modules(model)}
    for begin in modules:
        freeze_before(ours, begin)
        groups = module.get_fine_tuning_parameters(theirs, begin)
        expected = [id(group["params"]) for group in groups]
        trained = [name for name, value in ours.named_parameters() if value.requires_grad]
        assert trained == [
            name for name, value in theirs.named_parameters() if id(value) in expected
        ]
    assert head_name(ours) == [*modules][-1]
