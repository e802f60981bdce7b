#include "knapsaq/compute/tensor.h"
