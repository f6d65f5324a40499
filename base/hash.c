/* hash.c - digests, check sums, chance.
 * Believes: libsodium's SHA-256 needs no start-up call; the kernel always has random bytes (else we stop: keys and ids depend on it).
 * Not here: curve keys (proto/peer.c), seeds of images (engine/noise.c). */
#include "base/hash.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <sodium.h>
#include <stdlib.h>
#include <sys/random.h>

#include "base/err.h"

static_assert(sizeof(crypto_hash_sha256_state) <= sizeof(struct sha256), "struct sha256 is too small for libsodium");
static_assert(_Alignof(crypto_hash_sha256_state) <= _Alignof(struct sha256), "struct sha256 is not aligned enough");
static_assert(SHA256_BYTES == crypto_hash_sha256_BYTES, "SHA-256 has 32 bytes");

static crypto_hash_sha256_state *state_of(struct sha256 *s)
{
    return (crypto_hash_sha256_state *)(void *)s;
}

void sha256_init(struct sha256 *s)
{
    crypto_hash_sha256_init(state_of(s));
}

void sha256_put(struct sha256 *s, const void *at, size_t len)
{
    if (len) crypto_hash_sha256_update(state_of(s), at, len);
}

void sha256_take(struct sha256 *s, uint8_t out[SHA256_BYTES])
{
    crypto_hash_sha256_final(state_of(s), out);
}

void sha256_of(const void *at, size_t len, uint8_t out[SHA256_BYTES])
{
    struct sha256 s;

    sha256_init(&s);
    sha256_put(&s, at, len);
    sha256_take(&s, out);
}

/* Slices of 8: table[k][b] is the CRC of byte b followed by k zero bytes (reflected polynomial 0x82F63B78). */
static uint32_t       table[8][256];
static pthread_once_t table_once = PTHREAD_ONCE_INIT;

static void table_fill(void)
{
    for (uint32_t b = 0; b < 256; b++) {
        uint32_t c = b;
        for (int i = 0; i < 8; i++) c = (c >> 1) ^ (c & 1 ? 0x82F63B78u : 0);
        table[0][b] = c;
    }
    for (int k = 1; k < 8; k++)
        for (int b = 0; b < 256; b++) table[k][b] = (table[k - 1][b] >> 8) ^ table[0][table[k - 1][b] & 255];
}

uint32_t crc32c(uint32_t crc, const void *at, size_t len)
{
    const uint8_t *p = at;
    uint32_t       c = ~crc;

    pthread_once(&table_once, table_fill);
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
