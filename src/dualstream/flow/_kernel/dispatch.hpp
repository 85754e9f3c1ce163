// Choosing the kernel for the processor at hand.
#pragma once

#include <span>

#include "kernel.hpp"

namespace dualstream {

// Kernels that run on this processor, the fastest first; the last runs everywhere.
std::span<const Kernel> kernels();

}  // namespace dualstream
