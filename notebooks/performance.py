# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # What it costs
#
# The authors computed persistent homology of every block's output, which takes seconds a volume. This
# book counts Betti numbers directly ({doc}`homology_primer` says how). The claim that this page tests
# is the book's own: on the machine that builds it, exact Betti numbers of all blocks cost less than
# the forward pass that made them, and their cost grows in proportion to the number of activations.
#
# Seconds depend on the machine and on what else it does, so everything is measured side by side in
# one run, and what counts are ratios.
#
# This page is a notebook: change the values under *Parameters*, and run all its cells again.

# %% [markdown]
# ## Parameters
#
# ```
# topobook run performance -p network resnet50 -p repeats 30
# ```

# %% tags=["parameters"]
from topo_utils.book import AtLeast, NonEmpty

# The network, with random weights: a name that topo_utils.model_names() lists.
network: str = "resnet18"
# Height and width of the image, in pixels.
image_size: AtLeast[1] = 256
# How often the forward pass and the engine are timed in turn, at least 5.
repeats: AtLeast[1] = 15
# Sizes of the volumes on which time and memory are measured, in voxels.
voxels: NonEmpty[AtLeast[1]] = [100_000, 400_000, 1_600_000, 6_400_000, 25_600_000, 50_000_000]
# The other engines get no volume for which they would take longer than this, in seconds.
limit: float = 5.0
# Thresholds of a whole Betti curve.
n_thresholds: AtLeast[1] = 64
# The networks of the experiment whose cost is projected.
experiment: NonEmpty[str] = [
    "vgg16",
    "resnet18",
    "resnet50",
    "resnet101",
    "resnet152",
    "mobilenet_v2",
    "densenet121",
    "densenet169",
    "densenet201",
]
# Images of that experiment; the paper has 2,000.
experiment_images: AtLeast[1] = 2000
# Height and width of these images, in pixels.
experiment_size: AtLeast[1] = 224
# Of the random weights, images and volumes.
seed: AtLeast[0] = 0

# %% [markdown]
# ## Against the forward pass
#
# The outputs of all blocks are kept from one forward pass; then forward pass and engine are timed in
# turn, with one thread each and with torch's own number of threads. The interval is a bootstrap over
# the pairs.

# %%
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import psutil
import torch
from matplotlib import pyplot as plt

from topo_utils import (
    betti_curves,
    betti_numbers,
    block_outputs,
    bootstrap,
    embedding_profile,
    load_model,
    model_blocks,
    topological_complexity,
)
from topo_utils.book import glue, record_finding
from topo_utils.plotting import COLOURS, use_style

use_style()
rng = np.random.default_rng(seed)


def volumes_of(model, image):
    """The volumes (C, H, W) that the blocks give for one image (1, 3, H, W)."""
    with block_outputs(model, model_blocks(model)) as run:
        return [output[0].numpy() for output in run(image).values()]


def seconds(function, *arguments):
    start = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - start


def ratio(pairs):
    """Median ratio of the second to the first of each pair, with its interval (95 %)."""
    ratios = np.array([second / first for first, second in pairs])
    return bootstrap(lambda at: np.median(ratios[at]), len(ratios), n_bootstrap=1000, seed=rng)


model = load_model(network, weights="random", seed=seed)
image = torch.from_numpy(rng.normal(size=(1, 3, image_size, image_size)).astype(np.float32))
volumes = volumes_of(model, image)


def forward():
    with torch.inference_mode():
        model(image)


def engine():
    for volume in volumes:
        betti_numbers(volume, 0.0)


threads = torch.get_num_threads()
engine(), forward()  # compiled and warm
against_forward = {}
for n in (1, threads):
    torch.set_num_threads(n)
    pairs = [(seconds(forward), seconds(engine)) for _ in range(repeats)]
    against_forward[n] = ratio(pairs)
torch.set_num_threads(threads)

