from __future__ import annotations

import numpy as np

from wstrack.reporting.thin import thin, tile


def test_few_samples_are_drawn_as_they_are() -> None:
    values = np.random.default_rng(0).random((25, 7))
    tiles = tile(values, np.arange(25) * 50)
    np.testing.assert_array_equal(tiles.image, values.T.astype(np.float32))
    assert (tiles.start, tiles.width, tiles.samples_per_column) == (-25.0, 50, 1)
    assert tiles.steps[:2] == ["0", "50"]


def test_many_samples_are_averaged_column_by_column() -> None:
    values = np.random.default_rng(0).random((100, 3))
    values[4:6, 0] = np.nan
    values[7, 0] = np.nan
    tiles = tile(values, np.arange(100), columns=50)
    assert tiles.image.shape == (3, 50)
    expected = values.reshape(50, 2, 3).mean(axis=1).T
    np.testing.assert_allclose(tiles.image[1:], expected[1:], rtol=1e-6)
    assert np.isnan(tiles.image[0, 2])
    assert tiles.image[0, 3] == np.float32(values[6, 0])
    assert (tiles.steps[0], tiles.samples_per_column) == ("0 to 1", 2)


def test_an_infinite_value_stays_visible_in_its_column() -> None:
    values = np.ones((100, 2))
    values[9, 1] = np.inf
    assert tile(values, np.arange(100), columns=50).image[1, 4] == np.inf


def test_a_gap_in_regular_samples_stays_empty() -> None:
    steps = np.array([0, 10, 20, 30, 80, 90])
    image = tile(np.arange(6.0)[:, None], steps).image[0]
    np.testing.assert_array_equal(image, [0, 1, 2, 3, *[np.nan] * 4, 4, 5])


def test_samples_ever_further_apart_leave_no_gap() -> None:
    tiles = tile(np.arange(8.0)[:, None], 2 ** np.arange(8))
    assert np.isfinite(tiles.image).all()
    assert tiles.image[0, -1] == 7


def test_more_layers_than_rows_are_averaged_row_by_row() -> None:
    values = np.random.default_rng(0).random((4, 10))
    tiles = tile(values, np.arange(4), rows=4)
    assert tiles.rows == [(0, 3), (3, 6), (6, 9), (9, 10)]
    np.testing.assert_allclose(tiles.image[0], values[:, :3].mean(axis=1), rtol=1e-6)
    np.testing.assert_allclose(tiles.image[3], values[:, 9], rtol=1e-6)


def test_thinned_curves_keep_every_spike() -> None:
    values = np.random.default_rng(0).random((20, 1000))
    spikes = np.arange(20) * 49
    values[np.arange(20), spikes] = 100.0
    picked = thin(values, points=150)
    assert picked.shape == (20, 150)
    assert (np.diff(picked) >= 0).all()
    assert all(spike in row for spike, row in zip(spikes, picked, strict=True))
