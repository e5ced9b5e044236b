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
# # Does counting cost more than the forward pass?
#
# > Exact Betti numbers of all blocks cost less than the forward pass that made them, and their cost
# > grows in proportion to the number of activations.
# >
# > — this book's own claim, about the machine that builds it

# %% tags=["remove-input"]
from topo_utils.book import place

place("answer")

# %% mystnb={"figure": {"caption": "Time and added memory.", "name": "fig-growth"}, "image": {"alt": "Two log-log charts, time in seconds and added memory in bytes against the number of voxels, for the engine of this book, CubicalRipser and GUDHI. In the first chart crosses mark forward passes of networks."}} tags=["remove-input"]
place("fig-growth")

# %% [markdown]
# You need to know what Betti numbers count: see {doc}`homology_primer`. The authors computed persistent
# homology of every block's output, which takes seconds a volume; this book counts Betti numbers directly.

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
# run, and what counts are ratios.
#
# The outputs of all blocks are kept from one forward pass of a network with random weights. Then the
# forward pass and the engine, which counts Betti numbers at η = 0, are timed in turn, each with one
# thread. The number is the median of the ratios; its interval (95 %) is a bootstrap over the pairs.

# %% tags=["hide-cell"]
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from subprocess import DEVNULL, PIPE, Popen

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
from topo_utils.plotting import COLOURS, use_style
from topo_utils.training import one_thread

