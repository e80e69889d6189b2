"""Building blocks shared by encoder and decoder."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...kernels.dispatch import sparse_attention_3d
from ...kernels.sparse_attention import dense_attention_3d
from ..layers import FullPrecisionConv3d

__all__ = [
    "Conv3d",
    "ResidualBlock",
    "TrunkBlock",
    "channels_last",
    "depth_to_space",
    "no_autocast",
    "space_to_depth",
    "upsample",
]

HAS_ONEDNN = bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]


class Conv3d(nn.Conv3d):
    """A convolution that goes through oneDNN on the CPU whatever its size.

    In float32 torch leaves batches of one with B C D H <= 20480 to its own loops, as if the last axis were not there:
    16 -> 16 channels at 32^3 take 28 ms on one Zen 4 core, with oneDNN 5 ms.
    """

    def forward(self, x: Tensor) -> Tensor:
        """As `nn.Conv3d`."""
        single = x.dtype == self.weight.dtype == torch.float32 and not torch.is_autocast_enabled(x.device.type)
        if single and HAS_ONEDNN and x.device.type == "cpu" and isinstance(self.padding, tuple):
            return torch.mkldnn_convolution(
                x, self.weight, self.bias, self.padding, self.stride, self.dilation, self.groups
            )
        return super().forward(x)


def channels_last(x: Tensor) -> Tensor:
    """The same numbers; on the CPU the channels of a voxel lie next to each other, and later layers keep that order.

    On one Zen 4 core, bfloat16, 32^3: convolutions take 15-30 % less time, those with kernels of one a fifth, and
    upsampling a tenth. On GPUs upsampling and normalisation would turn the maps back, so they are left alone.
    """
    if x.device.type != "cpu":
        return x
    if torch.is_autocast_enabled("cpu"):
        x = x.to(torch.get_autocast_dtype("cpu"))  # what the next convolution computes in: half the bytes to turn
    if x.shape[0] > 1:
        return x.contiguous(memory_format=torch.channels_last_3d)
    # (1, C, D, H, W) -> (V, C): a plain transposition, for which torch has a routine twice as fast.
    return x[0].flatten(1).t().contiguous().reshape(1, *x.shape[2:], x.shape[1]).movedim(-1, 1)


def space_to_depth(x: Tensor) -> Tensor:
    """(B, C, D, H, W) -> (B, 8C, D/2, H/2, W/2): each 2x2x2 cube becomes channels."""
    b, c, d, h, w = x.shape
    x = x.reshape(b, c, d // 2, 2, h // 2, 2, w // 2, 2)
    return x.permute(0, 1, 3, 5, 7, 2, 4, 6).reshape(b, c * 8, d // 2, h // 2, w // 2)


def depth_to_space(x: Tensor) -> Tensor:
    """(B, 8C, D, H, W) -> (B, C, 2D, 2H, 2W): the inverse of `space_to_depth`."""
    b, c, d, h, w = x.shape
    x = x.reshape(b, c // 8, 2, 2, 2, d, h, w)
    return x.permute(0, 1, 5, 2, 6, 3, 7, 4).reshape(b, c // 8, 2 * d, 2 * h, 2 * w)


def upsample(x: Tensor) -> Tensor:
    """Trilinear, by two along each axis."""
    return F.interpolate(x, scale_factor=2.0, mode="trilinear", align_corners=False)


class ResidualBlock(nn.Module):
    """x + conv(relu(norm(conv(x)))), starting as the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = Conv3d(channels, channels, 3, padding=1, bias=False)
        self.norm = nn.GroupNorm(max(1, channels // 8), channels)
        self.second = Conv3d(channels, channels, 3, padding=1)
        for parameter in self.second.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, D, H, W) -> the same shape."""
        out: Tensor = x + self.second(F.relu(self.norm(self.first(x))))
        return out


class TrunkBlock(nn.Module):
    """Pre-norm transformer block on a feature map; a depthwise convolution tells it where tokens are.

    Args:
        width: channels.
        heads: attention heads.
        attention: False leaves the depthwise convolution and the feed-forward layer only.
        window: tokens per axis of a sparse attention group; 0 for dense attention.

    Raises:
        ValueError: heads that the channels cannot be shared out among, or a single one for sparse attention.
    """

    def __init__(self, width: int, heads: int, attention: bool = True, window: int = 0) -> None:
        super().__init__()
        if attention and (width % heads or (window and heads < 2)):
            kind = "sparse" if window else "dense"
            raise ValueError(f"{width} channels do not go with {heads} heads of {kind} attention")
        self.heads, self.window, self.attention = heads, window, attention
        self.position = FullPrecisionConv3d(width, width, 3, padding=1, groups=width)
        if attention:
            self.norm1 = nn.LayerNorm(width)
            self.qkv = nn.Linear(width, 3 * width)
            self.out = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.expand = nn.Linear(width, 3 * width)
        self.contract = nn.Linear(3 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, d, h, w) -> the same shape."""
        x = x.float()
        x = x + self.position(x)
        b, c, d, h, w = x.shape
        tokens = x.movedim(1, -1).reshape(b, d * h * w, c)
        if self.attention:
            tokens = tokens + self.out(self._attend(self.norm1(tokens), (d, h, w)))
        tokens = tokens + self.contract(F.gelu(self.expand(self.norm2(tokens))))
        out: Tensor = tokens.reshape(b, d, h, w, c).movedim(-1, 1)  # channels last, without copying
        return out

    def _attend(self, tokens: Tensor, grid: tuple[int, int, int]) -> Tensor:
        b, n, c = tokens.shape
        q, k, v = self.qkv(tokens).reshape(b, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        out = sparse_attention_3d(q, k, v, grid, self.window) if self.window else dense_attention_3d(q, k, v)
        return out.transpose(1, 2).reshape(b, n, c)


def no_autocast(x: Tensor) -> torch.autocast:
    """Context in which `x`'s device computes in float32."""
    return torch.autocast(x.device.type, enabled=False)
