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
# # More than one machine
#
# What to type when one machine is too slow, and what it will cost: the cost is computed on this
# page from what one image costs on the machine that built it. How the engine compares with others
# is in {doc}`performance`.
#
# This page is a notebook: change the values under *Parameters*, and run all its cells again.

# %% [markdown]
# ## Parameters
#
# ```
# topobook run scaling -p model resnet50 -p n_images 2000 -p workers 4
# ```

# %% tags=["parameters"]
from topo_utils.book import AtLeast

# The network whose profile is wanted, with random weights: the time does not depend on them much.
model: str = "resnet18"
# Height and width of the images in pixels.
image_size: AtLeast[1] = 224
# How many images the profile is to have.
n_images: AtLeast[1] = 100_000
# How many machines, each with one accelerator.
machines: AtLeast[1] = 10
# How many cores of each machine count.
workers: AtLeast[1] = 16
# How many images are measured here, at least 2.
n_measured: AtLeast[2] = 8

# %% [markdown]
# ## On one machine
#
# All cores work at once, each on an image of its own, and what is measured is kept batch by batch. A
# run that was stopped, by whatever means, is started again by the same line and goes on where it
# was; the same profile a second time is read from disk.
#
# ```python
# profile = embedding_profile("resnet18", "folder:~/Pictures", thresholds=0.0)
# ```
#
# `topobook cache list` shows what is kept, `topobook cache prune 5GB` removes what was not used for
# longest, `topobook cache clear` everything; `TOPO_UTILS_CACHE=off` keeps nothing.
#
# ## On many
#
# The scheduling is Dask's and joblib's. With `pip install -e ".[cluster]"` on every machine, and the
# images under the same path on all of them, start the scheduler on one machine
#
# ```
# dask scheduler
# ```
#
# and on every machine a worker, with a thread for each core that is to count:
#
# ```
# dask worker tcp://SCHEDULER:8786 --nworkers 1 --nthreads 16
# ```
#
# Then the same call goes to all of them. The machine that calls it needs no accelerator:
#
# ```python
# import joblib
# from dask.distributed import Client
#
# client = Client("tcp://SCHEDULER:8786")
# with joblib.parallel_config("dask"):
#     profile = embedding_profile(
#         "resnet18", "folder:/shared/pictures", thresholds=0.0, device="cuda"
#     )
# ```
#
# A worker that dies gives its batch back, and another one takes it. With `device="cpu"` the integers
# do not depend on where a batch was counted, as long as the processors are of one kind; an
# accelerator sums in another order, so its integers may differ a little from theirs. A network by
# name is loaded by every worker; a module of your own travels with every batch, and if it is large
# `joblib.parallel_config("dask", scatter=[network])` sends it to each worker once.
#
# A chapter over a grid of parameters, one table of all verdicts and numbers:
#
# ```
# topobook sweep depth_decay --grid dataset imagenet_samples cifar10_samples --grid seed 0 1 2 \
#     --grid models '["efficientnet_lite0"]' '["efficientnet_lite1"]' --jobs 2
# ```
#
# With `--scheduler tcp://SCHEDULER:8786` instead of `--jobs` its runs go to the cluster. Runs that
# are done are not run again, and one that fails is a row with its error.

# %% [markdown]
# ## What it costs
#
# One image on one core: the forward pass, and the counting of all blocks' outputs. An accelerator
# takes over the forward pass, the counting stays with the cores, so its share is what a run with
# accelerators costs at the least, however fast these are.

# %%
import time

import pandas as pd
import torch

from topo_utils import embedding_profile, load_model
from topo_utils.book import glue
from topo_utils.training import one_thread

network = load_model(model, weights="random")
images = torch.randn(
    n_measured, 3, image_size, image_size, generator=torch.Generator().manual_seed(0)
)


def seconds_per_image(measure):
    """The least of several, since others may be at work on this machine."""
    times = []
    for image in images:
        start = time.perf_counter()
        measure(image[None])
        times.append(time.perf_counter() - start)
    return min(times[1:])  # the first compiles and allocates


def forward(image):
    with torch.inference_mode():
        network(image)


def profile(image):
    embedding_profile(
        network,
        image,
        thresholds=0.0,
        device="cpu",
        n_jobs=1,
        cache=False,
        progress=False,
    )


with one_thread():
    pass_seconds = seconds_per_image(forward)
    whole_seconds = seconds_per_image(profile)
count_seconds = max(whole_seconds - pass_seconds, 0.0)
cores = machines * workers

# %% tags=["hide-input"]
hours = n_images / 3600
pd.DataFrame(
    {
        "core hours": [hours * whole_seconds, hours * whole_seconds, hours * count_seconds],
        "cores": [workers, cores, cores],
        "hours": [
            hours * whole_seconds / workers,
            hours * whole_seconds / cores,
            hours * count_seconds / cores,
        ],
    },
    index=["one machine", "all machines", "all machines, accelerators for the forward pass"],
).round(2)

# %% tags=["remove-cell"]
glue(
    network=model,
    size=image_size,
    wanted=n_images,
    n_machines=machines,
    n_workers=workers,
    forward_ms=1000 * pass_seconds,
    count_ms=1000 * count_seconds,
    share=100 * count_seconds / whole_seconds,
    one_hours=hours * whole_seconds / workers,
    all_hours=hours * whole_seconds / cores,
    least_hours=hours * count_seconds / cores,
)

# %% [markdown]
# For {glue:text}`network` at {glue:text}`size` pixels one image takes {glue:text}`forward_ms:.1f` ms
# for the forward pass on one core of the machine that built this page, and
# {glue:text}`count_ms:.1f` ms for everything else, which is {glue:text}`share:.0f` % of the whole. So
# {glue:text}`wanted` images take {glue:text}`one_hours:.2f` hours on one machine with
# {glue:text}`n_workers` cores, and {glue:text}`all_hours:.2f` hours on {glue:text}`n_machines` of
# them. With an accelerator in each, and cores as fast as this one, no less than
# {glue:text}`least_hours:.2f` hours: that is the counting alone. Where the forward pass is the
# smaller part, more cores beside each accelerator help more than a faster accelerator.
#
# These figures assume that images are read and sent as fast as they are counted, and that all cores
# at once are as fast as one alone, which the memory of a machine may not allow: {doc}`performance`
# has the measured speed-up of several cores. Multiply by the price of an hour, and leave room.
