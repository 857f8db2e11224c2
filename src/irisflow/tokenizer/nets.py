"""The convolutional encoder and decoder of the tokenizer: VQGAN's blocks. IRIS, appendix A.

On a CPU maps lie channels last, as the kernels want them; `layout` of encoder and decoder names one for all.
In the layout `torch.contiguous_format` everything is computed plainly: it is the oracle of the fast ways.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from omegaconf import DictConfig
from torch import Tensor, nn

from irisflow.attention import attention
from irisflow.convolution import Conv3x3, Halving
from irisflow.dropout import Dropout
from irisflow.errors import ConfigError
from irisflow.kernels.use import has_kernels, is_channels_last
from irisflow.schema import NetConfig
from irisflow.tokenizer.group_norm import GroupNorm

Map = Float[Tensor, "batch channels height width"]
NewMap = Float[Tensor, "batch new_channels new_height new_width"]

BYTES_AT_ONCE = 2**21  # of the largest maps without gradient; those of a few images stay in the cache


def group_norm(channels: int) -> GroupNorm:
    """Return the normalisation of a map: 32 groups, or one per channel where there are fewer.

    Raises ConfigError if the channels do not divide into the groups.
    """
    groups = min(32, channels)
    if channels % groups:
        raise ConfigError(
            f"tokenizer.*.config.ch x ch_mult: {channels} channels do not divide into {groups} groups."
            " Allowed: up to 32, or a multiple of 32."
        )
    return GroupNorm(groups, channels, eps=1e-6)


def laid_out(maps: Map, layout: torch.memory_format | None) -> Map:
    """Return the same maps in a layout; None is that of the kernels where there are some."""
    if layout is None:
        has_own = maps.device.type == "cpu" and has_kernels()
        layout = torch.channels_last if has_own else torch.contiguous_format
    return maps.contiguous(memory_format=layout)


def in_pieces(part: Callable[[Map], NewMap], maps: Map, *, channels: int) -> NewMap:
    """Return what a part of a net, whose maps are the largest, makes of maps: of a few images at a time without gradient."""
    if torch.is_grad_enabled() or not is_channels_last(maps):
        return part(maps)
    num_images = max(1, BYTES_AT_ONCE // (channels * maps[0, 0].nbytes))
    return torch.cat([part(piece) for piece in torch.split(maps, num_images)])


class ResidualBlock(nn.Module):
    """Two normalised convolutions beside a shortcut (1x1 where the width changes)."""

    def __init__(self, in_channels: int, out_channels: int, *, dropout: float) -> None:
        super().__init__()
        self.norm1 = group_norm(in_channels)
        self.conv1 = Conv3x3(in_channels, out_channels)
        self.norm2 = group_norm(out_channels)
        self.dropout = Dropout(dropout)
        self.conv2 = Conv3x3(out_channels, out_channels)
        same = in_channels == out_channels
        self.shortcut = nn.Identity() if same else nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Map) -> NewMap:
        """Return the map at the new width."""
        hidden = self.conv1(self.norm1.silu(x))
        return self.conv2.added(self.dropout(self.norm2.silu(hidden)), to=self.shortcut(x))


class AttentionBlock(nn.Module):
    """Single-head self-attention over the positions of a map, beside a shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = group_norm(channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Map) -> Map:
        """Return a map of the same shape."""
        batch, channels, height, width = x.shape
        positions = self.norm(x).permute(0, 2, 3, 1).reshape(batch, 1, height * width, channels)
        query, key, value = F.linear(positions, self.qkv.weight.flatten(1), self.qkv.bias).chunk(3, dim=-1)
        attended = attention(query, key, value)
        mixed = F.linear(attended, self.out.weight.flatten(1), self.out.bias)
        maps = mixed.view(batch, height, width, channels).permute(0, 3, 1, 2)
        return x + (maps if is_channels_last(x) else maps.contiguous())


class Downsample(nn.Module):
    """Half the resolution; the zero padding is on the right and at the bottom only."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.down = Halving(channels)

    def forward(self, x: Map) -> NewMap:
        """Return the map at half the resolution."""
        smaller: Tensor = self.down(x)
        return smaller


class Upsample(nn.Module):
    """Twice the resolution: nearest neighbours, then a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.up = Conv3x3(channels, channels)

    def forward(self, x: Map) -> NewMap:
        """Return the map at twice the resolution."""
        return self.up.doubled(x)


