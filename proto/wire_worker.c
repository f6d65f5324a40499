/* wire_worker.c - the session (HELLO, WELCOME, ERROR), what workers and broker say, and chunks. Field by field, in the order of msg.h.
 * Not here: ranges (check.c), frames (wire.c). */
#include <string.h>

#include "base/hash.h"
#include "proto/wire_in.h"

/* As every pack_*: a fresh protobuf message of TYPE in the arena. Lower-case names follow protobuf-c's. */
#define NEW(type, init)                                                                                                                   \
    type *p = arena_take(a, sizeof *p);                                                                                                    \
    if (!p) return NULL;                                                                                                                   \
    init(p)
#define BODY(type) const type *p = (const type *)(const void *)body; (void)a; (void)e

static Zfarm__Held **held_to(const struct held *h, size_t n, struct arena *a)
{
    Zfarm__Held **list = wire_list(a, n, sizeof **list);

    for (size_t i = 0; list && i < n; i++) {
        zfarm__held__init(list[i]);
        list[i]->task = h[i].task;
        list[i]->epoch = h[i].epoch;
    }
    return list;
}

static int held_from(Zfarm__Held **p, size_t n, struct arena *a, struct held **out, struct err *e)
{
    struct held *h = arena_array(a, n, sizeof *h);

    if (!h) return wire_full(e);
    for (size_t i = 0; i < n; i++) h[i] = (struct held){p[i]->task, p[i]->epoch};
    *out = h;
    return 0;
}

static ProtobufCMessage *pack_hello(const struct msg *m, struct arena *a)
{
    const struct hello *h = &m->hello;
    NEW(Zfarm__Hello, zfarm__hello__init);

    p->role = (Zfarm__Role)h->role;
    p->major = h->major;
    p->minor = h->minor;
    p->name = wire_text(h->name);
    p->version = wire_text(h->version);
    p->instance = wire_bytes(h->instance, KEY_BYTES);
    p->device = wire_text(h->device);
    p->about = wire_text(h->about);
    p->capacity = h->capacity;
    p->max_batch = h->max_batch;
    p->n_models = h->n_models;
    p->n_held = h->n_held;
    p->n_ranks = h->n_ranks;
    if (!(p->ranks = wire_ranks_to(h->rank, h->n_ranks, a))) return NULL;
    if (!(p->models = wire_models_to(h->model, h->n_models, a)) || !(p->held = held_to(h->held, h->n_held, a))) return NULL;
    return &p->base;
}

static int unpack_hello(const ProtobufCMessage *body, struct arena *a, struct msg *m, struct err *e)
{
    struct hello *h = &m->hello;
    int           rc;
    BODY(Zfarm__Hello);

    h->role = (enum role)p->role;
    h->major = p->major;
    h->minor = p->minor;
    h->name = wire_str(p->name);
    h->version = wire_str(p->version);
    if ((rc = wire_fixed(p->instance, h->instance, KEY_BYTES, "the instance", e))) return rc;
    h->device = wire_str(p->device);
    h->about = wire_str(p->about);
    h->capacity = p->capacity;
    h->max_batch = p->max_batch;
    h->n_models = p->n_models;
    h->n_held = p->n_held;
    h->n_ranks = p->n_ranks;
    if ((rc = wire_ranks_from(p->ranks, p->n_ranks, a, &h->rank, e))) return rc;
    if ((rc = wire_models_from(p->models, p->n_models, a, &h->model, e))) return rc;
    return held_from(p->held, p->n_held, a, &h->held, e);
}

static ProtobufCMessage *pack_welcome(const struct msg *m, struct arena *a)
{
    const struct welcome *w = &m->welcome;
    NEW(Zfarm__Welcome, zfarm__welcome__init);

    p->major = w->major;
    p->minor = w->minor;
    p->boot_id = w->boot_id;
    p->store = wire_bytes(w->store, KEY_BYTES);
    p->beat_ms = w->beat_ms;
    p->n_drop = w->n_drop;
    return (p->drop = held_to(w->drop, w->n_drop, a)) ? &p->base : NULL;
}

