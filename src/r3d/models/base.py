"""What all networks share: how they are initialised, frozen and given a new head."""

import dataclasses

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from r3d.errors import InputError
from r3d.models.architectures import FAMILIES, Architecture, begin_modules


class VideoModel(nn.Module):
    """A network from clips (b, c, t, h, w) to class scores before the softmax (b, n_classes)."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture

    def train(self, mode: bool = True) -> "VideoModel":
        """Set the training mode; batch norms with frozen parameters stay in evaluation mode.

        Else their running statistics would drift to the new data although their layers are meant
        to stay as they were. For the same reason no block of frozen layers is left out of a clip.
        """
        super().train(mode)
        for module in self.modules():
            if isinstance(module, _BatchNorm) and not module.weight.requires_grad:
                module.eval()
            elif not any(parameter.requires_grad for parameter in module.parameters()):
                for part in module.children():
                    if isinstance(part, StochasticDepth):
                        part.eval()
        return self

    def depth_shares(self) -> list[float]:
        """Of the rate of stochastic depth, the share of each block: it grows with the depth."""
        n_blocks = sum(self.architecture.blocks)
        return [place / n_blocks for place in range(1, n_blocks + 1)]


class StochasticDepth(nn.Module):
    """What a block adds to its input, left out for some of the clips in training.

    Huang et al., Deep Networks with Stochastic Depth, ECCV 2016. Each clip of a batch is decided
    upon by itself; where a block is kept it counts for more, so that the mean stays as it is in
    evaluation, in which nothing is left out. By how much is rounded as `x` is: in bf16 to 0.2 %.

    Attributes:
        rate: how likely a block is left out, 0 to below 1.
    """

    rate = 0.0

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return x
        kept = x.new_empty((x.shape[0], 1, 1, 1, 1)).bernoulli_(1 - self.rate)
        return x * kept.div_(1 - self.rate)


class Conv3d(nn.Conv3d):
    """A convolution that is right and fast on the CPU for small inputs and small kernels too.

    There, oneDNN reads beyond its buffers where kernels reach over the input's ends, as in the
    third stage of a ResNet, which sees 2 of 16 frames: the gradient is noise or NaN, or the process
    dies (torch 2.15 in bf16, with a stride in time in fp32 too, in any memory layout). Zeros put
    around the input beforehand avoid that and change no result. Where the input has one frame, row
    or column, only the middle of the kernel meets it, and the rest is left out of the computation:
    the last stages, which see one frame of 16, then take a third of the time.

    In fp32, on one thread and with less than 16 clips, torch gives kernels of one column and no
    stride to an implementation that takes 1.5 to 4 times as long as oneDNN, but never those with
    gaps. So they get a gap that lies between no columns.
    """

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu" or torch.compiler.is_exporting():
            return super().forward(x)
        assert not isinstance(self.padding, str)
        weight, padding, dilation = self.weight, self.padding, self.dilation
        sizes = list(zip(x.shape[2:], self.kernel_size, strict=True))
        if torch.is_grad_enabled() and any(size <= kernel and kernel > 1 for size, kernel in sizes):
            rest = list(padding)
            for axis, (size, kernel) in enumerate(sizes):
                if size == 1 and kernel == 2 * rest[axis] + 1:
                    weight = weight.narrow(2 + axis, rest[axis], 1)
                    rest[axis] = 0
            # Two numbers a dimension, from the last (w) to time.
            x = functional.pad(x, [size for size in reversed(rest) for _ in range(2)])
            padding = (0, 0, 0)
        if weight.shape[4] == 1 and self.stride == (1, 1, 1):
            dilation = (dilation[0], dilation[1], 2)
        return functional.conv3d(x, weight, self.bias, self.stride, padding, dilation, self.groups)


class BatchNorm3d(nn.BatchNorm3d):
    """Batch norm that also trains on a single value a channel: a small clip by itself, deep down.

    One value has no variance, so there it is normalised as in evaluation, by the running
    statistics, which stay as they are.

    Attributes:
        n_parts: parts of a training batch that are normalised each by itself, of as many clips as
            the others or one fewer.
    """

    n_parts = 1

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.n_parts == 1:
            return self._normalised(x)
        # Not `tensor_split`: the gradient of each of its parts is as large as the whole.
        least, more = divmod(len(x), self.n_parts)
        sizes = [least + 1] * more + [least] * (self.n_parts - more)
        return torch.cat([self._normalised(part) for part in x.split(sizes)])

    def _normalised(self, x: Tensor) -> Tensor:
        if not self.training or x.numel() > x.shape[1]:
            return super().forward(x)
        return functional.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
        )


def initialise(model: nn.Module) -> None:
    """Draw the convolutions as He et al. 2015 do (fan out); batch norms begin as the identity."""
    for module in model.modules():
        if isinstance(module, nn.Conv3d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.BatchNorm3d):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)


class GlobalAverage(nn.Module):
    """The mean over time and space, (b, c, t, h, w) to (b, c), so that clips may have any size.

    A plain mean, for the gradient of adaptive pooling is not deterministic on CUDA.
    """

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=(2, 3, 4))


def regularise(model: VideoModel, *, dropout: float, stochastic_depth: float) -> None:
    """Leave out parts of the network at random in training: neither has any weights.

    Args:
        dropout: share of the features that the last layer does not see.
        stochastic_depth: how likely the last block is left out; in a DenseNet the last layer.
    """
    drop = model.get_submodule("dropout")
    assert isinstance(drop, nn.Dropout)
    drop.p = dropout
    blocks = [module for module in model.modules() if isinstance(module, StochasticDepth)]
    for block, share in zip(blocks, model.depth_shares(), strict=True):
        block.rate = stochastic_depth * share


def head_name(model: VideoModel) -> str:
    """The name of the last, linear layer: `fc`, in a DenseNet `classifier`."""
    return FAMILIES[model.architecture.model].head


def head_of(model: VideoModel) -> nn.Linear:
    """The last layer, from features (b, c) to class scores."""
    head = model.get_submodule(head_name(model))
    assert isinstance(head, nn.Linear)
    return head


def replace_head(model: VideoModel, n_classes: int) -> None:
    """Put a freshly drawn last layer of `n_classes` outputs in place of the present one."""
    architecture = dataclasses.replace(model.architecture, n_classes=n_classes)
    weight = head_of(model).weight
    head = nn.Linear(weight.shape[1], n_classes, device=weight.device, dtype=weight.dtype)
    setattr(model, head_name(model), head)
    model.architecture = architecture


def remove_head(model: VideoModel) -> int:
    """Leave out the last layer: the network then gives what went into it, (b, n); return n."""
    weight = model.get_submodule(head_name(model)).weight
    assert isinstance(weight, Tensor)
    setattr(model, head_name(model), nn.Identity())
    return weight.shape[1]


def freeze_before(model: VideoModel, ft_begin_module: str) -> None:
    """Let only the parameters from a module on train, in the order of definition.

    What lies before keeps its values, batch-norm statistics included: from `denseblock2` on,
    `transition1` is frozen and `transition2` trains.

    Args:
        ft_begin_module: one of the family's `begin_modules`; "" trains everything.

    Raises:
        InputError: if the network has no such module.
    """
    accepted = begin_modules(model.architecture.model)
    if ft_begin_module and ft_begin_module not in accepted:
        raise InputError(
            f"ft_begin_module: {ft_begin_module!r} is not a module of {model.architecture.model}; "
            f"accepted: {', '.join(accepted)} or '' (train everything)"
        )
    begun = not ft_begin_module
    for name, parameter in model.named_parameters():
        module = name.removeprefix("features.").split(".")[0]
        # conv1 is the name for conv1_s, too, the first of two convolutions in the stem of R(2+1)D.
        begun = begun or ft_begin_module in (module, module.removesuffix("_s"))
        parameter.requires_grad_(begun)
    model.train(model.training)
