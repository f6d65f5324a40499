/* wire.c - struct msg <-> frames; with wire_parts.c, wire_job.c and wire_worker.c the only room that speaks protobuf-c.
 * Believes: the header is judged before the body, the body's size before protobuf, protobuf's memory by an arena's ceiling, and every
 * field by msg_check(), on the way out as on the way in. So a message that left here is taken in over there.
 * Invariants: W1 wire_unpack is total.  W2 nothing is clamped.  W3 equal messages give equal bytes.
 * Not here: sockets (peer.c), what a message means. */
#include "proto/wire.h"

#include <assert.h>
#include <string.h>

#include "base/hash.h"
#include "proto/check.h"
#include "proto/wire_in.h"

#define MAGIC0 'Z'
#define MAGIC1 'F'

static const struct wire_row *row_of(enum msg_kind kind)
{
    const struct wire_row *const tables[] = {wire_job_rows, wire_worker_rows};

    for (size_t t = 0; t < 2; t++)
        for (const struct wire_row *r = tables[t]; r->kind; r++)
            if (r->kind == kind) return r;
    return NULL;
}

static size_t body_max(enum msg_kind kind)
{
    switch (kind) {
    case MSG_SUBMIT:
    case MSG_LEASE: /* two prompts of 32 KiB and their tags */
    case MSG_LEASES:
    case MSG_OFFER: /* with its bytes */
    case MSG_OFFERS:
    case MSG_FETCH_OK:
    case MSG_EVENTS_OK:
    case MSG_SHOW_OK:
    case MSG_JOBS_OK:
    case MSG_WORKERS_OK: return BODY_BIG_MAX_BYTES;
    case MSG_CHUNK: return BODY_CHUNK_MAX_BYTES; /* its bytes ride in the third frame */
    default: return BODY_MAX_BYTES;
    }
}

static void put_le(uint8_t *p, uint64_t v, int n_bytes)
{
    for (int i = 0; i < n_bytes; i++) p[i] = (uint8_t)(v >> (8 * i));
}

static uint64_t get_le(const uint8_t *p, int n_bytes)
{
    uint64_t v = 0;

    for (int i = 0; i < n_bytes; i++) v |= (uint64_t)p[i] << (8 * i);
    return v;
}

static void *arena_alloc(void *ctx, size_t bytes)
{
    return arena_raw(ctx, bytes); /* protobuf-c writes all that it asks for */
}

static void arena_keep(void *ctx, void *at) /* the arena is reset as a whole */
{
    (void)ctx;
    (void)at;
}

static int put_header(const struct msg *m, struct str body, struct buf *head)
{
    uint8_t h[FRAME_HEADER_BYTES] = {MAGIC0, MAGIC1, WIRE_MAJOR, WIRE_MINOR};

    put_le(h + 4, (uint64_t)m->kind, 2);
    put_le(h + 8, m->correlation, 8);
    put_le(h + 16, body.len, 4);
    put_le(h + 20, crc32c(0, body.at, body.len), 4);
    return buf_put(head, h, sizeof h);
}

/* Packs p behind what body holds; its bytes are counted before they are written. */
static int put_body(const ProtobufCMessage *p, size_t max, struct buf *body, const char *what, struct err *e)
{
    size_t len = protobuf_c_message_get_packed_size(p);
    char  *at;

    if (len > max) return err_set(e, ERR_LIMIT, "%s would take %zu bytes; at most %zu fit", what, len, max);
    at = buf_grow(body, len);
    if (!at) return err_set(e, ERR_LIMIT, "%s: no room for %zu bytes", what, len);
    protobuf_c_message_pack(p, (uint8_t *)at);
    return 0;
}

