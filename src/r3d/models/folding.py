"""Batch norms as part of the convolutions before them: less to compute in inference."""

from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from r3d.models.base import BatchNorm3d, Conv3d, VideoModel
from r3d.models.families.densenet import Transition

# Not looked into, as what they do depends on the size of the input. A transition has nothing to
# fold: it normalises before it convolves.
_LEAVES = (Conv3d, BatchNorm3d, Transition)


def fold_batch_norms(network: VideoModel) -> None:
    """Multiply each batch norm that directly follows a convolution into its weights, in place.

    With fixed statistics a batch norm is a factor and a shift for each channel, so scores stay the
    same to rounding. The network is of use for inference only afterwards: it has fewer parameters
    than its checkpoints.
    """
    network.eval()
    for node in _Tracer().trace(network).nodes:
        norm = _module(network, node)
        if not isinstance(norm, BatchNorm3d):
            continue
        before = node.args[0]
        conv = _module(network, before)
        if not isinstance(conv, Conv3d) or len(before.users) > 1:
            continue
        assert norm.running_mean is not None
        assert norm.running_var is not None
        conv.weight, conv.bias = fuse_conv_bn_weights(
            conv.weight,
            conv.bias,
            norm.running_mean,
            norm.running_var,
            norm.eps,
            norm.weight,
            norm.bias,
        )
        network.set_submodule(str(node.target), nn.Identity())


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, _LEAVES) or super().is_leaf_module(m, module_qualified_name)


def _module(network: nn.Module, node: fx.Node) -> nn.Module | None:
    return network.get_submodule(str(node.target)) if node.op == "call_module" else None
