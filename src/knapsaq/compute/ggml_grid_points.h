#pragma once

#include <array>
#include <cstdint>

namespace knapsaq {

// The points of the IQ types' grids in the order of the files' numbers. A point is a number whose digits are
// the places of its codes among the grid's levels, the first code's lowest: two bits for a code of eight,
// three for one of four. IQ1_S and IQ1_M share a grid.
extern const std::array<std::uint16_t, 2048> kIq1sPoints;
extern const std::array<std::uint16_t, 256> kIq2xxsPoints;
extern const std::array<std::uint16_t, 512> kIq2xsPoints;
extern const std::array<std::uint16_t, 1024> kIq2sPoints;
extern const std::array<std::uint16_t, 256> kIq3xxsPoints;
extern const std::array<std::uint16_t, 512> kIq3sPoints;

}  // namespace knapsaq
