"""A 2D SAM's image encoder (ViT-B, 1024 x 1024), the thing 3D networks are faster than; weights do not matter here.

Written from the architecture of Kirillov et al., "Segment Anything" (2023), and Li et al., ViTDet (2022): patch 16,
width 768, 12 blocks of which 2, 5, 8 and 11 attend globally and the others in windows of 14 x 14, relative positions
along both axes, and a neck of two convolutions.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Sam2DEncoder"]

WIDTH, HEADS, DEPTH, PATCH, WINDOW, NECK = 768, 12, 12, 16, 14, 256
GLOBAL_BLOCKS = (2, 5, 8, 11)


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int, size: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.rows = nn.Parameter(torch.randn(2 * size - 1, width // heads) * 0.02)
        self.columns = nn.Parameter(torch.randn(2 * size - 1, width // heads) * 0.02)

    def forward(self, x: Tensor) -> Tensor:
        """(B, S, S, C) -> the same shape."""
        b, s, _, c = x.shape
        q, k, v = self.qkv(x).reshape(b, s * s, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        steps = torch.arange(s, device=x.device)
        offsets = steps[:, None] - steps[None, :] + s - 1
        grid = q.reshape(b, self.heads, s, s, -1)
        rows = torch.einsum("bhyxc,ykc->bhyxk", grid, self.rows[offsets])
        columns = torch.einsum("bhyxc,xkc->bhyxk", grid, self.columns[offsets])
        # (B, heads, S, S, S, S) -> (B, heads, N, N)
        bias = (rows[..., :, None] + columns[..., None, :]).reshape(b, self.heads, s * s, s * s)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype))
        projected: Tensor = self.proj(out.transpose(1, 2).reshape(b, s, s, c))
        return projected


class _Block(nn.Module):
    def __init__(self, width: int, heads: int, grid: int, window: int) -> None:
        super().__init__()
        self.window = window
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.attention = _Attention(width, heads, window or grid)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        """(B, S, S, C) -> the same shape."""
        y = self.norm1(x)
        attended = self._in_windows(y) if self.window else self.attention(y)
        x = x + attended
        out: Tensor = x + self.mlp(self.norm2(x))
        return out

    def _in_windows(self, x: Tensor) -> Tensor:
        b, size, _, c = x.shape
        w = self.window
        n = -(-size // w)
        x = F.pad(x, (0, 0, 0, n * w - size, 0, n * w - size))
        # (B, n, w, n, w, C) -> (B n n, w, w, C) and back
        x = x.reshape(b, n, w, n, w, c).transpose(2, 3).reshape(b * n * n, w, w, c)
        x = self.attention(x).reshape(b, n, n, w, w, c).transpose(2, 3).reshape(b, n * w, n * w, c)
        return x[:, :size, :size]


class Sam2DEncoder(nn.Module):
    """(B, 3, S, S) slices -> (B, NECK, S / 16, S / 16); 89 M parameters at the published size.

    Args:
        image_size: pixels along each side.
        depth: blocks; fewer for a trial run.
    """

    def __init__(self, image_size: int = 1024, depth: int = DEPTH) -> None:
        super().__init__()
        grid = image_size // PATCH
        self.image_size = image_size
        self.embed = nn.Conv2d(3, WIDTH, PATCH, PATCH)
        self.position = nn.Parameter(torch.zeros(1, grid, grid, WIDTH))
        self.blocks = nn.ModuleList(
            _Block(WIDTH, HEADS, grid, 0 if index in GLOBAL_BLOCKS else WINDOW) for index in range(depth)
        )
        self.neck = nn.Sequential(
            nn.Conv2d(WIDTH, NECK, 1, bias=False),
            nn.GroupNorm(1, NECK),
            nn.Conv2d(NECK, NECK, 3, padding=1, bias=False),
        )

    def forward(self, slices: Tensor) -> Tensor:
        """Encode slices, as a 2D SAM has to before it can be prompted."""
        x = self.embed(slices).permute(0, 2, 3, 1) + self.position
        for block in self.blocks:
            x = block(x)
        out: Tensor = self.neck(x.permute(0, 3, 1, 2))
        return out
