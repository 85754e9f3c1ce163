// Floats whose number is known late.
#pragma once

#include <cstddef>

#include "memory.hpp"
#include "simd.hpp"

namespace dualstream::DUALSTREAM_ISA {

class Buffer {
 public:
  Buffer() = default;
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() { release(data_, bytes_); }

  // At least `count` floats, aligned for Vec. What was there before is lost if it grows.
  float* reserve(std::size_t count) {
    const std::size_t bytes = count * sizeof(float);
    if (bytes > bytes_) {
      release(data_, bytes_);
      data_ = nullptr;
      bytes_ = 0;
      data_ = static_cast<float*>(allocate(bytes));
      bytes_ = bytes;
    }
    return data_;
  }

  float* data() const { return data_; }

 private:
  float* data_ = nullptr;
  std::size_t bytes_ = 0;
};

}  // namespace dualstream::DUALSTREAM_ISA
