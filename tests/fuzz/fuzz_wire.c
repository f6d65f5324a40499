/* fuzz_wire.c - any bytes as a message: 0 or ERR_PROTO, bounded memory, and what was taken in can be said again.
 * Input: kind, then the body (the header is made right, or it would never pass its checksum); kind 255: raw frames. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "proto/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void say_again(const struct msg *m)
{
    struct buf head, body;
    struct err e;

    buf_init(&head, 64);
    buf_init(&body, BODY_BIG_MAX_BYTES);
    if (wire_pack(m, &head, &body, &e) && e.code != ERR_LIMIT) abort();
    buf_release(&head);
    buf_release(&body);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct arena a;
    uint8_t             head[FRAME_HEADER_BYTES] = {'Z', 'F', WIRE_MAJOR, WIRE_MINOR};
    struct str          h = {(char *)head, sizeof head}, body, chunk = {0};
    struct msg          m;
    struct item         it;
    struct err          e;
    uint32_t            crc;
    int                 rc;

    if (!a.base && arena_init(&a, "fuzz", MSG_ARENA_BYTES)) abort();
    if (size < 2) return 0;
    body = (struct str){(const char *)data + 1, size - 1};
    if (data[0] == 254) {
        rc = wire_item_unpack(body, &a, &it, &e);
    } else {
        if (data[0] == MSG_CHUNK && body.len > 8) {
            chunk = str_sub(body, 0, body.len / 2);
            body = str_sub(body, body.len / 2, body.len);
        }
        head[4] = data[0];
        for (int i = 0; i < 4; i++) head[16 + i] = (uint8_t)(body.len >> (8 * i));
        crc = crc32c(0, body.at, body.len);
        for (int i = 0; i < 4; i++) head[20 + i] = (uint8_t)(crc >> (8 * i));
        if (data[0] == 255) h = str_sub(body, 0, FRAME_HEADER_BYTES);
        rc = wire_unpack(h, body, chunk, &a, &m, &e);
        if (rc == 0) say_again(&m);
    }
    if (rc != 0 && rc != ERR_PROTO) abort();
    arena_reset(&a, 0);
    return 0;
}