class Level(nn.Module):
    """The blocks at one resolution, then a change of resolution if there is one."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        num_blocks: int,
        has_attention: bool,
        dropout: float,
        resample: nn.Module | None,
    ) -> None:
        super().__init__()
        if not num_blocks and in_channels != out_channels:
            raise ConfigError(
                f"tokenizer.*.config.num_res_blocks: 0 blocks cannot change {in_channels} channels to {out_channels}."
                " Allowed: 1 or more, or 0 with every ch_mult the same."
            )
        widths = ([in_channels] + [out_channels] * num_blocks)[:num_blocks]
        self.blocks = nn.ModuleList(ResidualBlock(width, out_channels, dropout=dropout) for width in widths)
        self.attentions = nn.ModuleList(
            AttentionBlock(out_channels) for _ in range(num_blocks * has_attention)
        )
        self.resample = nn.Identity() if resample is None else resample

    def forward(self, x: Map) -> NewMap:
        """Return the map at the next level's resolution."""
        for index, block in enumerate(self.blocks):
            x = block(x)
            if len(self.attentions):
                x = self.attentions[index](x)
        resampled: Tensor = self.resample(x)
        return resampled


def middle(channels: int, dropout: float) -> nn.Sequential:
    """Return the blocks at the lowest resolution, the same in encoder and decoder."""
    return nn.Sequential(
        ResidualBlock(channels, channels, dropout=dropout),
        AttentionBlock(channels),
        ResidualBlock(channels, channels, dropout=dropout),
    )


class Encoder(nn.Module):
    """Images in [-1, 1] to a map of `z_channels`; each level but the last halves the resolution."""

    layout: torch.memory_format | None = None

    def __init__(self, config: NetConfig | DictConfig) -> None:
        super().__init__()
        widths = [config.ch * multiple for multiple in config.ch_mult]
        self.conv_in = nn.Conv2d(config.in_channels, config.ch, 3, padding=1)
        self.levels = nn.ModuleList(
            Level(
                widths[index - 1] if index else config.ch,
                width,
                num_blocks=config.num_res_blocks,
                has_attention=config.resolution >> index in config.attn_resolutions,
                dropout=config.dropout,
                resample=Downsample(width) if index < len(widths) - 1 else None,
            )
            for index, width in enumerate(widths)
        )
        self.middle = middle(widths[-1], config.dropout)
        self.norm_out = group_norm(widths[-1])
        self.conv_out = Conv3x3(widths[-1], config.z_channels)

    def forward(self, images: Float[Tensor, "batch 3 height width"]) -> NewMap:
        """Return the map of continuous latents, `z_channels` wide."""
        hidden = in_pieces(self._begun, laid_out(images, self.layout), channels=self.conv_in.out_channels)
        for level in self.levels[1:]:
            hidden = level(hidden)
        latents: Tensor = self.conv_out(self.norm_out.silu(self.middle(hidden)))
        return latents

    def _begun(self, images: Float[Tensor, "batch 3 height width"]) -> NewMap:
        """Return what the first level makes of images."""
        begun: Tensor = self.levels[0](self.conv_in(images))
        return begun


class Decoder(nn.Module):
    """A map of `z_channels` to images; `levels[0]` is the highest resolution and runs last."""

    layout: torch.memory_format | None = None

    def __init__(self, config: NetConfig | DictConfig) -> None:
        super().__init__()
        widths = [config.ch * multiple for multiple in config.ch_mult]
        self.conv_in = Conv3x3(config.z_channels, widths[-1])
        self.middle = middle(widths[-1], config.dropout)
        self.levels = nn.ModuleList(
            Level(
                widths[min(index + 1, len(widths) - 1)],
                width,
                num_blocks=config.num_res_blocks + 1,
                has_attention=config.resolution >> index in config.attn_resolutions,
                dropout=config.dropout,
                resample=Upsample(width) if index else None,
            )
            for index, width in enumerate(widths)
        )
        self.norm_out = group_norm(widths[0])
        self.conv_out = Conv3x3(widths[0], config.out_ch)

    def forward(self, latents: Map) -> Float[Tensor, "batch 3 full_height full_width"]:
        """Return images, meant for [-1, 1] but not squashed."""
        hidden = self.middle(self.conv_in(laid_out(latents, self.layout)))
        for level in reversed(self.levels[1:]):
            hidden = level(hidden)
        return in_pieces(self._finished, hidden, channels=hidden.shape[1])

    def _finished(self, hidden: Map) -> Float[Tensor, "batch 3 full_height full_width"]:
        """Return images from what the last level is given."""
        images: Tensor = self.conv_out(self.norm_out.silu(self.levels[0](hidden)))
        return images
