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
# # The first block at 0
#
# x = 0, …, L − 1, as arrays are counted, instead of 1, …, L. The fitted curve is the same, but its
# coefficients are not, and θ is a sum of coefficients.
#
# expected score: 17


# %% replaces="ps4-theta"
def theta(omega, positions=None, penalty=1e-3):
    """The score of a curve (L,), on x = 1, ..., L or on other positions (L,)."""
    y = omega / np.linalg.norm(omega)
    x = np.arange(float(len(y))) if positions is None else np.asarray(positions, dtype=float)
    powers = np.stack([x, x**2, x**3], axis=1)
    rows = np.vstack([powers - powers.mean(axis=0), np.sqrt(penalty) * np.eye(3)])
    coefficients = np.linalg.lstsq(rows, np.append(y - y.mean(), np.zeros(3)), rcond=None)[0]
    return coefficients @ [1.0, 0.5, 0.5]