int wire_pack(const struct msg *m, struct buf *head, struct buf *body, struct err *e)
{
    const struct wire_row *row = row_of(m->kind);
    struct arena           scratch = {0};
    ProtobufCMessage      *p;
    size_t                 from = body->len;
    int                    rc;

    if (!row) return err_set(e, ERR_ARG, "message kind %d is not known", (int)m->kind);
    if (arena_init(&scratch, "packing", MSG_ARENA_BYTES)) return err_set(e, ERR_NOMEM, "no memory to pack a message");
    p = row->pack(m, &scratch);
    if (!p) {
        rc = err_set(e, ERR_LIMIT, "%s takes more than %u bytes to pack", msg_kind_name(m->kind), MSG_ARENA_BYTES);
        goto done;
    }
    if (msg_check(m, e)) { /* what will be read at the other side may be right all the same: sentences have been cleaned by now */
        struct msg twin = {.kind = m->kind};
        if ((rc = row->unpack(p, &scratch, &twin, e))) goto done;
        if (m->kind == MSG_CHUNK) twin.chunk.bytes = m->chunk.bytes;
        if ((rc = msg_check(&twin, e))) {
            err_in(e, "%s not sent", msg_kind_name(m->kind));
            goto done;
        }
    }
    if ((rc = put_body(p, body_max(m->kind), body, msg_kind_name(m->kind), e))) goto done;
    if (put_header(m, str_sub(buf_str(body), from, body->len), head)) rc = err_set(e, ERR_LIMIT, "no room for a header");
done:
    arena_release(&scratch);
    return rc;
}

int wire_peek(struct str head, enum msg_kind *kind, uint64_t *correlation)
{
    const uint8_t *h = (const uint8_t *)head.at;

    if (head.len != FRAME_HEADER_BYTES || h[0] != MAGIC0 || h[1] != MAGIC1) return ERR_PROTO;
    *kind = (enum msg_kind)get_le(h + 4, 2);
    *correlation = get_le(h + 8, 8);
    return 0;
}

/* Counts over all levels; the schema is not recursive, so neither is this, really. */
static size_t unknown_count(const ProtobufCMessage *p)
{
    size_t n = p->n_unknown_fields;

    for (unsigned i = 0; i < p->descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *f = &p->descriptor->fields[i];
        const char                     *at = (const char *)p + f->offset;

        if (f->type != PROTOBUF_C_TYPE_MESSAGE) continue;
        if (f->label == PROTOBUF_C_LABEL_REPEATED) {
            ProtobufCMessage *const *sub = *(ProtobufCMessage *const *const *)(const void *)at;
            size_t                   n_sub = *(const size_t *)(const void *)((const char *)p + f->quantifier_offset);
            for (size_t k = 0; k < n_sub; k++) n += unknown_count(sub[k]);
        } else {
            const ProtobufCMessage *sub = *(ProtobufCMessage *const *)(const void *)at;
            if (sub) n += unknown_count(sub);
        }
    }
    return n;
}

static ProtobufCMessage *get_body(const ProtobufCMessageDescriptor *d, struct str body, struct arena *a, const char *what, struct err *e)
{
    ProtobufCAllocator alloc = {arena_alloc, arena_keep, a};
    bool               was_full = a->full;
    ProtobufCMessage  *p;

    a->full = false;
    p = protobuf_c_message_unpack(d, &alloc, body.len, (const uint8_t *)body.at);
    if (!p) {
        if (a->full) wire_full(e);
        else err_set(e, ERR_PROTO, "%s: the body is not protobuf", what);
    } else if (unknown_count(p) > UNKNOWN_FIELDS_MAX) {
        err_set(e, ERR_PROTO, "%s: %zu unknown fields; at most %d are ignored", what, unknown_count(p), UNKNOWN_FIELDS_MAX);
        p = NULL;
    }
    a->full = a->full || was_full;
    return p;
}

