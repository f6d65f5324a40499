/* hash.c - digests, check sums, chance.
 * Believes: what the processor can do itself (SHA and CRC-32C instructions) it does several times as fast, with the same digests (tests/base/test_hash.c
 * compares them over every length and split); libsodium's SHA-256, elsewhere, needs no start-up call; the kernel always has random bytes (else we stop: keys and ids depend on it).
 * Not here: curve keys (proto/peer.c), seeds of images (engine/noise.c). */
#include "base/hash.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <sodium.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#endif

#include "base/err.h"

static_assert(sizeof(crypto_hash_sha256_state) <= sizeof(struct sha256), "struct sha256 is too small for libsodium");
static_assert(_Alignof(crypto_hash_sha256_state) <= _Alignof(struct sha256), "struct sha256 is not aligned enough");
static_assert(SHA256_BYTES == crypto_hash_sha256_BYTES, "SHA-256 has 32 bytes");

/* ---- SHA-256: the processor's own rounds where it has them (FIPS 180-4 in pairs of rounds), else libsodium ---- */
struct rounds { /* in the room of struct sha256, when the processor has the rounds */
    uint32_t h[8];
    uint64_t n_bytes;
    uint8_t  block[64];
};
static_assert(sizeof(struct rounds) <= sizeof(struct sha256), "struct sha256 is too small for our own state");

#if defined(__x86_64__)
#define ROUNDS __attribute__((target("sha,sse4.1,ssse3")))

static const uint32_t round_k[64] __attribute__((aligned(16))) = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be,
    0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa,
    0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85,
    0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3,
    0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f,
    0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static bool has_rounds(void)
{
    unsigned a, b, c, d;

    return __builtin_cpu_supports("sse4.1") && __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & bit_SHA);
}

/* n blocks of 64 bytes. The state is kept as ABEF and CDGH, as the instructions want it. */
ROUNDS static void blocks(uint32_t h[8], const uint8_t *at, size_t n)
{
    const __m128i swap = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
    __m128i       abcd = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)(const void *)h), 0xb1);
    __m128i       efgh = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)(const void *)(h + 4)), 0x1b);
    __m128i       abef = _mm_alignr_epi8(abcd, efgh, 8), cdgh = _mm_blend_epi16(efgh, abcd, 0xf0);

    for (; n; n--, at += 64) {
        const __m128i abef_was = abef, cdgh_was = cdgh;
        __m128i       w[4];

#pragma GCC unroll 4
        for (int i = 0; i < 4; i++) w[i] = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(const void *)(at + 16 * i)), swap);
#pragma GCC unroll 16
        for (int i = 0; i < 16; i++) { /* four rounds each; unrolled, w stays in registers: twice as fast */
            __m128i wk = _mm_add_epi32(w[i & 3], _mm_load_si128((const __m128i *)(const void *)(round_k + 4 * i)));

            cdgh = _mm_sha256rnds2_epu32(cdgh, abef, wk);
            abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(wk, 0x0e));
            if (i >= 12) continue; /* the schedule's words 4i+16.. take the place of 4i.. */
            w[i & 3] = _mm_add_epi32(_mm_sha256msg1_epu32(w[i & 3], w[(i + 1) & 3]), _mm_alignr_epi8(w[(i + 3) & 3], w[(i + 2) & 3], 4));
            w[i & 3] = _mm_sha256msg2_epu32(w[i & 3], w[(i + 3) & 3]);
        }
        abef = _mm_add_epi32(abef, abef_was);
        cdgh = _mm_add_epi32(cdgh, cdgh_was);
    }
    abcd = _mm_shuffle_epi32(abef, 0x1b);
    efgh = _mm_shuffle_epi32(cdgh, 0xb1);
    _mm_storeu_si128((__m128i *)(void *)h, _mm_blend_epi16(abcd, efgh, 0xf0));
    _mm_storeu_si128((__m128i *)(void *)(h + 4), _mm_alignr_epi8(efgh, abcd, 8));
}
static bool has_crc(void)
{
    return __builtin_cpu_supports("sse4.2");
}

__attribute__((target("sse4.2"))) static uint32_t crc_words(uint32_t c, const uint8_t *p, size_t len)
{
    for (; len >= 8; len -= 8, p += 8) {
        uint64_t word;

        memcpy(&word, p, 8);
        c = (uint32_t)_mm_crc32_u64(c, word);
    }
    for (; len; len--, p++) c = _mm_crc32_u8(c, *p);
    return c;
}
#else
static bool has_rounds(void)
{
    return false;
}

static bool has_crc(void)
{
    return false;
}

static uint32_t crc_words(uint32_t c, const uint8_t *p, size_t len)
{
    (void)c, (void)p, (void)len;
    abort();
}

static void blocks(uint32_t h[8], const uint8_t *at, size_t n)
{
    (void)h, (void)at, (void)n;
    abort();
}
#endif