use_style()
rng = np.random.default_rng(seed)
few = max(repeats // 3, 5)


def random_image(size):
    """One image (1, 3, H, W) of independent normal values."""
    values = rng.standard_normal((1, 3, size, size), dtype=np.float32)
    return torch.from_numpy(values)


def volumes_of(model, image):
    """The volumes (C, H, W) that the blocks give for one image (1, 3, H, W)."""
    with block_outputs(model, model_blocks(model)) as run:
        return [output[0].numpy() for output in run(image).values()]


def seconds(function, *arguments):
    start = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - start


def timed_in_turn(a, b, times):
    """Median ratio of the seconds of b to those of a, with its interval (95 %)."""
    pairs = np.array([(seconds(a), seconds(b)) for _ in range(times)])
    ratios = pairs[:, 1] / pairs[:, 0]

    def median(at):
        return np.median(ratios[at])

    return bootstrap(median, times, n_bootstrap=1000, seed=rng)


def duration(span):
    """Seconds as text, in the unit that fits."""
    for unit, length in (("h", 3600), ("min", 60), ("s", 1)):
        if span >= length:
            return f"{span / length:,.1f} {unit}"
    return f"{1000 * span:.2f} ms"


model = load_model(network, weights="random", seed=seed)
image = random_image(image_size)
volumes = volumes_of(model, image)


def forward(model=model, image=image):
    with torch.inference_mode():
        model(image)


_ = forward(), [betti_numbers(volume, 0.0) for volume in volumes]  # compiled


# %%
def count(volumes=volumes):
    return [betti_numbers(volume, 0.0) for volume in volumes]


with one_thread():
    against_forward = timed_in_turn(forward, count, repeats)
print(against_forward)

# %% [markdown]
# ## How does the cost grow, and what does persistent homology cost?
#
# Volumes of 64 channels with independent normal values are counted at the threshold 0. They hold more
# components, tunnels and cavities than activations do, so this is a hard case. Each measurement is a
# process of its own whose memory is watched from outside; what the volume itself takes is left out.
#
# CubicalRipser {cite}`cubicalripser` and GUDHI {cite}`gudhi` compute all bars, from which any threshold
# can be read. They get the two smallest volumes, and larger ones as long as they are expected to stay
# within the limit.

# %% tags=["hide-input"]
CHILD = """
import sys, time
import numpy as np
engine, voxels, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
side = max(round((voxels / 64) ** 0.5), 2)
volume = np.random.default_rng(seed).standard_normal((64, side, side), dtype=np.float32)
if engine == "this book":
    from topo_utils import betti_numbers
    run = lambda volume: betti_numbers(volume, 0.0)
elif engine == "CubicalRipser":
    from cripser import computePH as run
    volume = volume.astype(np.float64)
else:
    from topo_utils import persistence as run
for part in (volume[:2], volume[:, :16, :16]):  # both ways of the engine, compiled and warm
    run(part.copy())
print("ready", volume.size, flush=True)
sys.stdin.readline()
start = time.perf_counter()
run(volume)
print(time.perf_counter() - start, flush=True)
"""
OTHERS = ["CubicalRipser", "GUDHI"]
if len(set(voxels)) < 2:
    raise ValueError("accepted: voxels of at least two sizes")


def measure_apart(name, size):
    """Voxels, seconds, and bytes added to the volume, of one engine in a process of its own."""
    command = [sys.executable, "-c", CHILD, name, str(size), str(seed)]
    child = Popen(command, text=True, stdin=PIPE, stdout=PIPE, stderr=DEVNULL)
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


def growth_exponent(one):
    """The slope of log time on log voxels."""
    return np.polyfit(np.log(one["voxels"]), np.log(one["seconds"]), 1)[0]


rows = []
for name in ("this book", *OTHERS):
    for k, size in enumerate(sorted(voxels)):
        expected = rows[-1][2] * size / rows[-1][1] if k else 0
        # A slope needs two, however slow.
        if name == "this book" or k < 2 or expected <= limit:
            rows.append((name, *measure_apart(name, size)))
growth = pd.DataFrame(rows, columns=["engine", "voxels", "seconds", "bytes"])
by_engine = growth.groupby("engine", sort=False)
slopes = pd.Series({name: growth_exponent(one) for name, one in by_engine})
last = by_engine.last()
per_voxel = last.div(last["voxels"], axis=0)
# The largest that all were given.
common = growth.pivot_table("seconds", "voxels", "engine").dropna()
factors = common.iloc[-1] / common.iloc[-1]["this book"]
pd.DataFrame(
    {
        "time grows with voxels to the power": slopes.map("{:.2f}".format),
        "largest volume, voxels": last["voxels"].map("{:,}".format),
        "its time": last["seconds"].map(duration),
        "bytes added a voxel": per_voxel["bytes"].map("{:.1f}".format),
    }
).rename_axis(None)

# %% tags=["remove-input"]
cube = rng.standard_normal((64, 64, 64))
etas = np.quantile(cube, np.linspace(0.02, 0.98, n_thresholds))
betti_curves(cube[:2, :8, :8], etas)  # compiled
all_thresholds = timed_in_turn(
    lambda: betti_curves(cube, etas), lambda: cripser.computePH(cube), few
)
Markdown(f"""
The engine's time grows with the number of voxels to the power **{slopes["this book"]:.2f}**. At
{common.index[-1]:,} voxels CubicalRipser takes {factors["CubicalRipser"]:,.0f} times as long as the
engine, and GUDHI {factors["GUDHI"]:,.0f} times. A whole Betti curve of {n_thresholds} thresholds on
64 × 64 × 64 voxels takes CubicalRipser {all_thresholds:.1f} times as long.
""")

# %% [markdown]
# ## Do more threads or an accelerator change the ratio?

# %% tags=["remove-input"]
default = timed_in_turn(forward, count, repeats)
many = volumes * 4
with ThreadPoolExecutor(2) as pool:
    two_threads = timed_in_turn(
        lambda: list(pool.map(lambda volume: count([volume]), many)),
        lambda: count(many),
        few,
    )


def omega_on(device):
    options = {"thresholds": 0.0, "progress": False, "cache": False}
    profile = embedding_profile(model, image, device=device, **options)
    return topological_complexity(profile)


rounding = "this machine has none"
accelerators = {"cuda": torch.cuda, "mps": torch.backends.mps}
for device, kind in accelerators.items():
    if kind.is_available():
        here, there = omega_on("cpu"), omega_on(device)
        percent = 100 * float((abs(there - here) / here.clip(1)).max())
        rounding = (
            f"on {device} Ω of a block differs by {percent:.2g} % at most"
        )
Markdown(f"""
For the {len(volumes)} blocks of `{network}` at {image_size} pixels, counting takes {default:.2g} of the
forward pass when torch uses {torch.get_num_threads()} threads and the engine one. Two threads count
{two_threads} times as many volumes in the same time as one.

The integers depend on the activations alone, and not on the device. But an accelerator rounds
differently in its own forward pass ({rounding}).
""")

# %% [markdown]
# ## What would a whole experiment cost?
#
# By default it is the paper's. Every network of the experiment runs here with random weights and one
# thread, and the engine counts all of its blocks. The projection multiplies the seconds of one image by
# the number of images. For CubicalRipser and GUDHI it multiplies the voxels by the time a voxel took
# them on their largest volume above.

# %% tags=["hide-input"]
picture = random_image(experiment_size)
costs = {}
for name in experiment:
    net = load_model(name, weights="random", seed=seed)
    outputs = volumes_of(net, picture)
    size = sum(volume.size for volume in outputs)
    with one_thread():
        passing = [seconds(forward, net, picture) for _ in range(2)]
        counting = [seconds(count, outputs) for _ in range(2)]
    costs[name] = {
        "blocks": len(outputs),
        "voxels an image": size,
        "forward pass": min(passing),
        "this book": min(counting),
    } | (size * per_voxel["seconds"][OTHERS]).to_dict()
costs = pd.DataFrame(costs).T
costs.loc["all"] = costs.sum()
shown = costs.mul(experiment_images).map(duration)
shown["blocks"] = costs["blocks"].map("{:.0f}".format)
shown["voxels an image"] = costs["voxels an image"].map("{:,.0f}".format)
shown

# %% tags=["remove-input"]
projected = shown.loc["all"]
cheaper = (costs["this book"] < costs["forward pass"]).drop("all").sum()
Markdown(f"""
The forward passes of {len(experiment)} networks on {experiment_images:,} images take
{projected["forward pass"]} on this machine with one thread. Counting Betti numbers at one threshold
takes another **{projected["this book"]}**; persistent homology would take
{projected["CubicalRipser"]} with CubicalRipser and {projected["GUDHI"]} with GUDHI. Counting takes less
time than the forward pass in {cheaper} of the {len(experiment)} networks.

For a calculation of your own: {1e9 * per_voxel["seconds"]["this book"]:.1f} nanoseconds a voxel and
threshold ({{doc}}`scaling` does it for many images and machines).
""")

# %% tags=["hide-cell"]
figure, axes = plt.subplots(1, 2, figsize=(7.2, 4.0), sharex=True)
for ax, column in zip(axes, ("seconds", "bytes"), strict=True):
    for (name, one), colour in zip(by_engine, COLOURS, strict=False):
        one = one[one[column] > 0]
        ax.loglog(one["voxels"], one[column], "o-", color=colour, label=name)
    own = by_engine.get_group("this book")
    proportional = own["voxels"] * own[column].iloc[0] / own["voxels"].iloc[0]
    ax.loglog(own["voxels"], proportional, ":", color="black", lw=1)
    ax.set_xlabel("voxels")
    ax.xaxis.set_minor_formatter("")
passes = costs.drop("all")
x, y = passes["voxels an image"], passes["forward pass"]
axes[0].loglog(x, y, "kx", label="forward passes")
axes[0].set_ylabel("seconds")
axes[1].set_ylabel("bytes added to the volume")
figure.legend(
    *axes[0].get_legend_handles_labels(), ncols=4, loc="outside upper center"
)
plt.close(figure)
fill(
    "fig-growth",
    figure,
    caption=f"Counting the blocks of {network} takes {against_forward} of its forward pass, and the "
    f"time grows with the number of voxels to the power {slopes['this book']:.2f}. Time and added "
    "memory of one volume, each measured in a process of its own, one thread; the dotted line grows in "
    "proportion. Crosses: the forward passes of the experiment's networks, by the voxels of all blocks.",
)

# %% [markdown]
# ## The rule
#
# Fixed beforehand: *reproduced* if the whole interval of the ratio with one thread each lies below 1 and
# the slope of log time on log voxels is at most 1.1; *reproduced with limits* if only the ratio does;
# *not reproduced* if the interval lies above 1; *inconclusive* otherwise.


# %% tags=["hide-cell"]
def performance_verdict(ratio, slope):
    """From the ratio of engine to forward pass, with its interval, and the slope of growth."""
    text = f"The engine takes {ratio} of the forward pass"
    if ratio.low > 1:
        return "not reproduced", f"{text}."
    if ratio.high >= 1:
        return "inconclusive", f"{text}, an interval that contains 1."
    if slope > 1.1:
        text += f", but its time grows to the power {slope:.2f}."
        return "reproduced with limits", text
    text += f", and its time grows with the voxels to the power {slope:.2f}."
    return "reproduced", text


verdict, reason = performance_verdict(against_forward, slopes["this book"])
percent = against_forward.map(lambda share: 100 * share)
record_finding(
    claim="Exact Betti numbers of all blocks cost less than the network's own forward pass",
    verdict=verdict,
    reason=f"{reason} It takes less time than the forward pass in {cheaper} of the {len(experiment)} "
    "networks of the experiment below.",
    headline=f"Counting takes {percent:.0f} % of the time of the forward pass (`{network}`, one thread "
    "each).",
    numbers={
        "engine_over_forward_one_thread": against_forward,
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
# - How fast a different machine is. The seconds are those of this one; ratios carry over better.
# - What a whole Betti curve adds: the ratio to the forward pass is for one threshold.
# - That persistent homology could be left out everywhere. It also says which birth belongs to which
#   death, and the engine does not.
# - What trained networks cost. The weights here are random, and the time depends a little on what there
#   is to count.

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
