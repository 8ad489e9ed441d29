"""Train the detector on synthetic pictures and export it to ONNX.

Layers are network.py, the loss loss.py, pictures dataset.py; this is the loop, the checkpoint and the exporter.
Invariants: the exported weights are always the running average, never the raw ones; whenever a checkpoint is written,
the ONNX file is written with it, so the file on disk is usable from the first checkpoint on.
"""

from __future__ import annotations

import argparse
import copy
import datetime
import math
import os
import time
from pathlib import Path

import cv2
import numpy as np
import onnx
import torch
from dataset import Pictures, augmented_batches, load_or_make
from detect import Detections, Letterbox, to_detections
from evaluate import score_pictures
from generate import NAMES
from loss import detection_loss
from network import STRIDES, Exported, Network

SIZE = 320
TRAIN_SEED, CHECK_SEED = 1, 3  # evaluate.py scores the final file on seed 2, which training never sees
CHECK_COUNT = 200
AVERAGE_DECAY = 0.9985  # of the running average, reached after its warm-up
WARMUP_STEPS = 200
OPSET = 17
VERSION = "1.0"


def train(arguments: argparse.Namespace) -> None:
    """Run the whole schedule, checking and exporting on the way."""
    torch.manual_seed(arguments.seed)
    rng = np.random.default_rng(arguments.seed)
    pictures = load_or_make(arguments.cache, TRAIN_SEED, arguments.pictures, SIZE)
    check = load_or_make(arguments.cache, CHECK_SEED, CHECK_COUNT, SIZE)
    network = Network(len(NAMES), SIZE).to(memory_format=torch.channels_last)
    average = copy.deepcopy(network).eval()
    optimiser = make_optimiser(network, arguments.rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: rate_factor(step, arguments.steps))
    parameters = sum(parameter.numel() for parameter in network.parameters())
    print(f"{parameters} parameters, {len(pictures.images)} pictures, {arguments.steps} steps", flush=True)
    started, recent = time.monotonic(), 0.0
    batches = augmented_batches(rng, pictures, arguments.batch)
    for step in range(1, arguments.steps + 1):
        images, boxes, class_ids = (torch.from_numpy(column) for column in next(batches))
        loss = train_step(network, optimiser, images, boxes, class_ids)
        schedule.step()
        update_average(average, network, step)
        recent += loss
        if step % 100 == 0:
            print(f"step {step} loss {recent / 100:.3f} at {time.monotonic() - started:.0f} s", flush=True)
            recent = 0.0
        if step % arguments.check_every == 0 or step == arguments.steps:
            precision = check_average(average, check)
            torch.save(average.state_dict(), arguments.cache / "checkpoint.pt")
            export(average, arguments.out)
            print(f"step {step} mAP@0.5 {precision:.4f} at {time.monotonic() - started:.0f} s", flush=True)


def make_optimiser(network: Network, rate: float) -> torch.optim.Optimizer:
    """AdamW that decays kernels but neither biases nor normalisation."""
    kernels = [parameter for parameter in network.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in network.parameters() if parameter.ndim <= 1]
    groups = [{"params": kernels, "weight_decay": 0.03}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=rate)


def rate_factor(step: int, steps: int) -> float:
    """Linear warm-up, then half a cosine down to 1 %."""
    if step < WARMUP_STEPS:
        return (step + 1) / WARMUP_STEPS
    return 0.01 + 0.99 * (1 + math.cos(math.pi * (step - WARMUP_STEPS) / max(1, steps - WARMUP_STEPS))) / 2


def train_step(
    network: Network,
    optimiser: torch.optim.Optimizer,
    images: torch.Tensor,
    boxes: torch.Tensor,
    class_ids: torch.Tensor,
) -> float:
    """One step in bfloat16 on images [B, size, size, 3] UINT8; returns the loss."""
    inputs = images.permute(0, 3, 1, 2).float().div_(255)  # of HWC memory this is channels-last, which is what we want
    with torch.autocast("cpu", torch.bfloat16):
        found, logits = network(inputs)
    loss = detection_loss(found, logits, boxes, class_ids, network.centres)
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), 10.0)
    optimiser.step()
    return loss.item()


@torch.no_grad()
def update_average(average: Network, network: Network, step: int) -> None:
    decay = min(AVERAGE_DECAY, (1 + step) / (20 + step))
    for kept, new in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
        if kept.dtype.is_floating_point:
            kept.lerp_(new, 1 - decay)


@torch.no_grad()
def check_average(average: Network, check: Pictures) -> float:
    """mAP@0.5 on the letterboxed check pictures."""
    model, found = Exported(average), []
    for image in check.images:
        tensor = torch.from_numpy(image[None].transpose(0, 3, 1, 2).astype(np.float32) / 255)
        output = model(tensor)[0].numpy()
        found.append(to_detections(output, Letterbox(1.0, 0, 0), SIZE, SIZE, 0.01))
    return float(np.nanmean(score_check(found, check)))


def score_check(found: list[Detections], check: Pictures) -> np.ndarray:
    labels = [(boxes[ids >= 0], ids[ids >= 0]) for boxes, ids in zip(check.boxes, check.class_ids, strict=True)]
    return score_pictures(found, labels)


def export(average: Network, path: Path) -> None:
    """Write the ONNX file with Ultralytics' tensor names, layout and metadata; replaces `path` in one step."""
    model = Exported(copy.deepcopy(average).to(memory_format=torch.contiguous_format)).eval()
    partial = path.with_suffix(".partial")
    torch.onnx.export(
        model,
        (torch.zeros(1, 3, SIZE, SIZE),),
        str(partial),
        dynamo=False,
        opset_version=OPSET,
        input_names=["images"],
        output_names=["output0"],
        dynamic_axes={"images": {0: "batch"}, "output0": {0: "batch"}},
    )
    graph = onnx.load(partial)
    shape = graph.graph.output[0].type.tensor_type.shape
    shape.dim[1].dim_value = 4 + len(NAMES)  # the exporter leaves a made-up name here
    metadata = {
        "description": "Inferoxy example detector: six kinds of coloured shapes",
        "author": "The Inferoxy developers",
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "version": VERSION,
        "license": "Apache-2.0",
        "stride": str(max(STRIDES)),
        "task": "detect",
        "batch": "1",
        "imgsz": str([SIZE, SIZE]),
        "names": str(dict(enumerate(NAMES))),
    }
    onnx.helper.set_model_props(graph, metadata)
    onnx.checker.check_model(graph, full_check=True)
    onnx.save(graph, partial)
    os.replace(partial, path)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the detector on one CPU core and export it.")
    parser.add_argument("--out", type=Path, default=Path("detector.onnx"), help="ONNX file to write")
    parser.add_argument("--cache", type=Path, required=True, help="folder for pictures and the checkpoint (2.5 GB)")
    parser.add_argument("--pictures", type=int, default=7000, help="training pictures (default 7000)")
    parser.add_argument("--steps", type=int, default=7000, help="optimiser steps (default 7000)")
    parser.add_argument("--batch", type=int, default=16, help="pictures a step (default 16)")
    parser.add_argument("--rate", type=float, default=2e-3, help="highest learning rate (default 0.002)")
    parser.add_argument("--check-every", type=int, default=1000, help="steps between exports (default 1000)")
    parser.add_argument("--seed", type=int, default=0, help="of weights and augmentation (default 0)")
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    train(parser.parse_args())


if __name__ == "__main__":
    main()
