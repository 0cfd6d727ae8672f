"""The U-Net of DDPM, NCSN++ and ADM: one module, whose fields choose between them."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from jaxdiff.nets.blocks import Downsample, Modulation, Padding, ResBlock, SelfAttention, Upsample
from jaxdiff.nets.embeddings import TIME_SCALE, Conditioning, OptionalEmbedding
from jaxdiff.nets.layers import Activation, DType, convolution, glorot
from jaxdiff.nets.norm import GroupNorm
from jaxdiff.nets.resampling import BOX, downsample, upsample
from jaxdiff.nets.unet_checks import (
    AttentionUp,
    ProgressiveInput,
    ProgressiveOutput,
    Resampling,
    check_image,
    check_options,
)
from jaxdiff.typing import Array


class UNet(nn.Module):
    """A U-Net for ``[batch, ..., channels]`` with one, two or three axes between.

    :mod:`jaxdiff.nets.architectures` has the published ones by name.

    Args:
        channels: at the first level; a multiple of 4 suits the norms best.
        multipliers: of the channels, one per level; each level after the first halves the image.
        blocks_per_level: residual blocks of a level on the way down; one more on the way up.
        attention_levels: levels, counted from 0, whose blocks are followed by attention.
        middle_attention: whether the middle of the network attends; None, if any level does.
        middle_norm: whether a norm comes before that attention.
        attention_up: on the way up, attention follows "each" block of such a level, or its "last".
        head_dim: channels of one attention head; None for one head.
        modulation: how the noise level enters a block: "shift" or "scale_shift".
        resampling: an image is halved and doubled by a "conv", or inside a residual "block".
        filter: weights for all resampling, that of the progressive input and output included.
        padding: where a "conv" that halves pads its pixel, at the "end" of every axis, as in
            TensorFlow, or at "both" ends, as in PyTorch.
        project: whether a block that resamples projects its skip.
        skip_scale: of every sum of a block and its skip.
        progressive_input: what every level receives of the input: "none"; "residual", the level
            above it, halved by a convolution; the halved input itself, projected and added ("sum")
            or concatenated ("cat").
        progressive_output: what becomes the output: "none", the first level's features; "skip", a
            sum of one image from each level; "residual", features summed from level to level.
        embedding: of the noise level, "sinusoidal" or "fourier"; "none" ignores the noise level.
        frequency_endpoint: whether the last frequency of a sinusoidal embedding is 1/10000, or the
            next one would be.
        noise_cond_scale: what the embedding multiplies the noise level by.
        num_classes: number of classes, or None.
        num_outputs: per channel of the image; 2 where the reverse variance is learned too.
        recenter: whether data in [0, 1] are mapped to [−1, 1] first.
        activation: the nonlinearity, one of "silu", "elu", "relu" and "leaky_relu".
        dropout: fraction of activations dropped in each residual block.
        groups: of the norms; None for groups of 4 channels, at most 32 groups.
        epsilon: of the norms.
        dtype: of the computation, "float32" or "bfloat16"; parameters, statistics of the norms,
            softmax and output are float32 in any case.
        remat: whether backpropagation recomputes each block instead of storing its activations.

    Raises:
        InputError: if an option is out of range; at call, if the image cannot be halved at every
            level.

    Example:
        >>> import jax
        >>> net = UNet(channels=8, multipliers=(1,), blocks_per_level=1, attention_levels=())
        >>> x, noise_cond = jnp.ones((2, 8, 8, 1)), jnp.ones(2)
        >>> params = jax.jit(net.init)(jax.random.key(0), x, noise_cond)
        >>> jax.jit(net.apply)(params, x, noise_cond).shape
        (2, 8, 8, 1)

    Reference: Ho et al. 2020, appendix B; Song et al. 2021, appendix H; Dhariwal & Nichol 2021,
    section 3.
    """

    channels: int = 64
    multipliers: Sequence[int] = (1, 2)
    blocks_per_level: int = 2
    attention_levels: Sequence[int] = (1,)
    middle_attention: bool | None = None
    middle_norm: bool = True
    attention_up: AttentionUp = "each"
    head_dim: int | None = 64
    modulation: Modulation = "scale_shift"
    resampling: Resampling = "conv"
    filter: Sequence[int] = BOX
    padding: Padding = "end"
    project: bool = False
    skip_scale: float = 1.0
    progressive_input: ProgressiveInput = "none"
    progressive_output: ProgressiveOutput = "none"
    embedding: OptionalEmbedding = "sinusoidal"
    frequency_endpoint: bool = True
    noise_cond_scale: float = TIME_SCALE
    num_classes: int | None = None
    num_outputs: int = 1
    recenter: bool = False
    activation: Activation = "silu"
    dropout: float = 0.0
    groups: int | None = None
    epsilon: float = 1e-6
    dtype: DType = "float32"
    remat: bool = False

    def __post_init__(self) -> None:
        check_options(self)
        super().__post_init__()

    @nn.compact
    def __call__(
        self, x: Array, noise_cond: Array, label: Array | None = None, *, train: bool = False
    ) -> Array:
        """Predict from ``x [batch, ..., c]``, the ``noise_cond [batch]`` and ``label [batch]``.

        Returns ``[batch, ..., num_outputs · c]``, float32.
        """
        check_image(x, len(self.multipliers))
        embedding = Conditioning(
            4 * self.channels,
            self.noise_cond_scale,
            self.num_classes,
            self.embedding,
            endpoint=self.frequency_endpoint,
            activation=self.activation,
            name="embedding",
        )(noise_cond, label)
        block, attention, down, up, conv, norm = self._parts(x.ndim - 2, embedding, train)
        colours, last = self.num_outputs * x.shape[-1], len(self.multipliers) - 1
        widths = [self.channels * multiplier for multiplier in self.multipliers]
        x = (2 * x - 1 if self.recenter else x).astype(jnp.float32)

        # Input and output are not rounded: the lowest noise level is finer than a bfloat16.
        h = conv(self.channels, name="conv_in", dtype="float32")(x).astype(self.dtype)
        skips, pyramid = [h], x
        for depth, width in enumerate(widths):
            for i in range(self.blocks_per_level):
                h = block(width, f"down_{depth}_block_{i}")(h)
                if depth in self.attention_levels:
                    h = attention(name=f"down_{depth}_attention_{i}")(h)
                skips.append(h)
            if depth < last:
                h = down(width, f"down_{depth}_resample")(h)
                h, pyramid = self._joined(h, pyramid, depth)
                skips.append(h)

        h = block(widths[-1], "middle_block_0")(h)
        if self.middle_attends:
            h = attention(normalise=self.middle_norm, name="middle_attention")(h)
        h = block(widths[-1], "middle_block_1")(h)

        image: Any = None
        features: Any = None
        for depth, width in reversed(list(enumerate(widths))):
            for i in range(self.blocks_per_level + 1):
                h = block(width, f"up_{depth}_block_{i}")(
                    jnp.concatenate([h, skips.pop()], axis=-1)
                )
                ends = i == self.blocks_per_level
                if depth in self.attention_levels and (ends or self.attention_up == "each"):
                    h = attention(name=f"up_{depth}_attention_{i}")(h)
            if self.progressive_output == "residual" and depth == last:
                features = norm(name=f"up_{depth}_pyramid_norm")(h)
                features = conv(width, name=f"up_{depth}_pyramid")(features)
            elif self.progressive_output == "residual":
                wider = Upsample(width, self.filter, dtype=self.dtype, name=f"up_{depth}_pyramid")
                h = features = (wider(features) + h) * self.skip_scale
            if self.progressive_output == "skip" or depth == 0:
                own = norm(name=f"out_{depth}_norm")(h.astype(jnp.float32))
                own = conv(colours, zero=True, name=f"out_{depth}_conv", dtype="float32")(own)
                if image is not None:
                    own += upsample(image, self.filter)
                image = own
            if depth > 0:
                h = up(width, f"up_{depth}_resample")(h)
        return image

    @property
    def middle_attends(self) -> bool:
        """Whether there is attention in the middle."""
        return (
            bool(self.attention_levels) if self.middle_attention is None else self.middle_attention
        )

    def _joined(self, h: Array, pyramid: Array, depth: int) -> tuple[Array, Array]:
        """The features of a level that was just entered, joined with the progressive input."""
        width, name = self.channels * self.multipliers[depth], f"down_{depth}_pyramid"
        if self.progressive_input == "none":
            return h, pyramid
        if self.progressive_input == "residual":
            own = "float32" if depth == 0 else self.dtype
            small = Downsample(width, self.filter, dtype=own, name=name)(pyramid)
            h = ((small + h) * self.skip_scale).astype(self.dtype)
            return h, h
        pyramid = downsample(pyramid, self.filter)
        beside = nn.Dense(width, kernel_init=glorot, name=name)(pyramid).astype(self.dtype)
        join = self.progressive_input == "cat"
        return jnp.concatenate([beside, h], axis=-1) if join else beside + h, pyramid

    def _parts(self, ndim: int, embedding: Array | None, train: bool) -> "_Parts":
        common: dict[str, Any] = {"groups": self.groups, "epsilon": self.epsilon}
        wrap = nn.remat if self.remat else lambda module, **_: module
        make_block: Any = functools.partial(
            wrap(ResBlock, static_argnums=(3,)),
            modulation=self.modulation,
            weights=self.filter,
            skip_scale=self.skip_scale,
            activation=self.activation,
            dropout=self.dropout,
            dtype=self.dtype,
            **common,
        )

        def block(width: int, name: str, **options: Any) -> Callable[[Array], Array]:
            module = make_block(width, name=name, **options)
            return lambda h: module(h, embedding, train)

        def resample(kind: str, module: type[nn.Module], width: int, name: str) -> Any:
            if self.resampling == "block":
                return block(width, name, resample=kind, project=self.project)
            own = {"padding": self.padding} if kind == "down" else {}
            return module(width, self.filter, dtype=self.dtype, name=name, **own)

        attention = functools.partial(
            wrap(SelfAttention),
            head_dim=self.head_dim,
            skip_scale=self.skip_scale,
            dtype=self.dtype,
            **common,
        )
        return _Parts(
            block=block,
            attention=attention,
            down=functools.partial(resample, "down", Downsample),
            up=functools.partial(resample, "up", Upsample),
            conv=functools.partial(convolution, ndim=ndim, dtype=self.dtype),
            norm=functools.partial(GroupNorm, activation=self.activation, **common),
        )


class _Parts(NamedTuple):
    """Constructors of a U-Net's parts; blocks and resamplers are bound to the embedding."""

    block: Callable[..., Any]
    attention: Callable[..., Any]
    down: Callable[..., Any]
    up: Callable[..., Any]
    conv: Callable[..., Any]
    norm: Callable[..., Any]