/* Slices of 8: table[k][b] is the CRC of byte b followed by k zero bytes (reflected polynomial 0x82F63B78). */
static uint32_t       table[8][256];
static bool           own_rounds, own_crc;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void look_around(void)
{
    for (uint32_t b = 0; b < 256; b++) {
        uint32_t c = b;
        for (int i = 0; i < 8; i++) c = (c >> 1) ^ (c & 1 ? 0x82F63B78u : 0);
        table[0][b] = c;
    }
    for (int k = 1; k < 8; k++)
        for (int b = 0; b < 256; b++) table[k][b] = (table[k - 1][b] >> 8) ^ table[0][table[k - 1][b] & 255];
    own_rounds = has_rounds();
    own_crc = has_crc();
}

static crypto_hash_sha256_state *state_of(struct sha256 *s)
{
    return (crypto_hash_sha256_state *)(void *)s;
}

static struct rounds *rounds_of(struct sha256 *s)
{
    return (struct rounds *)(void *)s;
}

void sha256_init(struct sha256 *s)
{
    static const uint32_t start[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};

    pthread_once(&once, look_around);
    if (!own_rounds) {
        crypto_hash_sha256_init(state_of(s));
        return;
    }
    memcpy(rounds_of(s)->h, start, sizeof start);
    rounds_of(s)->n_bytes = 0;
}

static void put(struct rounds *r, const uint8_t *at, size_t len)
{
    size_t have = r->n_bytes % 64, n = len < 64 - have ? len : 64 - have;

    r->n_bytes += len;
    if (have) {
        memcpy(r->block + have, at, n);
        if (have + n < 64) return;
        blocks(r->h, r->block, 1);
        at += n;
        len -= n;
    }
    if (len / 64) blocks(r->h, at, len / 64);
    memcpy(r->block, at + (len & ~(size_t)63), len & 63);
}

void sha256_put(struct sha256 *s, const void *at, size_t len)
{
    if (!len) return;
    if (own_rounds) put(rounds_of(s), at, len);
    else crypto_hash_sha256_update(state_of(s), at, len);
}

void sha256_take(struct sha256 *s, uint8_t out[SHA256_BYTES])
{
    static const uint8_t end[64] = {0x80};
    struct rounds       *r = rounds_of(s);
    uint64_t             n_bits = r->n_bytes * 8;
    uint8_t              length[8];

    if (!own_rounds) {
        crypto_hash_sha256_final(state_of(s), out);
        return;
    }
    for (int i = 0; i < 8; i++) length[i] = (uint8_t)(n_bits >> (56 - 8 * i));
    put(r, end, (r->n_bytes % 64 < 56 ? 56 : 120) - r->n_bytes % 64);
    put(r, length, sizeof length);
    for (int i = 0; i < 32; i++) out[i] = (uint8_t)(r->h[i / 4] >> (24 - 8 * (i % 4)));
}

void sha256_of(const void *at, size_t len, uint8_t out[SHA256_BYTES])
{
    struct sha256 s;

    sha256_init(&s);
    sha256_put(&s, at, len);
    sha256_take(&s, out);
}

uint32_t crc32c(uint32_t crc, const void *at, size_t len)
{
    const uint8_t *p = at;
    uint32_t       c = ~crc;

    pthread_once(&once, look_around);
    if (own_crc) return ~crc_words(c, p, len);
    for (; len >= 8; len -= 8, p += 8) {
        c ^= (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
        c = table[7][c & 255] ^ table[6][c >> 8 & 255] ^ table[5][c >> 16 & 255] ^ table[4][c >> 24] ^ table[3][p[4]] ^
            table[2][p[5]] ^ table[1][p[6]] ^ table[0][p[7]];
    }
    for (; len; len--, p++) c = (c >> 8) ^ table[0][(c ^ *p) & 255];
    return ~c;
}

void random_bytes(void *out, size_t len)
{
    uint8_t *p = out;

    while (len) {
        ssize_t n = getrandom(p, len, 0);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) abort();
        p += n;
        len -= (size_t)n;
    }
}

uint64_t random_u64(void)
{
    uint64_t v;

    random_bytes(&v, sizeof v);
    return v;
}

void curve_public(const uint8_t secret[CURVE_BYTES], uint8_t public_key[CURVE_BYTES])
{
    if (crypto_scalarmult_base(public_key, secret)) abort(); /* only of a point at infinity: a secret is clamped, so never */
}

void curve_make(uint8_t public_key[CURVE_BYTES], uint8_t secret[CURVE_BYTES])
{
    random_bytes(secret, CURVE_BYTES);
    curve_public(secret, public_key);
}

void wipe(void *at, size_t len)
{
    sodium_memzero(at, len);
}

void hex_of(const uint8_t *at, size_t len, char *out)
{
    static const char digit[] = "0123456789abcdef";

    for (size_t i = 0; i < len; i++) {
        out[2 * i] = digit[at[i] >> 4];
        out[2 * i + 1] = digit[at[i] & 15];
    }
    out[2 * len] = 0;
}

static int digit_of(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

int hex_to(const char *hex, uint8_t *out, size_t len)
{
    for (size_t i = 0; i < 2 * len; i++) /* stops at the NUL of a text too short */
        if (digit_of(hex[i]) < 0) return ERR_ARG;
    if (hex[2 * len]) return ERR_ARG;
    for (size_t i = 0; i < len; i++) out[i] = (uint8_t)(digit_of(hex[2 * i]) << 4 | digit_of(hex[2 * i + 1]));
    return 0;
}
