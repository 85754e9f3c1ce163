// Memory of the kernel. Compiled once for all instruction sets.
#pragma once

#include <cstddef>

namespace dualstream {

// At least `bytes`, aligned to 64; throws std::bad_alloc.
void* allocate(std::size_t bytes);

// Gives back what allocate() gave for the same number of bytes. Each thread keeps some of it, so
// that one clip after the other is worked on in the same pages.
void release(void* memory, std::size_t bytes);

}  // namespace dualstream
