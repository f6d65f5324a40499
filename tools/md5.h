/* md5.h - MD5 (RFC 1321), for the checksum lists that model repositories ship. Never for trust: verify prints SHA-256, too. */
#ifndef TOOLS_MD5_H
#define TOOLS_MD5_H

#include <stddef.h>
#include <stdint.h>

struct md5 {
    uint32_t state[4];
    uint64_t n_bytes;
    uint8_t  block[64];
};

void md5_init(struct md5 *m);
void md5_put(struct md5 *m, const void *at, size_t len);
void md5_take(struct md5 *m, uint8_t out[16]);

#endif
