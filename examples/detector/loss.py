"""Decide which anchors answer for which object, and what the network's errors cost.

Pure functions of tensors. Assignment is task-aligned: an object takes the anchors inside it that already score its
class and fit its box best.
Invariants: an anchor answers for at most one object; an object with no anchor centre inside it is not learnt from.
Shapes: B pictures, M label rows (class id -1 where empty), A anchors, C classes.

Source: Feng et al., "TOOD: Task-aligned One-stage Object Detection", 2021; Zheng et al., "Distance-IoU Loss", 2020.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

ANCHORS_PER_OBJECT = 8
SCORE_POWER, OVERLAP_POWER = 0.5, 5.0  # how much each counts in the alignment of an anchor
BOX_WEIGHT = 4.0  # against 1 for the scores
TINY = 1e-7


class Targets(NamedTuple):
    """For each anchor: its object's box [B, A, 4] and the score wanted of each class [B, A, C]."""

    boxes: Tensor
    scores: Tensor


def detection_loss(boxes: Tensor, logits: Tensor, true_boxes: Tensor, true_ids: Tensor, centres: Tensor) -> Tensor:
    """The scalar to minimise.

    Args:
        boxes: Predicted [B, A, 4] x1, y1, x2, y2.
        logits: Predicted [B, A, C].
        true_boxes: Labels [B, M, 4].
        true_ids: Labels [B, M] int64.
        centres: Anchor centres [A, 2].
    """
    targets = assign(boxes.detach(), logits.detach().sigmoid(), true_boxes, true_ids, centres)
    total = targets.scores.sum().clamp(min=1)
    score_loss = functional.binary_cross_entropy_with_logits(logits, targets.scores, reduction="sum")
    weight = targets.scores.sum(2)
    chosen = weight > 0
    box_errors = 1 - distance_overlap(boxes[chosen], targets.boxes[chosen])
    return (score_loss + BOX_WEIGHT * (box_errors * weight[chosen]).sum()) / total


@torch.no_grad()
def assign(boxes: Tensor, scores: Tensor, true_boxes: Tensor, true_ids: Tensor, centres: Tensor) -> Targets:
    """Share the anchors out among the objects; arguments as for detection_loss, `scores` after the sigmoid."""
    present = (true_ids >= 0)[:, :, None]
    ids = true_ids.clamp(min=0)
    inside = (centres >= true_boxes[:, :, None, :2]) & (centres <= true_boxes[:, :, None, 2:])
    eligible = (inside.all(3) & present).float()
    fit = overlap(true_boxes[:, :, None], boxes[:, None]) * eligible
    own_scores = scores.transpose(1, 2).gather(1, ids[:, :, None].expand(-1, -1, scores.shape[1]))
    alignment = own_scores**SCORE_POWER * fit**OVERLAP_POWER * eligible

    best, where = alignment.topk(ANCHORS_PER_OBJECT, dim=2)
    taken = torch.zeros_like(alignment).scatter_(2, where, (best > 0).float())
    owner = (fit * taken).argmax(1, keepdim=True)  # of several objects, the one the anchor fits best
    taken = taken * torch.zeros_like(taken).scatter_(1, owner, 1.0)

    alignment = alignment * taken
    strongest = alignment.amax(2, keepdim=True).clamp(min=TINY**2)
    quality = (alignment / strongest * (fit * taken).amax(2, keepdim=True)).amax(1)
    owner = owner[:, 0]
    wanted = functional.one_hot(ids.gather(1, owner), scores.shape[2]) * quality[:, :, None]
    return Targets(true_boxes.gather(1, owner[:, :, None].expand(-1, -1, 4)), wanted)


def overlap(first: Tensor, second: Tensor) -> Tensor:
    """IoU of boxes [..., 4], broadcast."""
    shared, union = intersection_and_union(first, second)
    return shared / union


def distance_overlap(first: Tensor, second: Tensor) -> Tensor:
    """IoU of boxes [N, 4] pair by pair, less the squared distance of the centres relative to the hull's diagonal."""
    shared, union = intersection_and_union(first, second)
    hull = torch.maximum(first[:, 2:], second[:, 2:]) - torch.minimum(first[:, :2], second[:, :2])
    apart = (first[:, :2] + first[:, 2:] - second[:, :2] - second[:, 2:]) / 2
    return shared / union - apart.square().sum(1) / (hull.square().sum(1) + TINY)


def intersection_and_union(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    low = torch.maximum(first[..., :2], second[..., :2])
    high = torch.minimum(first[..., 2:], second[..., 2:])
    shared = (high - low).clamp(min=0).prod(-1)
    areas = (first[..., 2:] - first[..., :2]).prod(-1) + (second[..., 2:] - second[..., :2]).prod(-1)
    return shared, areas - shared + TINY
