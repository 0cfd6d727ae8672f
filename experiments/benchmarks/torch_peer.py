"""The equivalent network in PyTorch: diffusers' UNet2DModel, trained and sampled as usual."""

import functools
import itertools
from typing import Any

import numpy as np

from experiments.benchmarks.contender import SAMPLING_STEPS, Contender
from jaxdiff.extras import require
from jaxdiff.nets import UNet, convert
from jaxdiff.typing import InputError, Params


def torch_peer(net: Any, x: np.ndarray, *, compiled: bool) -> tuple[Contender, UNet, Params]:
    """Build diffusers' network of the same shape, and ours with its parameters.

    Args:
        net: our network.
        x: the batch, ``[batch, height, width, colours]``.
        compiled: whether to run it under ``torch.compile`` and with channels last.

    Returns:
        ``(contender, network, variables)``: a network of ours that computes the same as diffusers'.

    Raises:
        InputError: if torch or diffusers is missing, or diffusers has no such network.
    """
    require("torch", "diffusers", purpose="--peer=torch")
    import torch
    from diffusers import UNet2DModel

    check_plain(net, x.shape[1:])
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = UNet2DModel.from_config(convert.diffusers_config(net, x.shape[1:])).to(device)
    weights = {name: tensor.cpu().numpy() for name, tensor in model.state_dict().items()}
    ours = convert.diffusers_network(dict(model.config))
    layout = torch.channels_last if compiled else torch.contiguous_format
    model = model.to(memory_format=layout)
    images = torch.tensor(np.moveaxis(x, -1, 1)).to(device, memory_format=layout)
    call = torch.compile(model) if compiled else model
    jobs = _Jobs(torch, model, call, images, net.dtype)
    name = f"torch {torch.__version__.split('+')[0]}, {'compiled' if compiled else 'eager'}"
    return (
        Contender(name, jobs.forward, jobs.step, jobs.sample),
        ours,
        convert.from_diffusers(weights, ours),
    )


class _Jobs:
    """The three jobs on one model, which a training step changes."""

    def __init__(self, torch: Any, model: Any, call: Any, images: Any, dtype: str) -> None:
        self.torch, self.model, self.call, self.images = torch, model, call, images
        self.optimizer = torch.optim.Adam(model.parameters(), lr=2e-4)
        self.average = [p.detach().clone() for p in model.parameters()]
        self.half = images.shape[0] * [500]
        self.precision = functools.partial(
            torch.autocast, images.device.type, torch.bfloat16, enabled=dtype == "bfloat16"
        )

    def _call(self, x: Any, step: Any) -> Any:
        with self.precision():
            return self.call(x, step).sample.float()

    def _wait(self) -> None:
        if self.images.is_cuda:
            self.torch.cuda.synchronize()

    def forward(self, index: int) -> Any:
        steps = self.torch.tensor(self.half, device=self.images.device)
        self.model.eval()
        with self.torch.no_grad():
            output = self._call(self.images, steps)
        self._wait()
        return output

    def step(self, index: int) -> None:
        torch, images = self.torch, self.images
        self.model.train()
        noise = torch.randn_like(images)
        steps = torch.randint(0, 1000, images.shape[:1], device=images.device)
        alpha = _alphas(torch, images.device)[steps][:, None, None, None]
        noisy = alpha * images + (1 - alpha**2).sqrt() * noise
        self.optimizer.zero_grad(set_to_none=True)
        loss = ((self._call(noisy, steps) - noise) ** 2).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        torch._foreach_lerp_(self.average, list(self.model.parameters()), 1e-4)
        self._wait()

    def sample(self, index: int) -> None:
        torch, x = self.torch, self.torch.randn_like(self.images)
        alphas = _alphas(torch, x.device)
        self.model.eval()
        grid = torch.linspace(999, 0, SAMPLING_STEPS + 1, device=x.device).long()
        with torch.no_grad():
            for now, then in itertools.pairwise(grid):
                eps = self._call(x, now.expand(len(x)))
                x0 = (x - (1 - alphas[now] ** 2).sqrt() * eps) / alphas[now]
                x = alphas[then] * x0 + (1 - alphas[then] ** 2).sqrt() * eps
        self._wait()


def _alphas(torch: Any, device: Any) -> Any:
    betas = torch.linspace(1e-4, 0.02, 1000, device=device)
    return torch.cumprod(1 - betas, 0).sqrt()


def check_plain(net: Any, shape: tuple[int, ...]) -> None:
    """Refuse a network that the peers do not support.

    Raises:
        InputError: naming the field in which it differs from DDPM's.
    """
    convert.diffusers_config(net, shape)
    plain = UNet(modulation="shift")
    for name in ("modulation", "resampling", "num_outputs", "num_classes", "recenter", "padding"):
        if getattr(net, name) != getattr(plain, name):
            raise InputError(
                f"config.network.{name} must be {getattr(plain, name)!r} for --peer, got "
                f"{getattr(net, name)!r}"
            )
