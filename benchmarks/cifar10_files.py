"""CIFAR-10 as picture files: ``python -m benchmarks.cifar10_files CIFAR10.npz FOLDER``.

Writes FOLDER/train/CLASS/00000.png and so on, and FOLDER/test/CLASS, from an archive with arrays
``train_images`` (N, 32, 32, 3) uint8, ``train_labels``, ``test_images``, ``test_labels`` and
``class_names``. See cifar10_files.md for the runs on these files.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image


def write(archive: Path, folder: Path) -> int:
    """Write every image of an archive as a PNG file; gives how many."""
    count = 0
    with np.load(archive) as arrays:
        names = [str(name) for name in arrays["class_names"]]
        for part in ("train", "test"):
            for name in names:
                (folder / part / name).mkdir(parents=True, exist_ok=True)
            labeled = zip(arrays[f"{part}_images"], arrays[f"{part}_labels"], strict=True)
            for number, (pixels, label) in enumerate(labeled):
                Image.fromarray(pixels).save(folder / part / names[label] / f"{number:05}.png")
                count += 1
    return count


def main() -> None:
    """Write the files that the command names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("archive", type=Path)
    parser.add_argument("folder", type=Path)
    given = parser.parse_args()
    print(f"{write(given.archive, given.folder):,} files in {given.folder}")


if __name__ == "__main__":
    main()
