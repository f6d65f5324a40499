/* md5.c - see md5.h. */
#include "tools/md5.h"

#include <string.h>

static const uint32_t sines[64] = {/* floor(2^32 |sin(i + 1)|) */
                                   0xd76aa478, 0xe8c7b756, 0x242070db, 0xc1bdceee, 0xf57c0faf, 0x4787c62a, 0xa8304613, 0xfd469501,
                                   0x698098d8, 0x8b44f7af, 0xffff5bb1, 0x895cd7be, 0x6b901122, 0xfd987193, 0xa679438e, 0x49b40821,
                                   0xf61e2562, 0xc040b340, 0x265e5a51, 0xe9b6c7aa, 0xd62f105d, 0x02441453, 0xd8a1e681, 0xe7d3fbc8,
                                   0x21e1cde6, 0xc33707d6, 0xf4d50d87, 0x455a14ed, 0xa9e3e905, 0xfcefa3f8, 0x676f02d9, 0x8d2a4c8a,
                                   0xfffa3942, 0x8771f681, 0x6d9d6122, 0xfde5380c, 0xa4beea44, 0x4bdecfa9, 0xf6bb4b60, 0xbebfbc70,
                                   0x289b7ec6, 0xeaa127fa, 0xd4ef3085, 0x04881d05, 0xd9d4d039, 0xe6db99e5, 0x1fa27cf8, 0xc4ac5665,
                                   0xf4292244, 0x432aff97, 0xab9423a7, 0xfc93a039, 0x655b59c3, 0x8f0ccc92, 0xffeff47d, 0x85845dd1,
                                   0x6fa87e4f, 0xfe2ce6e0, 0xa3014314, 0x4e0811a1, 0xf7537e82, 0xbd3af235, 0x2ad7d2bb, 0xeb86d391};
static const uint8_t  turns[16] = {7, 12, 17, 22, 5, 9, 14, 20, 4, 11, 16, 23, 6, 10, 15, 21};

static void mix(uint32_t s[4], const uint8_t block[64])
{
    uint32_t a = s[0], b = s[1], c = s[2], d = s[3], w[16];

    for (int i = 0; i < 16; i++)
        w[i] =
            (uint32_t)block[4 * i] | (uint32_t)block[4 * i + 1] << 8 | (uint32_t)block[4 * i + 2] << 16 | (uint32_t)block[4 * i + 3] << 24;
    for (int i = 0; i < 64; i++) {
        int round = i / 16, at = round == 0 ? i : round == 1 ? 5 * i + 1 : round == 2 ? 3 * i + 5 : 7 * i, n = turns[round * 4 + i % 4];
        uint32_t f = round == 0 ? (b & c) | (~b & d) : round == 1 ? (d & b) | (~d & c) : round == 2 ? b ^ c ^ d : c ^ (b | ~d);
        uint32_t x = a + f + sines[i] + w[at % 16];
        a = d;
        d = c;
        c = b;
        b += x << n | x >> (32 - n);
    }
    s[0] += a;
    s[1] += b;
    s[2] += c;
    s[3] += d;
}

void md5_init(struct md5 *m)
{
    *m = (struct md5){.state = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476}};
}

void md5_put(struct md5 *m, const void *from, size_t len)
{
    const uint8_t *at = from;

    while (len) {
        size_t used = m->n_bytes % 64, n = 64 - used < len ? 64 - used : len;
        if (used == 0 && n == 64) {
            mix(m->state, at);
        } else {
            memcpy(m->block + used, at, n);
            if (used + n == 64) mix(m->state, m->block);
        }
        m->n_bytes += n;
        at += n;
        len -= n;
    }
}

void md5_take(struct md5 *m, uint8_t out[16])
{
    static const uint8_t pad[64] = {0x80};
    uint64_t             bits = 8 * m->n_bytes;
    uint8_t              length[8];

    for (int i = 0; i < 8; i++) length[i] = (uint8_t)(bits >> 8 * i);
    md5_put(m, pad, 1 + (119 - m->n_bytes % 64) % 64);
    md5_put(m, length, 8);
    for (int i = 0; i < 16; i++) out[i] = (uint8_t)(m->state[i / 4] >> 8 * (i % 4));
}
