"""Building a network of any family by its options."""

from importlib import import_module
from typing import Any

from r3d.models.architectures import Architecture
from r3d.models.base import VideoModel


def build_model(
    *,
    model: str,
    model_depth: int,
    n_classes: int,
    n_input_channels: int = 3,
    conv1_t_size: int = 7,
    conv1_t_stride: int = 1,
    no_max_pool: bool = False,
    resnet_shortcut: str = "B",
    resnet_widen_factor: float = 1.0,
    wide_resnet_k: int = 2,
    resnext_cardinality: int = 32,
) -> VideoModel:
    """Build a network with freshly drawn weights; the options are those of `Architecture`.

    Returns:
        A module from clips (b, n_input_channels, t, h, w) of any size to class scores before the
        softmax (b, n_classes). Parameter names, shapes and order are the reference's.

    Raises:
        InputError: if a value is not accepted, or the family does not have the option.
    """
    architecture = Architecture(
        model=model,
        model_depth=model_depth,
        n_classes=n_classes,
        n_input_channels=n_input_channels,
        conv1_t_size=conv1_t_size,
        conv1_t_stride=conv1_t_stride,
        no_max_pool=no_max_pool,
        resnet_shortcut=resnet_shortcut,
        resnet_widen_factor=resnet_widen_factor,
        wide_resnet_k=wide_resnet_k,
        resnext_cardinality=resnext_cardinality,
    )
    # Found by name, so that the table in r3d.models.architectures is the only list of families.
    return import_module(f"r3d.models.families.{model}").build(architecture)


def create_model(model: str, *, depth: int, n_classes: int, **options: Any) -> VideoModel:
    """Build a network of a family with freshly drawn weights.

    >>> import r3d
    >>> import torch
    >>> network = r3d.create_model("resnet", depth=18, n_classes=10, no_max_pool=True)
    >>> network(torch.zeros(1, 3, 16, 64, 64)).shape
    torch.Size([1, 10])

    Args:
        model: resnet, resnet2p1d, preresnet, wideresnet, resnext, resnetrs or densenet.
        depth: 10, 18, 34, 50, 101, 152 or 200; 50 and deeper for wideresnet, resnext and resnetrs;
            121, 169, 201 or 264 for densenet.
        n_classes: number of classes.
        options: what else decides the layers, by the names of the config: `n_input_channels` (3),
            `conv1_t_size` (7) and `conv1_t_stride` (1) of the stem, in frames (resnetrs is
            published with 5 and 2), `no_max_pool` (False); `resnet_shortcut` ("B") of all but
            resnetrs and densenet; `resnet_widen_factor` (1.0) of resnet, resnet2p1d, preresnet and
            resnetrs; `wide_resnet_k` (2); `resnext_cardinality` (32).

    Returns:
        A module from clips (b, c, t, h, w) of any size to class scores before the softmax
        (b, n_classes).

    Raises:
        InputError: if a value is not accepted, or the family does not have the option.
        TypeError: for an option that no family has.
    """
    return build_model(model=model, model_depth=depth, n_classes=n_classes, **options)
