#include "dispatch.hpp"

#include <vector>

namespace dualstream {

#define DUALSTREAM_DECLARE(isa)                                                    \
  namespace isa {                                                                  \
  void tvl1(const Frames&, const TVL1Options&, const Outputs&);                    \
  void tvl1_fast(const Frames&, const TVL1FastOptions&, const Outputs&);           \
  }
#ifdef DUALSTREAM_X86
DUALSTREAM_DECLARE(avx512)
DUALSTREAM_DECLARE(avx2)
#endif
DUALSTREAM_DECLARE(plain)
#undef DUALSTREAM_DECLARE

std::span<const Kernel> kernels() {
  static const std::vector<Kernel> usable = [] {
    std::vector<Kernel> found;
#ifdef DUALSTREAM_X86
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw")) {
      found.push_back({"avx512", avx512::tvl1, avx512::tvl1_fast});
    }
    if (avx2) found.push_back({"avx2", avx2::tvl1, avx2::tvl1_fast});
#endif
    found.push_back({"plain", plain::tvl1, plain::tvl1_fast});
    return found;
  }();
  return usable;
}

}  // namespace dualstream
