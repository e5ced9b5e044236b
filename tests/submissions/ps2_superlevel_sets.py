# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Superlevel instead of sublevel sets
#
# What is active is counted, f ≥ η, by turning the sign of values and threshold. Typical: activations
# are thought of as bright things on a dark ground.
#
# expected score: 23


# %% replaces="ps2-omega"
def complexity(model, names, images, eta=0.0, null=None):
    """Omega of images (N, 3, H, W) at L modules: an integer array (N, L)."""
    omega = np.zeros((len(images), len(names)), dtype=int)
    for i in range(len(images)):
        outputs = block_outputs(model, names, images[i : i + 1])
        for j, name in enumerate(names):
            volume = outputs[name][0].numpy()
            volume = volume if null is None else null(volume)
            omega[i, j] = betti_numbers(-volume, -eta).sum()
    return omega
