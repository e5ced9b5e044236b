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
# # The intercept is penalised
#
# All four coefficients get the penalty, which is what comes out when a column of ones is simply
# added to the powers. On the published curves the difference is in the fourth decimal, so that only
# an exact comparison shows it.
#
# expected score: 21


# %% replaces="ps4-theta"
def theta(omega, positions=None, penalty=1e-3):
    """The score of a curve (L,), on x = 1, ..., L or on other positions (L,)."""
    y = omega / np.linalg.norm(omega)
    x = np.arange(1.0, len(y) + 1) if positions is None else np.asarray(positions, dtype=float)
    powers = np.stack([np.ones(len(x)), x, x**2, x**3], axis=1)
    rows = np.vstack([powers, np.sqrt(penalty) * np.eye(4)])
    coefficients = np.linalg.lstsq(rows, np.append(y, np.zeros(4)), rcond=None)[0]
    return coefficients @ [0.0, 1.0, 0.5, 0.5]
