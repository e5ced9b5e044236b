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
# # The own mean is not subtracted
#
# Step 4 of the shape is left out, so that the distance measures the level of the curves as well.
# Typical, because nothing looks wrong: all numbers are finite and distances of equal curves are 0;
# only a factor that all blocks share shows it.
#
# expected score: 20


# %% replaces="ps3-distance"
def shape(omega):
    """The shape of Omega (images, blocks): 32 numbers with mean 0."""
    logs = np.log1p(omega.mean(axis=0))
    return np.interp(np.linspace(0, 1, 32), np.linspace(0, 1, len(logs)), logs)


def distance(omega_a, omega_b):
    """Root mean square difference of two shapes."""
    return np.sqrt(np.mean((shape(omega_a) - shape(omega_b)) ** 2))
