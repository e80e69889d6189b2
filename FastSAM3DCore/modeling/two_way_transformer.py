"""The decoder's transformer: prompt tokens and image tokens attend to each other."""

from __future__ import annotations

from torch import Tensor, nn

from ..kernels.dense_attention import attend
from .layers import Mlp

__all__ = ["CrossAttention", "TwoWayLayer", "TwoWayTransformer"]

DECODER_LAYERS = 2
CROSS_DOWNSAMPLE = 2
"""Cross attentions work at half the token width."""


class CrossAttention(nn.Module):
    """Multi-head attention with separate projections of queries, keys and values."""

    def __init__(self, dim: int, heads: int, inner_dim: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(dim, inner_dim)
        self.k_proj = nn.Linear(dim, inner_dim)
        self.v_proj = nn.Linear(dim, inner_dim)
        self.out_proj = nn.Linear(inner_dim, dim)

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """(B, Nq, dim), (B, Nk, dim), (B, Nk, dim) -> (B, Nq, dim)."""
        # (B, N, inner) -> (B, heads, N, inner / heads)
        q, k, v = (
            proj(x).reshape(*x.shape[:2], self.heads, -1).transpose(1, 2)
            for proj, x in ((self.q_proj, query), (self.k_proj, key), (self.v_proj, value))
        )
        out: Tensor = self.out_proj(attend(q, k, v).transpose(1, 2).flatten(2))
        return out


class TwoWayLayer(nn.Module):
    """Tokens to tokens, tokens to image, MLP, image to tokens; normalised after each residual.

    Args:
        first: the first layer replaces the tokens by their self-attention, without positions or residual.
    """

    def __init__(self, dim: int, heads: int, mlp_dim: int, first: bool) -> None:
        super().__init__()
        self.first = first
        self.self_attn = CrossAttention(dim, heads, dim)
        self.norm1 = nn.LayerNorm(dim)
        self.cross_attn_token_to_image = CrossAttention(dim, heads, dim // CROSS_DOWNSAMPLE)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, mlp_dim, nn.ReLU())
        self.norm3 = nn.LayerNorm(dim)
        self.norm4 = nn.LayerNorm(dim)
        self.cross_attn_image_to_token = CrossAttention(dim, heads, dim // CROSS_DOWNSAMPLE)

    def forward(self, tokens: Tensor, image: Tensor, initial: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """One round.

        Args:
            tokens: (B, T, dim).
            image: (B, N, dim).
            initial: (B, T, dim) tokens before the first layer; they serve as the tokens' positions.
            positions: (N, dim) positions of the image tokens.
        """
        if self.first:
            tokens = self.self_attn(tokens, tokens, tokens)
        else:
            query = tokens + initial
            tokens = tokens + self.self_attn(query, query, tokens)
        tokens = self.norm1(tokens)
        placed = image + positions
        tokens = self.norm2(tokens + self.cross_attn_token_to_image(tokens + initial, placed, image))
        tokens = self.norm3(tokens + self.mlp(tokens))
        image = self.norm4(image + self.cross_attn_image_to_token(placed, tokens + initial, tokens))
        return tokens, image


class TwoWayTransformer(nn.Module):
    """Two rounds of `TwoWayLayer` and a last look of the tokens at the image."""

    def __init__(self, dim: int, heads: int, mlp_dim: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(TwoWayLayer(dim, heads, mlp_dim, first=i == 0) for i in range(DECODER_LAYERS))
        self.final_attn_token_to_image = CrossAttention(dim, heads, dim // CROSS_DOWNSAMPLE)
        self.norm_final_attn = nn.LayerNorm(dim)

    def forward(self, image: Tensor, positions: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """(B, N, dim) image, (N, dim) positions, (B, T, dim) tokens -> tokens and image, same shapes."""
        initial = tokens
        for layer in self.layers:
            tokens, image = layer(tokens, image, initial, positions)
        seen = self.final_attn_token_to_image(tokens + initial, image + positions, image)
        return self.norm_final_attn(tokens + seen), image
