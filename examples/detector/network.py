"""A small anchor-free detector: residual backbone, feature pyramid, heads for box and class at strides 8, 16 and 32.

Only layers and their arithmetic; what the outputs should be is loss.py.
Invariants: anchors are ordered by stride, then row by row; a box is the softplus distances from its anchor to the four
sides, so it always has positive width and height; the input is square and of the size given at construction.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

STRIDES = (8, 16, 32)
STEM = (16, 32)
STAGES = ((48, 2), (72, 2), (80, 1))  # channels and residual blocks at strides 8, 16, 32
PYRAMID = 40
RARE = 0.01  # score every anchor starts with, since most anchors see no object


class Convolution(nn.Sequential):
    def __init__(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        )


class Residual(nn.Module):
    """Two 3x3 convolutions through half the channels, added to the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.narrow = Convolution(channels, channels // 2)
        self.widen = Convolution(channels // 2, channels)

    def forward(self, features: Tensor) -> Tensor:
        return features + self.widen(self.narrow(features))


class Head(nn.Module):
    """Raw distances [B, 4, h, w] and class logits [B, classes, h, w] of one pyramid level."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.box = nn.Sequential(Convolution(channels, channels), nn.Conv2d(channels, 4, 1))
        self.score = nn.Sequential(Convolution(channels, channels), nn.Conv2d(channels, classes, 1))
        nn.init.constant_(self.box[-1].bias, 1.5)
        nn.init.constant_(self.score[-1].bias, -math.log((1 - RARE) / RARE))

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        return self.box(features), self.score(features)


class Network(nn.Module):
    """Images [B, 3, size, size] float32 0..1 RGB to boxes and logits at every anchor."""

    centres: Tensor
    strides: Tensor

    def __init__(self, classes: int, size: int = 320) -> None:
        super().__init__()
        self.stem = nn.Sequential(Convolution(3, STEM[0], stride=2), Convolution(STEM[0], STEM[1], stride=2))
        stages, channels = [], STEM[1]
        for width, blocks in STAGES:
            residuals = [Residual(width) for _ in range(blocks)]
            stages.append(nn.Sequential(Convolution(channels, width, stride=2), *residuals))
            channels = width
        self.stages = nn.ModuleList(stages)
        self.laterals = nn.ModuleList(Convolution(width, PYRAMID, 1) for width, _ in STAGES)
        self.merges = nn.ModuleList(Convolution(PYRAMID, PYRAMID) for _ in STAGES)
        self.downs = nn.ModuleList(Convolution(PYRAMID, PYRAMID, stride=2) for _ in STAGES[1:])
        self.heads = nn.ModuleList(Head(PYRAMID, classes) for _ in STAGES)
        centres, strides = anchor_grid(size)
        self.register_buffer("centres", centres, persistent=False)
        self.register_buffer("strides", strides, persistent=False)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes [B, anchors, 4] as x1, y1, x2, y2 in input pixels, logits [B, anchors, classes]."""
        outputs = [head(features) for head, features in zip(self.heads, self.pyramid(images), strict=True)]
        distances = torch.cat([box.flatten(2) for box, _ in outputs], 2).transpose(1, 2).float()
        logits = torch.cat([score.flatten(2) for _, score in outputs], 2).transpose(1, 2).float()
        distances = functional.softplus(distances) * self.strides
        boxes = torch.cat([self.centres - distances[..., :2], self.centres + distances[..., 2:]], 2)
        return boxes, logits

    def pyramid(self, images: Tensor) -> list[Tensor]:
        """Features of the three levels, each having seen the coarser and the finer ones."""
        features, levels = self.stem(images), []
        for stage, lateral in zip(self.stages, self.laterals, strict=True):
            features = stage(features)
            levels.append(lateral(features))
        for level in (1, 0):
            coarser = functional.interpolate(levels[level + 1], scale_factor=2.0, mode="nearest")
            levels[level] = self.merges[level](levels[level] + coarser)
        for level in (1, 2):
            levels[level] = levels[level] + self.downs[level - 1](levels[level - 1])
        levels[2] = self.merges[2](levels[2])
        return levels


class Exported(nn.Module):
    """The network with the output layout of Ultralytics YOLOv8: [B, 4 + classes, anchors], cx, cy, w, h, scores."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        boxes, logits = self.network(images)
        low, high = boxes[..., :2], boxes[..., 2:]
        return torch.cat([(low + high) / 2, high - low, logits.sigmoid()], 2).transpose(1, 2)


def anchor_grid(size: int) -> tuple[Tensor, Tensor]:
    """Anchor centres [anchors, 2] in input pixels and the stride [anchors, 1] of each."""
    centres, strides = [], []
    for stride in STRIDES:
        ticks = (torch.arange(size // stride) + 0.5) * stride
        rows, columns = torch.meshgrid(ticks, ticks, indexing="ij")
        centres.append(torch.stack([columns, rows], 2).reshape(-1, 2))
        strides.append(torch.full((centres[-1].shape[0], 1), float(stride)))
    return torch.cat(centres), torch.cat(strides)
