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
# # Does counting cost less than the forward pass?
#
# > This book's own claim: exact Betti numbers of all blocks cost less than the forward pass that made
# > them, and their cost grows in proportion to the number of activations.

# %% tags=["remove-input"]
from topo_utils.book import place

place("answer")

# %% mystnb={"figure": {"caption": "Time and added memory against the number of voxels.", "name": "fig-growth"}, "image": {"alt": "Two log-log charts, time in seconds and added memory in bytes against the number of voxels, for the engine of this book, CubicalRipser and GUDHI. The line of this book lies lowest and goes furthest to the right."}} tags=["remove-input"]
place("fig-growth")

# %% [markdown]
# You need to know what is counted: {doc}`homology_primer` shows it. The authors computed persistent
# homology of every block's output, which takes seconds a volume; this book counts directly.

# %% [markdown]
# ## Parameters
#
# This page is a notebook: change these values and run all its cells again, or type what the box says.

# %% tags=["parameters", "hide-input"]
from topo_utils.book import AtLeast, NonEmpty

# The network, with random weights: a name that topo_utils.model_names() lists.
network: str = "resnet18"
# Height and width of the image, in pixels.
image_size: AtLeast[1] = 256
# How often the forward pass and the engine are timed in turn, at least 5.
repeats: AtLeast[1] = 15
# Sizes of the volumes on which time and memory are measured, in voxels.
voxels: NonEmpty[AtLeast[1]] = [
    100_000,
    400_000,
    1_600_000,
    6_400_000,
    25_600_000,
    50_000_000,
]
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
# ## Method
#
# Seconds depend on the machine and on what else it does. So everything is measured side by side in one
# run, and what counts are ratios. The outputs of all blocks are kept from one forward pass; then
# forward pass and engine are timed in turn, with one thread each and with torch's own number of threads.
# The ratio is the median over the pairs, its interval a bootstrap over them (95 %).

# %% tags=["hide-cell"]
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import cripser
import numpy as np
import pandas as pd
import psutil
import torch
from IPython.display import Markdown
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
from topo_utils.book import fill, record_finding
from topo_utils.book.findings import duration
from topo_utils.plotting import COLOURS, use_style
from topo_utils.training import one_thread

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


def ratio(first, second, n):
    """Median time of the second over that of the first, timed in turn, with its interval."""
    pairs = np.array([(seconds(first), seconds(second)) for _ in range(n)])
    ratios = pairs[:, 1] / pairs[:, 0]
    return bootstrap(
        lambda at: np.median(ratios[at]), n, n_bootstrap=1000, seed=rng
    )


def noise(size):
    """An image (1, 3, size, size) of independent normal values."""
    return torch.from_numpy(
        rng.normal(size=(1, 3, size, size)).astype(np.float32)
    )


def forward():
    with torch.inference_mode():
        model(image)


# %%
model = load_model(network, weights="random", seed=seed)
image = noise(image_size)
volumes = volumes_of(model, image)


def engine():
    return [betti_numbers(volume, 0.0) for volume in volumes]


engine(), forward()  # compiled and warm
with one_thread():
    one = ratio(forward, engine, repeats)
print("engine over forward pass, one thread each:", one)

# %% [markdown]
# ## What do several threads, or a GPU, change?