static int unpack_welcome(const ProtobufCMessage *body, struct arena *a, struct msg *m, struct err *e)
{
    struct welcome *w = &m->welcome;
    int             rc;
    BODY(Zfarm__Welcome);

    w->major = p->major;
    w->minor = p->minor;
    w->boot_id = p->boot_id;
    if ((rc = wire_fixed(p->store, w->store, KEY_BYTES, "the store's name", e))) return rc;
    w->beat_ms = p->beat_ms;
    w->n_drop = p->n_drop;
    return held_from(p->drop, p->n_drop, a, &w->drop, e);
}

static ProtobufCMessage *pack_error(const struct msg *m, struct arena *a)
{
    NEW(Zfarm__Error, zfarm__error__init);
    p->code = (Zfarm__ErrorCode)m->error.code;
    p->retry_after_ms = m->error.retry_after_ms;
    p->text = wire_words(m->error.text, a);
    return &p->base;
}

static int unpack_error(const ProtobufCMessage *body, struct arena *a, struct msg *m, struct err *e)
{
    BODY(Zfarm__Error);
    m->error = (struct error){(enum wire_error)p->code, p->retry_after_ms, wire_str(p->text)};
    return 0;
}

static ProtobufCMessage *pack_ready(const struct msg *m, struct arena *a)
{
    NEW(Zfarm__Ready, zfarm__ready__init);
    p->capacity = m->ready.capacity;
    return &p->base;
}

static int unpack_ready(const ProtobufCMessage *body, struct arena *a, struct msg *m, struct err *e)
{
    BODY(Zfarm__Ready);
    m->ready.capacity = p->capacity;
    return 0;
}

static Zfarm__Lease *lease_to(const struct lease *l, struct arena *a)
{
    Zfarm__Lease *p = arena_take(a, sizeof *p);

    if (!p) return NULL;
    zfarm__lease__init(p);
    p->task = l->task;
    p->epoch = l->epoch;
    p->job = l->job;
    p->index = l->index;
    p->budget_ms = l->budget_ms;
    p->batch = l->batch;
    if (!(p->spec = arena_take(a, sizeof *p->spec))) return NULL;
    wire_spec_pack(&l->spec, p->spec);
    return p;
}

static int lease_from(const Zfarm__Lease *p, struct lease *l, struct err *e)
{
    l->task = p->task;
    l->epoch = p->epoch;
    l->job = p->job;
    l->index = p->index;
    l->budget_ms = p->budget_ms;
    if (!p->spec) return err_set(e, ERR_PROTO, "a lease without a spec");
    wire_spec_unpack(p->spec, &l->spec);
    l->batch = p->batch;
    return 0;
}

static ProtobufCMessage *pack_lease(const struct msg *m, struct arena *a)
{
    Zfarm__Lease *p = lease_to(&m->lease, a);

    return p ? &p->base : NULL;
}

static int unpack_lease(const ProtobufCMessage *body, struct arena *a, struct msg *m, struct err *e)
{
    BODY(Zfarm__Lease);
    return lease_from(p, &m->lease, e);
}

static ProtobufCMessage *pack_leases(const struct msg *m, struct arena *a)
{
    NEW(Zfarm__Leases, zfarm__leases__init);
    p->n_leases = m->leases.n_leases;
    if (!(p->leases = arena_array(a, p->n_leases, sizeof *p->leases))) return NULL;
    for (size_t i = 0; i < p->n_leases; i++)
        if (!(p->leases[i] = lease_to(&m->leases.lease[i], a))) return NULL;
    return &p->base;
}

static int unpack_leases(const ProtobufCMessage *body, struct arena *a, struct msg *m, struct err *e)
{
    int rc = 0;
    BODY(Zfarm__Leases);

    m->leases.n_leases = p->n_leases;
    if (!(m->leases.lease = arena_array(a, p->n_leases, sizeof *m->leases.lease))) return wire_full(e);
    for (size_t i = 0; !rc && i < p->n_leases; i++) rc = lease_from(p->leases[i], &m->leases.lease[i], e);
    return rc;
}

static ProtobufCMessage *pack_beat(const struct msg *m, struct arena *a)
{
    NEW(Zfarm__Beat, zfarm__beat__init);
    p->seq = m->beat.seq;
    p->engine_restarts = m->beat.engine_restarts;
    p->n_progress = m->beat.n_progress;
    p->n_ranks = m->beat.n_ranks;
    if (!(p->ranks = wire_ranks_to(m->beat.rank, m->beat.n_ranks, a))) return NULL;
    return (p->progress = wire_progress_to(m->beat.progress, m->beat.n_progress, a)) ? &p->base : NULL;
}

