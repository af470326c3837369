/* The 6-bit registers of a dense HyperLogLog as bytes, and back, sixteen at a time. Included by
 * store/hyperloglog.pyx only.
 *
 * Sixteen registers are 12 bytes. A shuffle gives each four of them, 3 bytes, a 32-bit lane of their own; shifts and
 * masks within the lane do the rest. Vectors of the compiler's (GCC, Clang), so that each processor gets its own. */
#ifndef DFLY_HLL_DENSE_H
#define DFLY_HLL_DENSE_H

#include <stdint.h>
#include <string.h>

enum { DFLY_HLL_GROUP = 16, DFLY_HLL_GROUP_BYTES = 12, DFLY_HLL_GROUPS = 16384 / 16, DFLY_HLL_TABLES = 4 };

typedef int8_t dfly_hll_bytes __attribute__((vector_size(16)));
typedef uint32_t dfly_hll_lanes __attribute__((vector_size(16)));

#if defined(__clang__)
#define DFLY_HLL_SHUFFLE(v, ...) __builtin_shufflevector(v, v, __VA_ARGS__)
#else
#define DFLY_HLL_SHUFFLE(v, ...) __builtin_shuffle(v, (dfly_hll_bytes){__VA_ARGS__})
#endif

/* Of 16 readable bytes the first 12. */
static inline dfly_hll_bytes dfly_hll_unpack(const uint8_t *p)
{
    dfly_hll_bytes v;
    dfly_hll_lanes x;
    memcpy(&v, p, sizeof v);
    x = (dfly_hll_lanes)DFLY_HLL_SHUFFLE(v, 0, 1, 2, 2, 3, 4, 5, 5, 6, 7, 8, 8, 9, 10, 11, 11);
    x = (x & 0x3Fu) | ((x & 0xFC0u) << 2) | ((x & 0x3F000u) << 4) | ((x & 0xFC0000u) << 6);
    return (dfly_hll_bytes)x;
}

/* registers[i] becomes the larger one of both; none is above 63. */
static void dfly_hll_max(uint8_t *registers, const uint8_t *dense)
{
    uint8_t last[16] = {0};
    dfly_hll_bytes v, old, larger;
    int i;
    for (i = 0; i < DFLY_HLL_GROUPS; i++, registers += DFLY_HLL_GROUP, dense += DFLY_HLL_GROUP_BYTES) {
        if (i == DFLY_HLL_GROUPS - 1) {
            memcpy(last, dense, DFLY_HLL_GROUP_BYTES);
            dense = last;
        }
        v = dfly_hll_unpack(dense);
        memcpy(&old, registers, sizeof old);
        larger = v > old;
        v = (v & larger) | (old & ~larger);
        memcpy(registers, &v, sizeof v);
    }
}

static void dfly_hll_pack(uint8_t *dense, const uint8_t *registers)
{
    dfly_hll_bytes v;
    dfly_hll_lanes x;
    int i;
    for (i = 0; i < DFLY_HLL_GROUPS; i++, registers += DFLY_HLL_GROUP, dense += DFLY_HLL_GROUP_BYTES) {
        memcpy(&x, registers, sizeof x);
        x = (x & 0x3Fu) | ((x & 0x3F00u) >> 2) | ((x & 0x3F0000u) >> 4) | ((x & 0x3F000000u) >> 6);
        v = DFLY_HLL_SHUFFLE((dfly_hll_bytes)x, 0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, 15, 15, 15, 15);
        memcpy(dense, &v, DFLY_HLL_GROUP_BYTES);
    }
}

/* How many registers have each value, up to 63. Several tables, since one register after the other has the same value
 * often and would wait for the count before. */
static void dfly_hll_histogram(const uint8_t *registers, int *counts)
{
    uint16_t tables[DFLY_HLL_TABLES][64];
    uint64_t word;
    int i, j;
    memset(tables, 0, sizeof tables);
    for (i = 0; i < 16384; i += 8) {
        memcpy(&word, registers + i, sizeof word);
        for (j = 0; j < 8; j++, word >>= 8) tables[j % DFLY_HLL_TABLES][word & 63]++;
    }
    for (i = 0; i < 64; i++)
        for (counts[i] = 0, j = 0; j < DFLY_HLL_TABLES; j++) counts[i] += tables[j][i];
}
#endif