# %% tags=["hide-cell"]
default = ratio(forward, engine, repeats)
few = max(repeats // 3, 5)
many = volumes * 4
with ThreadPoolExecutor(2) as pool:

    def with_two_threads():
        list(pool.map(lambda volume: betti_numbers(volume, 0.0), many))

    def with_one_thread():
        [betti_numbers(volume, 0.0) for volume in many]

    with_two_threads()
    two_threads = ratio(with_two_threads, with_one_thread, few)

accelerators = [
    kind
    for kind in ("cuda", "mps")
    if getattr(torch.backends, kind).is_built()
    and getattr(torch, kind).is_available()
]
gpu_text = "this machine has no accelerator"
if accelerators:
    here, there = (
        topological_complexity(
            embedding_profile(
                model,
                image,
                thresholds=0.0,
                device=device,
                progress=False,
                cache=False,
            )
        )
        for device in ("cpu", accelerators[0])
    )
    share = float((abs(there - here) / here.clip(1)).max())
    gpu_text = f"on {accelerators[0]} the largest difference of Ω at a block is {100 * share:.2g} %"

# %% tags=["remove-input"]
Markdown(f"""
Counting in the {len(volumes)} block outputs of `{network}` at {image_size} pixels takes **{one}** of
the forward pass with one thread each, and {default} when torch uses {torch.get_num_threads()} and the
engine one. Two threads count {two_threads} times as many volumes in the same time as one.

On identical activations the integers do not depend on the device. A GPU's own forward pass rounds
differently, and where there is one the difference is measured: {gpu_text}.
""")

# %% [markdown]
# ## How does it grow, beside persistent homology?
#
# Volumes of 64 channels with independent normal values, the threshold at 0: more components, tunnels
# and cavities than activations have, so a hard case. Each measurement is a process of its own, whose
# memory is watched from outside; what counts is what is added to the volume itself. CubicalRipser
# {cite}`cubicalripser` and GUDHI {cite}`gudhi` compute all bars, from which any threshold can be read.
# They are given volumes as long as they are expected to stay within the limit, and the two smallest in
# any case.

# %% tags=["hide-cell"]
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


def measured_apart(name, size):
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
    rows = []
    for size in sorted(voxels):
        expected = rows[-1][2] * size / rows[-1][1] if rows else 0.0
        # A slope needs two, however slow.
        if name == "this book" or len(rows) < 2 or expected <= limit:
            rows.append((name, *measured_apart(name, size)))
    growth += rows
growth = pd.DataFrame(
    growth, columns=["engine", "voxels", "seconds", "bytes"]
)
engines = growth.groupby("engine", sort=False)
last = engines.last()  # the largest volume of each
slopes = {
    name: float(
        np.polyfit(np.log(rows["voxels"]), np.log(rows["seconds"]), 1)[0]
    )
    for name, rows in engines
    if len(rows) > 1
}
# The largest that all were given.
largest = (
    growth.groupby("voxels")
    .filter(lambda rows: len(rows) == 3)["voxels"]
    .max()
)
factors = growth[growth["voxels"] == largest].set_index("engine")["seconds"]
factors /= factors["this book"]

curve = rng.standard_normal((64, 64, 64))
etas = np.quantile(curve, np.linspace(0.02, 0.98, n_thresholds))
betti_curves(curve[:2, :8, :8], etas)
all_thresholds = ratio(
    lambda: betti_curves(curve, etas), lambda: cripser.computePH(curve), few
)

# %% tags=["hide-input"]
pd.DataFrame(
    {
        "slope of log time on log voxels": pd.Series(slopes).map(
            "{:.2f}".format
        ),
        "largest volume, voxels": last["voxels"].map("{:,}".format),
        "its time": last["seconds"].map(duration),
        "bytes added a voxel": (last["bytes"] / last["voxels"]).map(
            "{:.1f}".format
        ),
    }
).loc[last.index]

# %% tags=["remove-input"]
own = last.loc["this book"]
Markdown(f"""
The engine's time grows with the number of voxels to the power **{slopes["this book"]:.2f}**, up to
{own["voxels"]:,.0f} voxels, where {own["bytes"] / own["voxels"]:.1f} bytes a voxel are
added to the volume. At {largest:,} voxels CubicalRipser takes
{factors["CubicalRipser"]:.0f} and GUDHI {factors["GUDHI"]:.0f} times as long. For a Betti curve of
{n_thresholds} thresholds on 64 × 64 × 64 voxels CubicalRipser takes {all_thresholds:.1f} times as long
as the engine.
""")

# %% tags=["hide-cell"]
figure, axes = plt.subplots(1, 2, figsize=(9.6, 4.0))
for ax, column in zip(axes, ("seconds", "bytes"), strict=True):
    for (name, rows), colour in zip(engines, COLOURS, strict=False):
        shown = rows[rows[column] > 0]
        ax.loglog(
            shown["voxels"], shown[column], "o-", color=colour, label=name
        )
    line = growth[growth["engine"] == "this book"]
    start = line[column].iloc[0] / line["voxels"].iloc[0]
    ax.loglog(
        line["voxels"], start * line["voxels"], ":", color="black", lw=1
    )
    ax.set(xlabel="voxels", ylabel=column)
axes[1].set_ylabel("bytes added to the volume")
figure.legend(
    *axes[0].get_legend_handles_labels(), ncols=3, loc="outside upper center"
)
plt.close(figure)
fill(
    "fig-growth",
    figure,
    caption=f"At {largest:,} voxels CubicalRipser takes "
    f"{factors['CubicalRipser']:.0f} and GUDHI {factors['GUDHI']:.0f} times as long as this book's "
    "engine. Each point is a process of its own with one thread; the dotted line grows in proportion.",
)

# %% [markdown]
# ## What would the paper's whole experiment cost?
#
# Every network of the experiment runs here once, with random weights and one thread, and the engine
# counts all of its blocks; the projection multiplies by the number of images. For the other engines it
# multiplies the voxels by the time that a voxel took them on their largest volume above.

# %% tags=["hide-input"]
per_voxel = last["seconds"] / last["voxels"]
picture = noise(experiment_size)
sizes, times = {}, {}
for name in experiment:
    net = load_model(name, weights="random", seed=seed)
    outputs = volumes_of(net, picture)
    with torch.inference_mode(), one_thread():
        passing = min(seconds(net, picture) for _ in range(2))
    counting = seconds(
        lambda volumes: [betti_numbers(v, 0.0) for v in volumes], outputs
    )
    size = sum(volume.size for volume in outputs)
    sizes[name] = {
        "blocks": len(outputs),
        "million voxels an image": f"{size / 1e6:.2f}",
    }
    others = size * per_voxel[["CubicalRipser", "GUDHI"]]
    times[name] = {"forward pass": passing, "this book": counting, **others}
times = pd.DataFrame(times).T * experiment_images
total = times.sum()
shown = pd.DataFrame(sizes).T.join(times.map(duration))
shown.loc["all"] = ["", "", *total.map(duration)]
shown

# %% tags=["remove-input"]
Markdown(f"""
With one thread, {len(experiment)} networks and {experiment_images:,} images are
{duration(total["forward pass"])} of forward passes on this machine. Counting Betti numbers at one
threshold adds **{duration(total["this book"])}**, which is
{100 * total["this book"] / total["forward pass"]:.0f} % of that; by persistent homology it would be
{duration(total["CubicalRipser"])} with CubicalRipser and {duration(total["GUDHI"])} with GUDHI. For a
calculation of your own: {1e9 * per_voxel["this book"]:.1f} nanoseconds a voxel and threshold
({{doc}}`scaling` does it for many images and machines).
""")

# %% [markdown]
# ## The rule
#
# *Reproduced* if the whole interval of the ratio with one thread each lies below 1 and the slope of log
# time on log voxels is at most 1.1; *reproduced with limits* if only the ratio does; *not reproduced* if
# the interval lies above 1; *inconclusive* otherwise.


# %% tags=["hide-cell"]
def performance_verdict(ratio, slope):
    """From the ratio of engine to forward pass, with its interval, and the slope of growth."""
    text = f"The engine takes {ratio} of the forward pass"
    if ratio.low > 1:
        return "not reproduced", f"{text}."
    if ratio.high >= 1:
        return "inconclusive", f"{text}, an interval that contains 1."
    if slope > 1.1:
        return (
            "reproduced with limits",
            f"{text}, but its time grows to the power {slope:.2f}.",
        )
    return (
        "reproduced",
        f"{text}, and its time grows with the voxels to the power {slope:.2f}.",
    )


verdict, reason = performance_verdict(one, slopes["this book"])
record_finding(
    claim="Exact Betti numbers of all blocks cost less than the network's own forward pass",
    verdict=verdict,
    reason=f"{reason} When torch uses {torch.get_num_threads()} threads and the engine one, the ratio "
    f"is {default}.",
    headline=f"Counting takes {one} of the time of the forward pass of {network}; 1 is the same time.",
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
# ## What this does not show
#
# - Seconds on a different machine: only ratios carry over, and not all of them.
# - That persistent homology is slow for its purpose: it computes all bars, the engine none.
# - That counting is cheap beside a forward pass on a GPU: see {doc}`scaling`.

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