with ThreadPoolExecutor(2) as pool:
    many = volumes * 4
    list(pool.map(lambda volume: betti_numbers(volume, 0.0), many))
    two_threads = ratio(
        [
            (
                seconds(lambda: list(pool.map(lambda volume: betti_numbers(volume, 0.0), many))),
                seconds(lambda: [betti_numbers(volume, 0.0) for volume in many]),
            )
            for _ in range(max(repeats // 3, 5))
        ]
    )

accelerator = next(
    (
        kind
        for kind in ("cuda", "mps")
        if getattr(torch.backends, kind).is_built() and getattr(torch, kind).is_available()
    ),
    None,
)
gpu_text = "no accelerator on this machine"
if accelerator:
    here, there = (
        topological_complexity(
            embedding_profile(
                model, image, thresholds=0.0, device=device, progress=False, cache=False
            )
        )
        for device in ("cpu", accelerator)
    )
    share = float((abs(there - here) / here.clip(1)).max())
    gpu_text = f"on {accelerator} the largest difference of Ω at a block is {100 * share:.2g} %"

# %% [markdown]
# ## Against persistent homology, as the volume grows
#
# Volumes of 64 channels with independent normal values, the threshold at 0: more components, tunnels
# and cavities than activations have, so a hard case. Each measurement is a process of its own, whose
# memory is watched from outside; what counts is what is added to the volume itself. CubicalRipser
# {cite}`cubicalripser` and GUDHI {cite}`gudhi` compute all bars, from which any threshold can be read;
# they are given volumes as long as they are expected to stay within the limit, and the two smallest in
# any case.

# %% tags=["hide-input"]
CHILD = """
import sys, time
import numpy as np
engine, voxels, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
if engine == "this book":
    from topo_utils import betti_numbers
    run = lambda volume: betti_numbers(volume, 0.0)
elif engine == "CubicalRipser":
    import cripser
    run = lambda volume: cripser.computePH(volume)
else:
    from topo_utils import persistence
    run = persistence
side = max(round((voxels / 64) ** 0.5), 2)
volume = np.random.default_rng(seed).standard_normal((64, side, side), dtype=np.float32)
if engine == "CubicalRipser":
    volume = volume.astype(np.float64)
for part in (volume[:2], volume[:, :16, :16]):  # both ways of the engine, compiled and warm
    run(part.copy())
print("ready", volume.size, flush=True)
sys.stdin.readline()
start = time.perf_counter()
run(volume)
print(time.perf_counter() - start, flush=True)
"""


def measure(name, size):
    """Voxels, seconds, and bytes added to the volume, of one engine in a process of its own."""
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, name, str(size), str(seed)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    actual = int(child.stdout.readline().split()[1])
    process = psutil.Process(child.pid)
    before = peak = process.memory_info().rss
    child.stdin.write("\n")
    child.stdin.flush()
    try:
        while child.poll() is None:
            peak = max(peak, process.memory_info().rss)
            time.sleep(0.001)
    except psutil.NoSuchProcess:  # it ended between the two looks
        pass
    return actual, float(child.stdout.readline()), peak - before


growth = []
for name in ("this book", "CubicalRipser", "GUDHI"):
    expected = 0.0
    for size in sorted(voxels):
        if name != "this book" and growth and growth[-1][0] == name:
            expected = growth[-1][2] * size / growth[-1][1]
        few = sum(row[0] == name for row in growth) < 2  # a slope needs two, however slow
        if name == "this book" or few or expected <= limit:
            growth.append((name, *measure(name, size)))
growth = pd.DataFrame(growth, columns=["engine", "voxels", "seconds", "bytes"])
slopes = {
    name: float(np.polyfit(np.log(rows["voxels"]), np.log(rows["seconds"]), 1)[0])
    for name, rows in growth.groupby("engine")
    if len(rows) > 1
}

# %% mystnb={"figure": {"caption": "Time and added memory against the number of voxels, each measured in a process of its own, one thread. The dotted line grows in proportion.", "name": "fig-growth"}, "image": {"alt": "Two log-log charts, time in seconds and added memory in bytes against the number of voxels, for the engine of this book, CubicalRipser and GUDHI. The line of this book lies lowest and goes furthest to the right."}} tags=["hide-input"]
figure, axes = plt.subplots(1, 2, figsize=(9.6, 4.0))
for ax, column, label in zip(
    axes, ("seconds", "bytes"), ("seconds", "bytes added to the volume"), strict=True
):
    for (name, rows), colour in zip(growth.groupby("engine", sort=False), COLOURS, strict=False):
        shown = rows[rows[column] > 0]
        ax.loglog(shown["voxels"], shown[column], "o-", color=colour, label=name)
    own = growth[growth["engine"] == "this book"]
    start = own[column].iloc[0] / own["voxels"].iloc[0]
    ax.loglog(own["voxels"], start * own["voxels"], ":", color="black", lw=1)
    ax.set(xlabel="voxels", ylabel=label)
_ = figure.legend(*axes[0].get_legend_handles_labels(), ncols=3, loc="outside upper center")

# %% tags=["hide-input"]
import cripser

curve = rng.standard_normal((64, 64, 64))
etas = np.quantile(curve, np.linspace(0.02, 0.98, n_thresholds))
betti_curves(curve[:2, :8, :8], etas)
all_thresholds = ratio(
    [
        (seconds(betti_curves, curve, etas), seconds(cripser.computePH, curve))
        for _ in range(max(repeats // 3, 5))
    ]
)
# The largest that all were given.
largest = growth.groupby("voxels").filter(lambda rows: len(rows) == 3)["voxels"].max()
at_largest = growth[growth["voxels"] == largest].set_index("engine")
factors = at_largest["seconds"] / at_largest["seconds"]["this book"]
own = growth[growth["engine"] == "this book"]
pd.DataFrame(
    {
        "slope of log time on log voxels": {k: f"{v:.2f}" for k, v in slopes.items()},
        "largest volume, voxels": growth.groupby("engine")["voxels"].max().map("{:,}".format),
        "its seconds": growth.groupby("engine")["seconds"].last().map("{:.2f}".format),
        "bytes added a voxel": (
            growth.groupby("engine")["bytes"].last() / growth.groupby("engine")["voxels"].last()
        ).map("{:.1f}".format),
    }
).loc[growth["engine"].unique()]

# %% [markdown]
# ## The paper's whole experiment
#
# Every network of the experiment runs here once, with random weights, and the engine counts all of its
# blocks; the projection multiplies by the number of images. For the other engines it multiplies the
# voxels by the time a voxel took them on their largest volume above.

# %% tags=["hide-input"]
per_voxel = {
    name: float(rows["seconds"].iloc[-1] / rows["voxels"].iloc[-1])
    for name, rows in growth.groupby("engine", sort=False)
}
projected = {}
picture = torch.from_numpy(
    rng.normal(size=(1, 3, experiment_size, experiment_size)).astype(np.float32)
)
for name in experiment:
    net = load_model(name, weights="random", seed=seed)
    outputs = volumes_of(net, picture)
    with torch.inference_mode():
        passing = min(seconds(net, picture) for _ in range(2))
    counting = seconds(lambda volumes: [betti_numbers(v, 0.0) for v in volumes], outputs)
    size = sum(volume.size for volume in outputs)
    projected[name] = {
        "blocks": len(outputs),
        "million voxels an image": size / 1e6,
        "forward pass": passing,
        "this book": counting,
        **{engine: size * per_voxel[engine] for engine in ("CubicalRipser", "GUDHI")},
    }
projected = pd.DataFrame(projected).T
kinds = ["forward pass", "this book", "CubicalRipser", "GUDHI"]
hours = projected[kinds] * experiment_images / 3600
shown = pd.concat(
    [
        projected[["blocks", "million voxels an image"]].map("{:.3g}".format),
        hours.map("{:.2f} h".format),
    ],
    axis=1,
)
shown.loc["all"] = ["", "", *hours.sum().map("{:.1f} h".format)]
shown

# %% tags=["remove-cell"]
one, default = against_forward[1], against_forward[threads]
glue(
    network_name=network,
    pixels=image_size,
    n_blocks=len(volumes),
    gpu_text=gpu_text,
    ratio_one=one.value,
    ratio_one_low=one.low,
    ratio_one_high=one.high,
    n_threads=threads,
    ratio_default=default.value,
    ratio_default_low=default.low,
    ratio_default_high=default.high,
    two_threads=two_threads.value,
    two_threads_low=two_threads.low,
    two_threads_high=two_threads.high,
    own_slope=slopes["this book"],
    own_bytes=own["bytes"].iloc[-1] / own["voxels"].iloc[-1],
    own_largest=own["voxels"].iloc[-1] / 1e6,
    compared_voxels=largest / 1e6,
    factor_cripser=factors["CubicalRipser"],
    factor_gudhi=factors["GUDHI"],
    curve_thresholds=n_thresholds,
    factor_curve=all_thresholds.value,
    factor_curve_low=all_thresholds.low,
    factor_curve_high=all_thresholds.high,
    n_networks=len(experiment),
    used_images=experiment_images,
    hours_forward=hours["forward pass"].sum(),
    hours_own=hours["this book"].sum(),
    hours_cripser=hours["CubicalRipser"].sum(),
    hours_gudhi=hours["GUDHI"].sum(),
    nanoseconds=1e9 * per_voxel["this book"],
)

# %% [markdown]
# **Against the forward pass.** The {glue:text}`n_blocks` block outputs of {glue:text}`network_name` at
# {glue:text}`pixels` pixels take {glue:text}`ratio_one:.2f` [{glue:text}`ratio_one_low:.2f`,
# {glue:text}`ratio_one_high:.2f`] of the forward pass with one thread each, and
# {glue:text}`ratio_default:.2f` [{glue:text}`ratio_default_low:.2f`,
# {glue:text}`ratio_default_high:.2f`] when torch uses {glue:text}`n_threads` and the engine one. Two
# threads count {glue:text}`two_threads:.2f` [{glue:text}`two_threads_low:.2f`,
# {glue:text}`two_threads_high:.2f`] times as many volumes in the same time as one. On identical
# activations the integers do not depend on the device; but a GPU's own forward pass rounds
# differently, and where there is one the difference is measured ({glue:text}`gpu_text`).
#
# **Growth.** Time grows with the number of voxels to the power {glue:text}`own_slope:.2f`, up to
# {glue:text}`own_largest:.0f` million voxels, where {glue:text}`own_bytes:.1f` bytes a voxel are added
# to the volume. At {glue:text}`compared_voxels:.1f` million voxels CubicalRipser takes
# {glue:text}`factor_cripser:.0f` and GUDHI {glue:text}`factor_gudhi:.0f` times as long; a Betti curve
# of {glue:text}`curve_thresholds` thresholds on 64 × 64 × 64 voxels takes CubicalRipser
# {glue:text}`factor_curve:.1f` [{glue:text}`factor_curve_low:.1f`, {glue:text}`factor_curve_high:.1f`]
# times as long as the engine.
#
# **The paper's experiment.** {glue:text}`n_networks` networks and {glue:text}`used_images` images are
# {glue:text}`hours_forward:.1f` hours of forward passes on this machine. Counting Betti numbers at one
# threshold adds {glue:text}`hours_own:.1f` hours with one thread; by persistent homology it would be
# {glue:text}`hours_cripser:.0f` hours with CubicalRipser and {glue:text}`hours_gudhi:.0f` hours with
# GUDHI. For a calculation of your own: {glue:text}`nanoseconds:.1f` nanoseconds a voxel and threshold
# ({doc}`scaling` does it for many images and machines).

# %% [markdown]
# ## Verdict
#
# The rule: *reproduced* if the whole interval of the ratio with one thread each lies below 1 and the
# slope of log time on log voxels is at most 1.1; *reproduced with limits* if only the ratio does;
# *not reproduced* if the interval lies above 1; *inconclusive* otherwise.


# %% tags=["hide-input"]
def performance_verdict(ratio, slope):
    """From the ratio of engine to forward pass, with its interval, and the slope of growth."""
    text = f"The engine takes {ratio} of the forward pass"
    if ratio.low > 1:
        return "not reproduced", f"{text}."
    if ratio.high >= 1:
        return "inconclusive", f"{text}, an interval that contains 1."
    if slope > 1.1:
        return "reproduced with limits", f"{text}, but its time grows to the power {slope:.2f}."
    return "reproduced", f"{text}, and its time grows with the voxels to the power {slope:.2f}."


verdict, reason = performance_verdict(one, slopes["this book"])
record_finding(
    claim="Exact Betti numbers of all blocks cost less than the network's own forward pass",
    verdict=verdict,
    reason=reason,
    numbers={
        "engine_over_forward_one_thread": one,
        "engine_over_forward_default_threads": default,
        "two_threads_over_one": two_threads,
        "slope_of_growth": slopes["this book"],
        "CubicalRipser_over_engine": factors["CubicalRipser"],
        "GUDHI_over_engine": factors["GUDHI"],
        "CubicalRipser_over_engine_all_thresholds": all_thresholds,
    },
)

# %% [markdown]
# ## What to try next
#
# - Another network: `-p network mobilenet_v2`. Its forward pass is cheap: what does the ratio become?
# - Larger pictures: `-p image_size 512`. Does the ratio change?
# - Your own experiment: `-p experiment '["resnet50"]' -p experiment_images 100000`.

# %% [markdown]
# ## Exercises
#
# ```{exercise} Which part grows?
# :label: ex-performance-1
#
# At twice the height and width of the image, by which factor does the forward pass of a convolutional
# network grow, and by which the counting? What follows for their ratio?
# ```
#
# ```{solution} ex-performance-1
# :label: sol-performance-1
# :class: dropdown
#
# Both grow with the number of activations, by a factor of four: a convolution does the same work at
# every point, and so does the counting. The ratio stays about the same, up to the caches of the
# processor. It is the number of channels that changes it: the work of a convolution grows with the
# channels that come in times those that go out, the counting with the latter alone.
# ```
#
# ```{exercise} Curves instead of bars
# :label: ex-performance-2
#
# Persistent homology gives pairs of births and deaths, the engine only how many bars there are at a
# threshold. Name one question about a network that needs the pairs, and one that does not.
# ```
#
# ```{solution} ex-performance-2
# :label: sol-performance-2
# :class: dropdown
#
# How long a component lives, that is whether it is a dip of rounding size or a deep one, needs the
# pairs. Ω at any threshold, its curve over all thresholds, and everything in the paper that this book
# reproduces do not: the number of bars that contain η is all they use.
# ```
