/* bpe.h - one piece of text into tokens: merge neighbours, lowest rank first, leftmost among equals. tokenizer.c's inner room.
 *
 *   struct bpe b;  bpe_init(&b, &vocab, &e);
 *   struct bpe_work w = {0};
 *   bpe_piece(&b, &w, bytes, len, &e);   ids in w.id[0 .. w.n_ids)
 *   bpe_work_release(&w);  bpe_release(&b);
 *
 * struct bpe is immutable after init; each caller brings its own struct bpe_work, whose memory is reused from piece to piece.
 * O(n log n) time and O(n) memory in the bytes of a piece. */
#ifndef ENGINE_BPE_H
#define ENGINE_BPE_H

#include "engine/vocab.h"

struct bpe {
    const struct vocab *vocab; /* borrowed */
    int32_t            *slot;  /* [n_slots] open addressing (left, right) -> merge index, -1 empty */
    uint32_t            n_slots;
};

struct bpe_symbol;
struct bpe_offer;

struct bpe_work {
    int32_t           *id; /* result of the last piece */
    size_t             n_ids, cap;
    struct bpe_symbol *symbol;
    struct bpe_offer  *offer; /* binary heap */
    size_t             n_offers, cap_offers;
};

int  bpe_init(struct bpe *b, const struct vocab *v, struct err *e); /* ERR_NOMEM */
void bpe_release(struct bpe *b);
/* len <= INT32_MAX / 4 bytes, already NFC. */
int  bpe_piece(const struct bpe *b, struct bpe_work *w, const char *at, size_t len, struct err *e); /* ERR_NOMEM */
void bpe_work_release(struct bpe_work *w);

#endif
