"""What the page is handed to draw: interactive curves, and the bands around them."""

import numpy as np
import pytest
import xarray as xr

from topo_utils import Estimate, plotting


@pytest.fixture
def drawn(monkeypatch):
    """What is handed to the page, by figure."""
    found = {}
    monkeypatch.setattr(plotting, "_show_interactive", found.__setitem__)
    return found


def betti(n_images):
    rng = np.random.default_rng(0)
    return xr.DataArray(
        rng.integers(1, 50, (n_images, 4, 3)),
        dims=("image", "block", "degree"),
        coords={"block": list("abcd")},
    )


def test_interactive_curves_lie_within_their_bands(drawn):
    profiles = {"net (trained)": betti(9), "net (untrained)": betti(9) + 5, "other": betti(3)}
    shapes = dict.fromkeys(profiles, ((1, 2, 3),) * 4)
    plotting.interactive_curves("figure", profiles, shapes, dashed=["net (untrained)"])
    traces = drawn["figure"]["data"]
    bands, curves = traces[::2], traces[1::2]
    assert [curve["name"] for curve in curves] == list(profiles)
    for band, curve, profile in zip(bands, curves, profiles.values(), strict=True):
        omega = profile.sum("degree")
        assert curve["y"] == pytest.approx(omega.mean("image").values, abs=0.01)
        half = omega.std("image", ddof=1).values / np.sqrt(omega.sizes["image"])
        low, high = band["y"][:4], band["y"][:3:-1]
        assert low == pytest.approx(curve["y"] - half, abs=0.02)
        assert high == pytest.approx(curve["y"] + half, abs=0.02)
        assert band["x"][:4] == band["x"][:3:-1] == curve["x"]
        assert band["fillcolor"].startswith(curve["line"]["color"])
    assert curves[0]["line"]["color"] == curves[1]["line"]["color"] != curves[2]["line"]["color"]


def test_one_image_has_no_band(drawn):
    plotting.interactive_curves("figure", {"net": betti(1)}, {"net": [(1, 2, 3)] * 4})
    assert len(drawn["figure"]["data"]) == 1


def test_rows_that_two_groups_of_ratios_share_are_drawn_once():
    ratio = Estimate(0.3, 0.2, 0.4)
    groups = {"change": {"a – b": ratio, "a – c": ratio}, "control": {"a – c": ratio}, "none": {}}
    ax = plotting.plt.figure().add_subplot()
    plotting.plot_ratios(ax, groups)
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["a – b", "a – c"]
    heights = [line.get_ydata().tolist() for line in ax.lines[:2]]
    assert heights == [[0, 1], [1.25]]  # beside the other, not upon it
    plotting.plt.close()