static int unpack_beat(const ProtobufCMessage *body, struct arena *a, struct msg *m, struct err *e)
{
    BODY(Zfarm__Beat);
    m->beat.seq = p->seq;
    m->beat.engine_restarts = p->engine_restarts;
    m->beat.n_progress = p->n_progress;
    m->beat.n_ranks = p->n_ranks;
    if (wire_ranks_from(p->ranks, p->n_ranks, a, &m->beat.rank, e)) return ERR_PROTO;
    return wire_progress_from(p->progress, p->n_progress, a, &m->beat.progress, e);
}

static ProtobufCMessage *pack_beat_ok(const struct msg *m, struct arena *a)
{
    NEW(Zfarm__BeatOk, zfarm__beat_ok__init);
    p->seq = m->beat_ok.seq;
    p->n_cancel = m->beat_ok.n_cancel;
    p->n_recall = m->beat_ok.n_recall;
    if (!(p->recall = held_to(m->beat_ok.recall, m->beat_ok.n_recall, a))) return NULL;
    return (p->cancel = held_to(m->beat_ok.cancel, m->beat_ok.n_cancel, a)) ? &p->base : NULL;
}

static int unpack_beat_ok(const ProtobufCMessage *body, struct arena *a, struct msg *m, struct err *e)
{
    BODY(Zfarm__BeatOk);
    m->beat_ok.seq = p->seq;
    m->beat_ok.n_cancel = p->n_cancel;
    m->beat_ok.n_recall = p->n_recall;
    if (held_from(p->recall, p->n_recall, a, &m->beat_ok.recall, e)) return ERR_PROTO;
    return held_from(p->cancel, p->n_cancel, a, &m->beat_ok.cancel, e);
}

static Zfarm__Offer *offer_to(const struct offer *o, struct arena *a)
{
    Zfarm__Offer *p = arena_take(a, sizeof *p);

    if (!p) return NULL;
    zfarm__offer__init(p);
    p->task = o->task;
    p->epoch = o->epoch;
    p->width_px = o->width_px;
    p->height_px = o->height_px;
    p->took_ms = o->took_ms;
    p->text_ms = o->text_ms;
    p->denoise_ms = o->denoise_ms;
    p->decode_ms = o->decode_ms;
    p->n_parts = o->n_parts;
    return (p->parts = wire_parts_to(o->part, o->bytes, o->n_parts, a)) ? p : NULL;
}

static int offer_from(const Zfarm__Offer *p, struct offer *o, struct err *e)
{
    o->task = p->task;
    o->epoch = p->epoch;
    o->width_px = p->width_px;
    o->height_px = p->height_px;
    o->took_ms = p->took_ms;
    o->text_ms = p->text_ms;
    o->denoise_ms = p->denoise_ms;
    o->decode_ms = p->decode_ms;
    return wire_parts_from(p->parts, p->n_parts, o->part, o->bytes, &o->n_parts, e);
}

static ProtobufCMessage *pack_offer(const struct msg *m, struct arena *a)
{
    Zfarm__Offer *p = offer_to(&m->offer, a);

    return p ? &p->base : NULL;
}

static int unpack_offer(const ProtobufCMessage *body, struct arena *a, struct msg *m, struct err *e)
{
    BODY(Zfarm__Offer);
    return offer_from(p, &m->offer, e);
}

static ProtobufCMessage *pack_offers(const struct msg *m, struct arena *a)
{
    NEW(Zfarm__Offers, zfarm__offers__init);
    p->n_offers = m->offers.n_offers;
    if (!(p->offers = arena_array(a, p->n_offers, sizeof *p->offers))) return NULL;
    for (size_t i = 0; i < p->n_offers; i++)
        if (!(p->offers[i] = offer_to(&m->offers.offer[i], a))) return NULL;
    return &p->base;
}

static int unpack_offers(const ProtobufCMessage *body, struct arena *a, struct msg *m, struct err *e)
{
    int rc = 0;
    BODY(Zfarm__Offers);

    m->offers.n_offers = p->n_offers;
    if (!(m->offers.offer = arena_array(a, p->n_offers, sizeof *m->offers.offer))) return wire_full(e);
    for (size_t i = 0; !rc && i < p->n_offers; i++) rc = offer_from(p->offers[i], &m->offers.offer[i], e);
    return rc;
}

