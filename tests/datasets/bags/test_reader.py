"""Bags become steps whose every number says from which message it is."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from supple.datasets import Reader
from supple.datasets.bags.reader import BagReader
from supple.datasets.testing import ReaderContract

from supple.datasets.bags.mapping import parse_mapping

MAPPING = """
period = 0.02
[[topic]]
name = "/joint_states"
max_age = 0.05
[[topic]]
name = "/commands"
clock = "log"
[[signal]]
feature = "observation"
topic = "/joint_states"
field = "position"
axes = ["b", "a"]
units = ["rad", "m"]
[[signal]]
feature = "action"
topic = "/commands"
field = "data"
axes = ["a", "b"]
units = ["m", "rad"]
"""


@pytest.mark.parametrize("kind", ["rosbag1", "sqlite", "mcap", "plain-zstd"])
def test_an_unambiguous_bag_needs_no_mapping(kind: str, arm_bag: Any) -> None:
    reader = BagReader(arm_bag(kind))
    spec = reader.describe()
    (episode,) = reader.episodes()
    k = np.arange(100)
    assert spec.questions == ()
    assert spec.schema.control_period == 0.02
    assert spec.schema.feature("observation").axes == ("a", "b", "a_velocity", "b_velocity")
    np.testing.assert_array_equal(
        episode.arrays["observation"], np.stack([2 * k, 1000 + 2 * k, -2.0 * k, 0.5 + 0 * k], 1)
    )
    np.testing.assert_array_equal(episode.arrays["action"], np.stack([2 * k, 7 + 0 * k], 1))
    np.testing.assert_array_equal(episode.arrays["time"], 1_700_000_000 * 10**9 + k * 20_000_000)
    assert episode.arrays["valid"].all()
    assert not episode.arrays["age"].any()
    assert spec.provenance["mapping_drafted"] is True
    assert spec.provenance["quality"][0]["topics"]["/joint_states"]["rate"] == 100.0


def test_axes_are_taken_by_name_in_the_order_of_the_mapping(arm_bag: Any) -> None:
    reader = BagReader(arm_bag("plain"), parse_mapping(MAPPING, "map"))
    (episode,) = reader.episodes()
    k = np.arange(100)
    np.testing.assert_array_equal(episode.arrays["observation"], np.stack([1000 + 2 * k, 2 * k], 1))
    assert reader.describe().schema.feature("observation").units == ("rad", "m")


class TestBagReader(ReaderContract):
    @pytest.fixture(autouse=True)
    def _bags(self, bags: Any) -> None:
        self.bags = bags

    def make_source(self, folder: Path) -> Path:
        (folder / "logs").mkdir()
        for name in ("one", "two"):
            self.bags.write(folder / "logs" / name, "plain", self.bags.arm(0.5))
        return folder / "logs"

    def make_reader(self, path: Path) -> Reader:
        return BagReader(path)
