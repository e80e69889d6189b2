"""The published networks written down plainly: real zero padding of windows, explicit softmax, no shortcuts.

State-dict names equal those of `FastSAM3DCore.modeling`, so the same weights load into both. Nothing here is
optimised and nothing is shared with the product: it is what the product is compared with, in numbers and in time.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from FastSAM3DCore.modeling.config import Sam3DConfig


class LayerNorm3d(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(dim=1, keepdim=True)
        variance = ((x - mean) ** 2).mean(dim=1, keepdim=True)
        x = (x - mean) / torch.sqrt(variance + 1e-6)
        return x * self.weight[None, :, None, None, None] + self.bias[None, :, None, None, None]


class PlainMlp(nn.Module):
    def __init__(self, dim: int, hidden: int, activation: nn.Module) -> None:
        super().__init__()
        self.lin1, self.lin2, self.act = nn.Linear(dim, hidden), nn.Linear(hidden, dim), activation

    def forward(self, x: Tensor) -> Tensor:
        return self.lin2(self.act(self.lin1(x)))


class PlainAttention(nn.Module):
    """Global attention over a cube of tokens with the published (index-shifted) relative position."""

    def __init__(self, dim: int, heads: int, size: int) -> None:
        super().__init__()
        self.heads, self.size = heads, size
        for axis in "dhw":
            setattr(self, f"rel_pos_{axis}", nn.Parameter(torch.zeros(2 * size - 1, dim // heads)))
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        b, n, _, _, dim = x.shape
        head_dim = dim // self.heads
        qkv = self.qkv(x).reshape(b, n**3, 3, self.heads, head_dim).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.reshape(3, b * self.heads, n**3, head_dim)
        logits = (q * head_dim**-0.5) @ k.transpose(1, 2)
        index = torch.arange(n)[:, None] - torch.arange(n)[None, :] + n - 1
        cube = q.reshape(-1, n, n, n, head_dim)
        t1 = torch.einsum("bxyzc,xkc->bxyzk", cube, self.rel_pos_d[index])
        t2 = torch.einsum("bxyzc,ykc->bxyzk", cube, self.rel_pos_h[index])
        t3 = torch.einsum("bxyzc,zkc->bxyzk", cube, self.rel_pos_w[index])
        logits = logits.view(-1, n, n, n, n, n, n)  # q0 q1 q2 k0 k1 k2
        logits = logits + t1[:, :, :, :, None, None, :]
        logits = logits + t2[:, :, :, None, :, None, :]
        logits = logits + t3[:, :, :, None, None, :, :]
        attention = logits.reshape(-1, n**3, n**3).softmax(dim=-1)
        out = (attention @ v).reshape(b, self.heads, n, n, n, head_dim).permute(0, 2, 3, 4, 1, 5)
        return self.proj(out.reshape(b, n, n, n, dim))


class PlainBlock(nn.Module):
    def __init__(self, config: Sam3DConfig, index: int) -> None:
        super().__init__()
        self.residual = config.residual
        self.has_attention = index >= config.skip_blocks
        self.window = 0
        if self.has_attention:
            size = config.window_of(index)
            self.window = 0 if size == config.grid else size
            self.norm1 = nn.LayerNorm(config.dim, eps=1e-6)
            self.attn = PlainAttention(config.dim, config.heads, size)
        self.norm2 = nn.LayerNorm(config.dim, eps=1e-6)
        self.mlp = PlainMlp(config.dim, config.mlp_dim, nn.GELU())

    def attend(self, x: Tensor) -> Tensor:
        if not self.window:
            return self.attn(x)
        b, n, _, _, dim = x.shape
        w = self.window
        pad = (w - n % w) % w
        x = F.pad(x, (0, 0, 0, pad, 0, pad, 0, pad))
        m = (n + pad) // w
        windows = x.view(b, m, w, m, w, m, w, dim).permute(0, 1, 3, 5, 2, 4, 6, 7).reshape(-1, w, w, w, dim)
        out = self.attn(windows).view(b, m, m, m, w, w, w, dim).permute(0, 1, 4, 2, 5, 3, 6, 7)
        return out.reshape(b, n + pad, n + pad, n + pad, dim)[:, :n, :n, :n]

    def forward(self, x: Tensor) -> Tensor:
        if self.has_attention:
            x = x + self.attend(self.norm1(x))
        y = self.norm2(x)
        return (y if self.residual == "normed" else x) + self.mlp(y)


class PlainPatchEmbed(nn.Module):
    def __init__(self, patch: int, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv3d(1, dim, patch, stride=patch)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x).permute(0, 2, 3, 4, 1)


class PlainImageEncoder(nn.Module):
    def __init__(self, config: Sam3DConfig) -> None:
        super().__init__()
        g = config.grid
        self.pos_embed = nn.Parameter(torch.zeros(1, g, g, g, config.dim))
        self.patch_embed = PlainPatchEmbed(config.patch_size, config.dim)
        self.blocks = nn.ModuleList(PlainBlock(config, index) for index in range(config.depth))
        self.neck = nn.Sequential(
            nn.Conv3d(config.dim, config.neck_dim, 1, bias=False),
            LayerNorm3d(config.neck_dim),
            nn.Conv3d(config.neck_dim, config.neck_dim, 3, padding=1, bias=False),
            LayerNorm3d(config.neck_dim),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch_embed(x) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return self.neck(x.permute(0, 4, 1, 2, 3))


class PlainPositions(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("positional_encoding_gaussian_matrix", torch.zeros(3, dim // 3))

    def forward(self, positions: Tensor) -> Tensor:
        a = 2 * math.pi * ((2 * positions - 1) @ self.positional_encoding_gaussian_matrix)
        return torch.cat((torch.sin(a), torch.cos(a), torch.sin(a)), dim=-1)


class PlainPromptEncoder(nn.Module):
    def __init__(self, config: Sam3DConfig) -> None:
        super().__init__()
        self.config = config
        dim = config.neck_dim
        self.pe_layer = PlainPositions(dim)
        self.point_embeddings = nn.ModuleList([nn.Embedding(1, dim), nn.Embedding(1, dim)])
        self.not_a_point_embed = nn.Embedding(1, dim)
        self.mask_downscaling = nn.Sequential(
            nn.Conv3d(1, 4, 2, stride=2), LayerNorm3d(4), nn.GELU(),
            nn.Conv3d(4, 16, 2, stride=2), LayerNorm3d(16), nn.GELU(), nn.Conv3d(16, dim, 1),
        )  # fmt: skip
        self.no_mask_embed = nn.Embedding(1, dim)

    def dense_pe(self) -> Tensor:
        cells = (torch.arange(self.config.grid) + 0.5) / self.config.grid
        i, j, k = torch.meshgrid(cells, cells, cells, indexing="ij")
        return self.pe_layer(torch.stack([j, i, k], dim=-1)).permute(3, 0, 1, 2).unsqueeze(0)

    def forward(self, coords: Tensor, labels: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        g, dim = self.config.grid, self.config.neck_dim
        b, count, _ = coords.shape
        sparse = torch.zeros(b, 0, dim)
        if count:
            coords = torch.cat([coords.float() + 0.5, torch.zeros(b, 1, 3)], dim=1)
            labels = torch.cat([labels.float(), -torch.ones(b, 1)], dim=1)
            sparse = self.pe_layer(coords / self.config.image_size)
            sparse[labels == -1] = 0.0
            sparse[labels == -1] += self.not_a_point_embed.weight
            sparse[labels == 0] += self.point_embeddings[0].weight
            sparse[labels == 1] += self.point_embeddings[1].weight
        if mask is None:
            return sparse, self.no_mask_embed.weight.reshape(1, dim, 1, 1, 1).expand(b, dim, g, g, g)
        return sparse, self.mask_downscaling(mask)


class PlainCrossAttention(nn.Module):
    def __init__(self, dim: int, heads: int, inner: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(dim, inner) for _ in range(3))
        self.out_proj = nn.Linear(inner, dim)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = self.q_proj(q), self.k_proj(k), self.v_proj(v)
        b, n, inner = q.shape
        d = inner // self.heads
        q, k, v = (t.reshape(b, -1, self.heads, d).transpose(1, 2) for t in (q, k, v))
        attention = (q @ k.transpose(2, 3) / math.sqrt(d)).softmax(dim=-1)
        return self.out_proj((attention @ v).transpose(1, 2).reshape(b, n, inner))


class PlainTwoWayLayer(nn.Module):
    def __init__(self, config: Sam3DConfig, first: bool) -> None:
        super().__init__()
        dim, heads = config.neck_dim, config.decoder_heads
        self.first = first
        self.self_attn = PlainCrossAttention(dim, heads, dim)
        self.norm1 = nn.LayerNorm(dim)
        self.cross_attn_token_to_image = PlainCrossAttention(dim, heads, dim // 2)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = PlainMlp(dim, config.decoder_mlp_dim, nn.ReLU())
        self.norm3 = nn.LayerNorm(dim)
        self.norm4 = nn.LayerNorm(dim)
        self.cross_attn_image_to_token = PlainCrossAttention(dim, heads, dim // 2)

    def forward(self, q: Tensor, k: Tensor, q0: Tensor, pos: Tensor) -> tuple[Tensor, Tensor]:
        q = self.self_attn(q, q, q) if self.first else q + self.self_attn(q + q0, q + q0, q)
        q = self.norm1(q)
        q = self.norm2(q + self.cross_attn_token_to_image(q + q0, k + pos, k))
        q = self.norm3(q + self.mlp(q))
        k = self.norm4(k + self.cross_attn_image_to_token(k + pos, q + q0, q))
        return q, k


class PlainTransformer(nn.Module):
    def __init__(self, config: Sam3DConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList([PlainTwoWayLayer(config, True), PlainTwoWayLayer(config, False)])
        self.final_attn_token_to_image = PlainCrossAttention(
            config.neck_dim, config.decoder_heads, config.neck_dim // 2
        )
        self.norm_final_attn = nn.LayerNorm(config.neck_dim)

    def forward(self, k: Tensor, pos: Tensor, q0: Tensor) -> tuple[Tensor, Tensor]:
        q = q0
        for layer in self.layers:
            q, k = layer(q, k, q0, pos)
        return self.norm_final_attn(q + self.final_attn_token_to_image(q + q0, k + pos, k)), k


class PlainHead(nn.Module):
    def __init__(self, *dims: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(dims))

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.layers[0](x))
        x = F.relu(self.layers[1](x))
        return self.layers[2](x)


class PlainMaskDecoder(nn.Module):
    def __init__(self, config: Sam3DConfig) -> None:
        super().__init__()
        dim = config.neck_dim
        self.transformer = PlainTransformer(config)
        self.iou_token, self.mask_tokens = nn.Embedding(1, dim), nn.Embedding(4, dim)
        self.output_upscaling = nn.Sequential(
            nn.ConvTranspose3d(dim, dim // 4, 2, stride=2), LayerNorm3d(dim // 4), nn.GELU(),
            nn.ConvTranspose3d(dim // 4, dim // 8, 2, stride=2), nn.GELU(),
        )  # fmt: skip
        self.output_hypernetworks_mlps = nn.ModuleList(PlainHead(dim, dim, dim, dim // 8) for _ in range(4))
        self.iou_prediction_head = PlainHead(dim, config.iou_hidden_dim, config.iou_hidden_dim, 4)

    def forward(self, src: Tensor, pe: Tensor, sparse: Tensor, multimask: bool) -> tuple[Tensor, Tensor]:
        b, dim, g, _, _ = src.shape
        own = torch.cat([self.iou_token.weight, self.mask_tokens.weight]).unsqueeze(0).repeat(b, 1, 1)
        q, k = self.transformer(
            src.flatten(2).permute(0, 2, 1), pe.flatten(2).permute(0, 2, 1), torch.cat([own, sparse], dim=1)
        )
        upscaled = self.output_upscaling(k.transpose(1, 2).reshape(b, dim, g, g, g))
        kernels = torch.stack([mlp(q[:, 1 + i]) for i, mlp in enumerate(self.output_hypernetworks_mlps)], dim=1)
        masks = torch.einsum("bmc,bcxyz->bmxyz", kernels, upscaled)
        iou = self.iou_prediction_head(q[:, 0])
        return (masks[:, 1:], iou[:, 1:]) if multimask else (masks[:, :1], iou[:, :1])


class PlainSam3D(nn.Module):
    """`encode` and `decode` as the product's `Sam3D`."""

    def __init__(self, config: Sam3DConfig) -> None:
        super().__init__()
        self.image_encoder = PlainImageEncoder(config)
        self.prompt_encoder = PlainPromptEncoder(config)
        self.mask_decoder = PlainMaskDecoder(config)

    def encode(self, image: Tensor) -> Tensor:
        return self.image_encoder(image)

    def decode(
        self, embedding: Tensor, coords: Tensor, labels: Tensor, mask: Tensor | None, multimask: bool = False
    ) -> tuple[Tensor, Tensor]:
        sparse, dense = self.prompt_encoder(coords, labels, mask)
        pe = self.prompt_encoder.dense_pe()
        if embedding.shape[0] != sparse.shape[0]:
            embedding = torch.repeat_interleave(embedding, sparse.shape[0], dim=0)
        return self.mask_decoder(embedding + dense, pe, sparse, multimask)