static Zfarm__OfferOk *offer_ok_to(const struct offer_ok *o, struct arena *a)
{
    Zfarm__OfferOk *p = arena_take(a, sizeof *p);

    if (!p) return NULL;
    zfarm__offer_ok__init(p);
    p->task = o->task;
    p->verdict = (Zfarm__Verdict)o->verdict;
    p->credit_bytes = o->credit_bytes;
    if (!(p->transfers = arena_array(a, PARTS_MAX, sizeof *p->transfers))) return NULL;
    while (p->n_transfers < PARTS_MAX && o->transfer[p->n_transfers]) {
        p->transfers[p->n_transfers] = o->transfer[p->n_transfers];
        p->n_transfers++;
    }
    return p;
}

static int offer_ok_from(const Zfarm__OfferOk *p, struct offer_ok *o, struct err *e)
{
    o->task = p->task;
    o->verdict = (enum offer_verdict)p->verdict;
    o->credit_bytes = p->credit_bytes;
    if (p->n_transfers > PARTS_MAX) return err_set(e, ERR_PROTO, "%zu transfers; at most %d are taken", p->n_transfers, PARTS_MAX);
    for (size_t i = 0; i < p->n_transfers; i++) {
        if (!p->transfers[i]) return err_set(e, ERR_PROTO, "a transfer without a number");
        o->transfer[i] = p->transfers[i];
    }
    return 0;
}

static ProtobufCMessage *pack_offer_ok(const struct msg *m, struct arena *a)
{
    Zfarm__OfferOk *p = offer_ok_to(&m->offer_ok, a);

    return p ? &p->base : NULL;
}

static int unpack_offer_ok(const ProtobufCMessage *body, struct arena *a, struct msg *m, struct err *e)
{
    BODY(Zfarm__OfferOk);
    return offer_ok_from(p, &m->offer_ok, e);
}

static ProtobufCMessage *pack_offers_ok(const struct msg *m, struct arena *a)
{
    NEW(Zfarm__OffersOk, zfarm__offers_ok__init);
    p->n_offers = m->offers_ok.n_offers;
    if (!(p->offers = arena_array(a, p->n_offers, sizeof *p->offers))) return NULL;
    for (size_t i = 0; i < p->n_offers; i++)
        if (!(p->offers[i] = offer_ok_to(&m->offers_ok.offer[i], a))) return NULL;
    return &p->base;
}

static int unpack_offers_ok(const ProtobufCMessage *body, struct arena *a, struct msg *m, struct err *e)
{
    int rc = 0;
    BODY(Zfarm__OffersOk);

    m->offers_ok.n_offers = p->n_offers;
    if (!(m->offers_ok.offer = arena_array(a, p->n_offers, sizeof *m->offers_ok.offer))) return wire_full(e);
    for (size_t i = 0; !rc && i < p->n_offers; i++) rc = offer_ok_from(p->offers[i], &m->offers_ok.offer[i], e);
    return rc;
}

static ProtobufCMessage *pack_result_ok(const struct msg *m, struct arena *a)
{
    NEW(Zfarm__ResultOk, zfarm__result_ok__init);
    p->task = m->result_ok.task;
    p->epoch = m->result_ok.epoch;
    return &p->base;
}

static int unpack_result_ok(const ProtobufCMessage *body, struct arena *a, struct msg *m, struct err *e)
{
    BODY(Zfarm__ResultOk);
    m->result_ok = (struct result_ok){p->task, p->epoch};
    return 0;
}

static ProtobufCMessage *pack_failed(const struct msg *m, struct arena *a)
{
    NEW(Zfarm__Failed, zfarm__failed__init);
    p->task = m->failed.task;
    p->epoch = m->failed.epoch;
    p->why = (Zfarm__Fail)m->failed.why;
    p->text = wire_words(m->failed.text, a);
    return &p->base;
}

static int unpack_failed(const ProtobufCMessage *body, struct arena *a, struct msg *m, struct err *e)
{
    BODY(Zfarm__Failed);
    m->failed = (struct failed){p->task, p->epoch, (enum fail_class)p->why, wire_str(p->text)};
    return 0;
}

static ProtobufCMessage *pack_failed_ok(const struct msg *m, struct arena *a)
{
    NEW(Zfarm__FailedOk, zfarm__failed_ok__init);
    p->task = m->failed_ok.task;
    p->epoch = m->failed_ok.epoch;
    return &p->base;
}

