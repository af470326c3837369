/* CRC-64 by carry-less multiplication, where the processor has it. Included by persist/crc64.pyx only.
 *
 * Gopal et al., "Fast CRC Computation for Generic Polynomials Using PCLMULQDQ Instruction" (Intel, 2009): 128 bits S of
 * the message, D bits before its end, may be replaced by S_hi * (x^(D+64) mod P) + S_lo * (x^D mod P) at its end. With
 * bits in reverse order a product comes out multiplied by x once more, so the constants have one factor x less. */
#ifndef DFLY_CRC64_FOLD_H
#define DFLY_CRC64_FOLD_H

#include <stddef.h>
#include <stdint.h>

#define DFLY_CRC64_LANES 4

#if defined(__x86_64__)
#include <immintrin.h>

static int dfly_crc64_can_fold(void) { return __builtin_cpu_supports("pclmul"); }

__attribute__((target("pclmul,sse2")))
static inline __m128i dfly_crc64_advance(__m128i s, __m128i k)
{ return _mm_xor_si128(_mm_clmulepi64_si128(s, k, 0x00), _mm_clmulepi64_si128(s, k, 0x11)); }

/* Replaces `size` bytes, a multiple of 64 and not 0, and the checksum of what came before them by 16 bytes that have
 * the same checksum, counted from 0. far: x^575, x^511; near: x^191, x^127 (mod P, reversed). */
__attribute__((target("pclmul,sse2")))
static void dfly_crc64_fold(uint64_t crc, const uint8_t *p, size_t size, const uint64_t far[2], const uint64_t near[2],
                            uint8_t out[16])
{
    const __m128i k_far = _mm_loadu_si128((const __m128i *)far), k_near = _mm_loadu_si128((const __m128i *)near);
    __m128i lane[DFLY_CRC64_LANES];
    int i;
    for (i = 0; i < DFLY_CRC64_LANES; i++) lane[i] = _mm_loadu_si128((const __m128i *)p + i);
    lane[0] = _mm_xor_si128(lane[0], _mm_cvtsi64_si128((long long)crc));
    for (p += 64, size -= 64; size > 0; p += 64, size -= 64)
        for (i = 0; i < DFLY_CRC64_LANES; i++)
            lane[i] = _mm_xor_si128(dfly_crc64_advance(lane[i], k_far), _mm_loadu_si128((const __m128i *)p + i));
    for (i = 1; i < DFLY_CRC64_LANES; i++) lane[i] = _mm_xor_si128(dfly_crc64_advance(lane[i - 1], k_near), lane[i]);
    _mm_storeu_si128((__m128i *)out, lane[DFLY_CRC64_LANES - 1]);
}
#else
static int dfly_crc64_can_fold(void) { return 0; }
static void dfly_crc64_fold(uint64_t crc, const uint8_t *p, size_t size, const uint64_t far[2], const uint64_t near[2],
                            uint8_t out[16])
{ (void)crc; (void)p; (void)size; (void)far; (void)near; (void)out; }
#endif
#endif
