/* The peak that a processor's cores reach in float32: multiply-adds on registers alone.

   Sixteen independent sums hide the latency of the multiply-add unit; the vectors are as wide as the
   compiler's target has them. Built by benchmarks/peak.py. */

#include <stddef.h>

#if defined(__AVX512F__)
#define WIDTH 16
#elif defined(__AVX__)
#define WIDTH 8
#else
#define WIDTH 4
#endif
#define SUMS 16

typedef float Vector __attribute__((vector_size(4 * WIDTH)));

/* Multiply-adds of one call with `rounds`. */
size_t multiply_adds(size_t rounds) { return rounds * SUMS * WIDTH; }

/* Runs `rounds` rounds and returns a value that depends on all of them. */
float run(size_t rounds, float scale, float step) {
    Vector sums[SUMS];
    const Vector factor = scale - (Vector){}, addend = step - (Vector){};
    for (int i = 0; i < SUMS; ++i) sums[i] = (float)i - (Vector){};
    for (size_t round = 0; round < rounds; ++round)
#pragma GCC unroll 16
        for (int i = 0; i < SUMS; ++i) sums[i] = sums[i] * factor + addend;
    float total = 0;
    for (int i = 0; i < SUMS; ++i)
        for (int j = 0; j < WIDTH; ++j) total += sums[i][j];
    return total;
}