static int unpack_failed_ok(const ProtobufCMessage *body, struct arena *a, struct msg *m, struct err *e)
{
    BODY(Zfarm__FailedOk);
    m->failed_ok = (struct failed_ok){p->task, p->epoch};
    return 0;
}

static ProtobufCMessage *pack_release(const struct msg *m, struct arena *a)
{
    NEW(Zfarm__Release, zfarm__release__init);
    p->task = m->release.task;
    p->epoch = m->release.epoch;
    p->why = wire_words(m->release.why, a);
    return &p->base;
}

static int unpack_release(const ProtobufCMessage *body, struct arena *a, struct msg *m, struct err *e)
{
    BODY(Zfarm__Release);
    m->release = (struct release){p->task, p->epoch, wire_str(p->why)};
    return 0;
}

static ProtobufCMessage *pack_chunk(const struct msg *m, struct arena *a)
{
    NEW(Zfarm__Chunk, zfarm__chunk__init);
    p->transfer = m->chunk.transfer;
    p->offset = m->chunk.offset;
    p->last = m->chunk.last;
    p->size = (uint32_t)m->chunk.bytes.len; /* msg_check() has the bound */
    p->crc32c = crc32c(0, m->chunk.bytes.at, m->chunk.bytes.len);
    return &p->base;
}

static int unpack_chunk(const ProtobufCMessage *body, struct arena *a, struct msg *m, struct err *e)
{
    BODY(Zfarm__Chunk);
    m->chunk = (struct chunk){.transfer = p->transfer, .offset = p->offset, .last = p->last != 0}; /* the bytes come in wire.c */
    return 0;
}

static ProtobufCMessage *pack_credit(const struct msg *m, struct arena *a)
{
    NEW(Zfarm__Credit, zfarm__credit__init);
    p->transfer = m->credit.transfer;
    p->credit_bytes = m->credit.credit_bytes;
    return &p->base;
}

static int unpack_credit(const ProtobufCMessage *body, struct arena *a, struct msg *m, struct err *e)
{
    BODY(Zfarm__Credit);
    m->credit = (struct credit){p->transfer, p->credit_bytes};
    return 0;
}

const struct wire_row wire_worker_rows[] = {
    {MSG_HELLO, &zfarm__hello__descriptor, pack_hello, unpack_hello},
    {MSG_WELCOME, &zfarm__welcome__descriptor, pack_welcome, unpack_welcome},
    {MSG_ERROR, &zfarm__error__descriptor, pack_error, unpack_error},
    {MSG_GOAWAY, &zfarm__error__descriptor, pack_error, unpack_error},
    {MSG_READY, &zfarm__ready__descriptor, pack_ready, unpack_ready},
    {MSG_LEASE, &zfarm__lease__descriptor, pack_lease, unpack_lease},
    {MSG_BEAT, &zfarm__beat__descriptor, pack_beat, unpack_beat},
    {MSG_BEAT_OK, &zfarm__beat_ok__descriptor, pack_beat_ok, unpack_beat_ok},
    {MSG_OFFER, &zfarm__offer__descriptor, pack_offer, unpack_offer},
    {MSG_OFFER_OK, &zfarm__offer_ok__descriptor, pack_offer_ok, unpack_offer_ok},
    {MSG_LEASES, &zfarm__leases__descriptor, pack_leases, unpack_leases},
    {MSG_OFFERS, &zfarm__offers__descriptor, pack_offers, unpack_offers},
    {MSG_OFFERS_OK, &zfarm__offers_ok__descriptor, pack_offers_ok, unpack_offers_ok},
    {MSG_RESULT_OK, &zfarm__result_ok__descriptor, pack_result_ok, unpack_result_ok},
    {MSG_FAILED, &zfarm__failed__descriptor, pack_failed, unpack_failed},
    {MSG_FAILED_OK, &zfarm__failed_ok__descriptor, pack_failed_ok, unpack_failed_ok},
    {MSG_RELEASE, &zfarm__release__descriptor, pack_release, unpack_release},
    {MSG_CHUNK, &zfarm__chunk__descriptor, pack_chunk, unpack_chunk},
    {MSG_CREDIT, &zfarm__credit__descriptor, pack_credit, unpack_credit},
    {0, NULL, NULL, NULL},
};
