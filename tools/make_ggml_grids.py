#!/usr/bin/env python3
"""Writes src/knapsaq/compute/ggml_grid_points.cpp: the points of GGML's IQ types, as gguf-py decodes them.

    python tools/make_ggml_grids.py      (needs the packages gguf and numpy)

The points are facts of the format: a file of these types holds numbers of points. A point is kept as one number of 16
bits, with the place of each code among the grid's levels: two bits for a code of eight, three for one of four.
"""
import pathlib

import numpy as np
from gguf import quants

GRIDS = [("Iq1s", quants.IQ1_S), ("Iq2xxs", quants.IQ2_XXS), ("Iq2xs", quants.IQ2_XS), ("Iq2s", quants.IQ2_S),
         ("Iq3xxs", quants.IQ3_XXS), ("Iq3s", quants.IQ3_S)]
TARGET = pathlib.Path(__file__).parent.parent / "src/knapsaq/compute/ggml_grid_points.cpp"
WIDTH = 110


def packed(kind):
    """[points] numbers and the levels."""
    kind.init_grid()
    levels = [int(level) for level in kind.grid_map]
    points = np.asarray(kind.grid).reshape(kind.grid_shape).astype(int)
    bits = 2 if points.shape[1] == 8 else 3
    places = np.searchsorted(levels, points)
    assert (np.array(levels)[places] == points).all()
    return (places << (bits * np.arange(points.shape[1]))).sum(axis=1), levels


def main():
    text = ["// Made by tools/make_ggml_grids.py.", "", '#include "knapsaq/compute/ggml_grid_points.h"', "",
            "namespace knapsaq {", "", "// clang-format off"]
    for name, kind in GRIDS:
        numbers, _ = packed(kind)
        text += ["", f"const std::array<std::uint16_t, {len(numbers)}> k{name}Points = {{"]
        line = "   "
        for number in numbers:
            word = f" {number},"
            if len(line) + len(word) > WIDTH:
                text.append(line)
                line = "   "
            line += word
        text += [line, "};"]
    text += ["", "// clang-format on", "", "}  // namespace knapsaq", ""]
    TARGET.write_text("\n".join(text))


if __name__ == "__main__":
    main()
