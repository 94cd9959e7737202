"""What stands in the way of files of the cache is named."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dal.features.cache import FeatureCache


def test_a_folder_in_the_place_of_a_file_is_named(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path, "key")
    cache.array.mkdir()
    with pytest.raises(OSError, match=r"key\.npy is a folder in the place of a file; remove it"):
        cache.write([lambda: torch.zeros(3, 2)])


def test_a_folder_in_the_place_of_the_lock_is_named(tmp_path: Path) -> None:
    (tmp_path / "key.lock").mkdir()
    with (
        pytest.raises(OSError, match=r"key\.lock is a folder in the place of a file"),
        FeatureCache(tmp_path, "key").alone(),
    ):
        pass
