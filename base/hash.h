/* hash.h - SHA-256 and Curve25519 keys (libsodium), CRC-32C, random bytes, hex.
 * The only room that says crypto_* and getrandom. */
#ifndef BASE_HASH_H
#define BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

#define SHA256_BYTES 32
#define SHA256_HEX   65 /* with the NUL */
#define CURVE_BYTES  32 /* a public key, or a secret one */
#define CURVE_HEX    65 /* with the NUL */

struct sha256 { /* streaming; opaque, large enough for libsodium's state (checked in hash.c) */
    uint64_t state[16];
};

void     sha256_init(struct sha256 *s);
void     sha256_put(struct sha256 *s, const void *at, size_t len);
void     sha256_take(struct sha256 *s, uint8_t out[SHA256_BYTES]);
void     sha256_of(const void *at, size_t len, uint8_t out[SHA256_BYTES]);
uint32_t crc32c(uint32_t crc, const void *at, size_t len); /* Castagnoli, start with 0; chainable */
void     random_bytes(void *out, size_t len);              /* from the kernel; aborts when there is none */
uint64_t random_u64(void);
void     curve_make(uint8_t public_key[CURVE_BYTES], uint8_t secret[CURVE_BYTES]);
void     curve_public(const uint8_t secret[CURVE_BYTES], uint8_t public_key[CURVE_BYTES]);
void     wipe(void *at, size_t len);                       /* zeroes a secret; never optimised away */
void     hex_of(const uint8_t *at, size_t len, char *out); /* out: 2*len + 1 */
int      hex_to(const char *hex, uint8_t *out, size_t len); /* exactly 2*len hex digits, else ERR_ARG */

#endif
