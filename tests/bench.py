"""The engine's speed as ratios in one run, beside what is asked of it: `make bench`.

Against the forward pass of ResNet-18 (random weights, 256 x 256, float32, the outputs of all 11
blocks) and against CubicalRipser. Absolute times depend on the machine and on what else it does;
so the two sides of a ratio are timed in turn, and the median is shown. It always ends well: it
measures and does not judge.
"""

import math
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import cripser
import numpy as np
import torch

from topo_utils import betti_numbers, block_outputs, load_model, model_blocks

#: CubicalRipser takes seconds a million voxels, and a minute where most of them are equal.
LARGEST = 300_000
SHAPES = [(64, 112, 112), (64, 64, 64), (3, 224, 224), (512, 7, 7), (64, 56, 56)]


def seconds(function, *arguments):
    start = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - start


def ratio(one, other, repeats):
    """Median of time(one) / time(other), timed in turn."""
    return float(np.median([seconds(one) / seconds(other) for _ in range(repeats)]))


def outputs(model, image):
    """The outputs of the network's blocks, as numpy volumes by name."""
    with block_outputs(model, model_blocks(model)) as run:
        return {name: output[0].numpy() for name, output in run(image).items()}


def forward_ratios(model, image, volumes):
    """Engine / forward pass: with one thread each, and with torch's default."""

    def engine():
        for volume in volumes:
            betti_numbers(volume, 0.0)

    forward = torch.inference_mode()(lambda: model(image))
    engine(), forward()
    default = ratio(engine, forward, 15)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    one = ratio(engine, forward, 15)
    torch.set_num_threads(threads)
    return one, default


def cubicalripser_times(volume, thresholds, repeats):
    """Seconds of CubicalRipser (all thresholds at once, it knows no others) and of the engine."""
    wide = volume.astype(np.float64)
    theirs = np.median([seconds(cripser.computePH, wide) for _ in range(repeats)])
    betti_numbers(volume, thresholds)  # the other one has emptied the processor's caches
    return theirs, np.median([seconds(betti_numbers, volume, thresholds) for _ in range(9)])


def curve_ratios(shape):
    """CubicalRipser / engine at 64 thresholds: random values, and their ReLU, full of ties.

    None where CubicalRipser would take too long.
    """
    volume = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    repeats = 3 if volume.size < LARGEST else 1
    theirs, ours = cubicalripser_times(volume, np.linspace(-2.5, 2.5, 64), repeats)
    if volume.size > LARGEST:
        return theirs / ours, None
    tied = np.maximum(volume, 0)
    theirs_tied, ours_tied = cubicalripser_times(tied, np.linspace(0, 2.5, 64), 1)
    return theirs / ours, theirs_tied / ours_tied


def two_threads_ratio(volumes):
    """Volumes a second with two threads / with one.

    From the least time of each: any other process on one of two cores halves the gain.
    """
    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(2) as two:

        def count(pool):
            list(pool.map(lambda volume: betti_numbers(volume, 0.0), volumes))

        times = [(seconds(count, one), seconds(count, two)) for _ in range(200)]
    return float(np.divide(*np.min(times, axis=0)))


def growth_slope():
    """Slope of log time on log voxels, from 0.1 to 50 million random values."""
    values = np.random.default_rng(0).standard_normal(50_000_000, dtype=np.float32)
    sides = (46, 100, 215, 368)
    volumes = [values[: side**3].reshape(side, side, side) for side in sides]
    times = [[seconds(betti_numbers, volume, 0.0) for volume in volumes] for _ in range(5)]
    return float(np.polyfit(3 * np.log(sides), np.log(np.median(times, axis=0)), 1)[0])


def bytes_a_voxel():
    """Highest memory of a count beyond that of the volume and the process, by value; Linux only.

    In a process of its own, with the values that make the most pieces: a chequered volume.
    """
    code = """
import re
import numpy as np
from topo_utils import betti_numbers
kilobytes = lambda name: int(re.search(name + r":\\s+(\\d+)", open("/proc/self/status").read())[1])
betti_numbers(np.zeros((2, 2, 64), np.float32), 0.0)
volume = np.zeros((128, 256, 256), np.float32)
for z in range(2):
    volume[z::2, ::2, 1 - z::2] = volume[z::2, 1::2, z::2] = 1
before = kilobytes("VmRSS")
betti_numbers(volume, 0.0)
print(1024 * (kilobytes("VmHWM") - before) / volume.size)
"""
    if not sys.platform.startswith("linux"):
        return math.nan
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(run.stdout)


def show(text, value, wanted=""):
    """One line of the table; `wanted` is such as "<= 0.45"."""
    verdict = ""
    if wanted and not math.isnan(value):
        sign, limit = wanted.split()
        met = value <= float(limit) if sign == "<=" else value >= float(limit)
        verdict = "ok" if met else "missed"
    print(f"{text:<66}{value:9.2f}   {wanted:<8} {verdict}".rstrip(), flush=True)


def main():
    torch.manual_seed(0)
    model = load_model("resnet18", weights="random")
    image = torch.randn(1, 3, 256, 256)
    volumes = outputs(model, image)
    print(f"torch {torch.__version__}, numpy {np.__version__}, {os.cpu_count()} cores")
    print(f"{'ResNet-18, 256 x 256, one threshold':<66}{'ratio':>9}   asked")
    one, default = forward_ratios(model, image, list(volumes.values()))
    show("engine / forward pass, one thread each", one, "<= 0.45")
    show("engine / forward pass, torch's default threads", default)
    show("two threads / one, volumes a second", two_threads_ratio(list(volumes.values())), ">= 1.6")

    theirs, ours, each, left_out = 0.0, 0.0, [], []
    for name, volume in volumes.items():
        if volume.size > LARGEST and np.mean(volume == volume.min()) > 0.1:
            left_out.append(name)
            continue
        pair = cubicalripser_times(volume, 0.0, 1 if volume.size > LARGEST else 3)
        theirs, ours = theirs + pair[0], ours + pair[1]
        each.append(pair[0] / pair[1])
        show(f"  {name}, {' x '.join(map(str, volume.shape))}", each[-1])
    show(f"CubicalRipser / engine, {len(each)} volumes", theirs / ours, ">= 150")
    show("CubicalRipser / engine, median of the volumes", float(np.median(each)), ">= 150")
    show("CubicalRipser / engine, least of the volumes", min(each))
    print(f"  left out, over a minute each for CubicalRipser: {', '.join(left_out)}")

    print("\nCubicalRipser / engine, 64 thresholds")
    for shape in SHAPES:
        name, wanted = " x ".join(map(str, shape)), ">= 8" if shape in SHAPES[:2] else ">= 1"
        generic, tied = curve_ratios(shape)
        show(f"{name}, random", generic, wanted)
        if tied is None:
            print(f"  {name}, its ReLU: left out, over a minute for CubicalRipser")
        else:
            show(f"{name}, its ReLU", tied, wanted)

    print("\nOne volume, one threshold")
    show("slope of log time on log voxels, 0.1 to 50 million", growth_slope(), "<= 1.1")
    show("bytes a voxel beyond the volume", bytes_a_voxel(), "<= 16")


if __name__ == "__main__":
    main()