static int check_header(struct str head, struct str body, struct str chunk, struct err *e)
{
    const uint8_t *h = (const uint8_t *)head.at;
    enum msg_kind  kind;

    if (head.len != FRAME_HEADER_BYTES)
        return err_set(e, ERR_PROTO, "a header of %zu bytes; it has %d", head.len, FRAME_HEADER_BYTES);
    if (h[0] != MAGIC0 || h[1] != MAGIC1) return err_set(e, ERR_PROTO, "a message without the magic \"ZF\": not of this protocol");
    if (h[2] != WIRE_MAJOR) return err_set(e, ERR_PROTO, "protocol version %d.%d is spoken there, %d.%d here", h[2], h[3], WIRE_MAJOR, WIRE_MINOR);
    kind = (enum msg_kind)get_le(h + 4, 2);
    if (!row_of(kind)) return err_set(e, ERR_PROTO, "message kind %d is not known", (int)kind);
    if (get_le(h + 6, 2)) return err_set(e, ERR_PROTO, "%s: flags are not 0", msg_kind_name(kind));
    if (get_le(h + 16, 4) != body.len)
        return err_set(e, ERR_PROTO, "%s: the header says %u bytes, the body has %zu", msg_kind_name(kind), (unsigned)get_le(h + 16, 4), body.len);
    if (body.len > body_max(kind))
        return err_set(e, ERR_PROTO, "%s: a body of %zu bytes; at most %zu are taken", msg_kind_name(kind), body.len, body_max(kind));
    if (chunk.len && kind != MSG_CHUNK) return err_set(e, ERR_PROTO, "%s: a third frame", msg_kind_name(kind));
    if (crc32c(0, body.at, body.len) != get_le(h + 20, 4)) return err_set(e, ERR_PROTO, "%s: the body's checksum is wrong", msg_kind_name(kind));
    return 0;
}

int wire_unpack(struct str head, struct str body, struct str chunk, struct arena *a, struct msg *m, struct err *e)
{
    const struct wire_row *row;
    ProtobufCMessage      *p;
    struct err             why = {0};
    int                    rc;

    memset(m, 0, sizeof *m);
    if ((rc = check_header(head, body, chunk, e))) return rc;
    wire_peek(head, &m->kind, &m->correlation);
    row = row_of(m->kind);
    p = get_body(row->body, body, a, msg_kind_name(m->kind), e);
    if (!p) return ERR_PROTO;
    if ((rc = row->unpack(p, a, m, e))) return rc;
    if (m->kind == MSG_CHUNK) {
        const Zfarm__Chunk *c = (const Zfarm__Chunk *)(void *)p;

        if (c->size != chunk.len) return err_set(e, ERR_PROTO, "CHUNK: %u bytes were announced, %zu came", c->size, chunk.len);
        if (crc32c(0, chunk.at, chunk.len) != c->crc32c) return err_set(e, ERR_PROTO, "CHUNK: the checksum of its bytes is wrong");
        m->chunk.bytes = chunk;
    }
    if (msg_check(m, &why)) return err_set(e, ERR_PROTO, "%s: %.350s", msg_kind_name(m->kind), why.text);
    return 0;
}

int wire_item_pack(const struct item *it, struct buf *out, struct err *e)
{
    struct arena scratch = {0};
    Zfarm__Item *p;
    int          rc = item_check(it, e);

    if (rc) return rc;
    if (arena_init(&scratch, "packing an item", 4096)) return err_set(e, ERR_NOMEM, "no memory to pack an item");
    p = wire_item_to(it, &scratch);
    assert(p);
    rc = put_body(&p->base, BODY_BIG_MAX_BYTES, out, "an item", e);
    arena_release(&scratch);
    return rc;
}

int wire_item_unpack(struct str bytes, struct arena *a, struct item *out, struct err *e)
{
    ProtobufCMessage *p;
    struct err        why = {0};
    int               rc;

    if (bytes.len > BODY_BIG_MAX_BYTES) return err_set(e, ERR_PROTO, "an item of %zu bytes", bytes.len);
    p = get_body(&zfarm__item__descriptor, bytes, a, "an item", e);
    if (!p) return ERR_PROTO;
    memset(out, 0, sizeof *out);
    if ((rc = wire_item_from((const Zfarm__Item *)(void *)p, out, e))) return rc;
    if (item_check(out, &why)) return err_set(e, ERR_PROTO, "an item: %.350s", why.text);
    return 0;
}
