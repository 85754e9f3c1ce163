#include "memory.hpp"

#include <new>
#include <vector>

namespace dualstream {
namespace {

constexpr std::align_val_t kAlignment{64};
constexpr std::size_t kMostKeptBytes = std::size_t{64} << 20;

struct Block {
  void* memory;
  std::size_t bytes;
};

class KeptBlocks {
 public:
  KeptBlocks() = default;
  KeptBlocks(const KeptBlocks&) = delete;
  KeptBlocks& operator=(const KeptBlocks&) = delete;
  ~KeptBlocks() {
    while (!blocks_.empty()) drop_oldest();
  }

  void* take(std::size_t bytes) {
    for (auto block = blocks_.begin(); block != blocks_.end(); ++block) {
      if (block->bytes != bytes) continue;
      void* memory = block->memory;
      kept_ -= bytes;
      blocks_.erase(block);
      return memory;
    }
    return nullptr;
  }

  void keep(void* memory, std::size_t bytes) {
    blocks_.push_back({memory, bytes});
    kept_ += bytes;
    while (kept_ > kMostKeptBytes) drop_oldest();
  }

 private:
  void drop_oldest() {
    const Block oldest = blocks_.front();
    ::operator delete(oldest.memory, kAlignment);
    kept_ -= oldest.bytes;
    blocks_.erase(blocks_.begin());
  }

  std::vector<Block> blocks_;
  std::size_t kept_ = 0;
};

thread_local KeptBlocks kept;

}  // namespace

void* allocate(std::size_t bytes) {
  if (void* memory = kept.take(bytes)) return memory;
  return ::operator new(bytes, kAlignment);
}

void release(void* memory, std::size_t bytes) {
  if (memory != nullptr) kept.keep(memory, bytes);
}

}  // namespace dualstream
