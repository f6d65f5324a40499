/* bpe.c - byte-pair merging with a linked list of symbols and a heap of offers.
 * An offer is a merge that was possible when it was pushed; a popped one is dropped when its pair no longer makes the same token.
 * That is HF tokenizers' rule to the letter (it compares the result, not the pair), so ids agree in the odd cases too. */
#include "engine/bpe.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct bpe_symbol {
    int32_t id; /* token, or -1 once merged into its left neighbour */
    int32_t prev, next;
};

struct bpe_offer {
    int32_t rank, at, result;
};

static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

/* Slot of the pair: its own or the first empty one. Half of the table is always empty. */
static uint32_t slot_of(const struct bpe *b, int32_t left, int32_t right)
{
    const struct vocab_merge *merge = b->vocab->merge;
    uint32_t                  i = (uint32_t)mix((uint64_t)(uint32_t)left << 32 | (uint32_t)right) & (b->n_slots - 1);

    while (b->slot[i] >= 0 && (merge[b->slot[i]].left != left || merge[b->slot[i]].right != right)) i = (i + 1) & (b->n_slots - 1);
    return i;
}

int bpe_init(struct bpe *b, const struct vocab *v, struct err *e)
{
    *b = (struct bpe){.vocab = v, .n_slots = 16};
    while (b->n_slots < 2 * (uint32_t)v->n_merges) b->n_slots *= 2;
    b->slot = malloc(b->n_slots * sizeof *b->slot);
    if (!b->slot) return err_set(e, ERR_NOMEM, "no memory for the table of %" PRId32 " merges", v->n_merges);
    memset(b->slot, 0xff, b->n_slots * sizeof *b->slot);
    for (int32_t r = 0; r < v->n_merges; r++) /* of two equal pairs the later one counts, as in the reference */
        b->slot[slot_of(b, v->merge[r].left, v->merge[r].right)] = r;
    return 0;
}

void bpe_release(struct bpe *b)
{
    free(b->slot);
    *b = (struct bpe){0};
}

static int grow(struct bpe_work *w, size_t len, struct err *e)
{
    if (len <= w->cap) return 0;
    size_t             cap = len < 64 ? 64 : len;
    int32_t           *id = realloc(w->id, cap * sizeof *id);
    struct bpe_symbol *symbol = NULL;
    if (id) {
        w->id = id;
        symbol = realloc(w->symbol, cap * sizeof *symbol);
    }
    if (!symbol) return err_set(e, ERR_NOMEM, "no memory to tokenise a piece of %zu bytes", len);
    w->symbol = symbol;
    w->cap = cap;
    return 0;
}

static bool before(const struct bpe_offer *a, const struct bpe_offer *b)
{
    return a->rank != b->rank ? a->rank < b->rank : a->at < b->at;
}

static int offer_push(struct bpe_work *w, struct bpe_offer o, struct err *e)
{
    if (w->n_offers == w->cap_offers) {
        size_t            cap = w->cap_offers ? 2 * w->cap_offers : 128;
        struct bpe_offer *offer = realloc(w->offer, cap * sizeof *offer);
        if (!offer) return err_set(e, ERR_NOMEM, "no memory for %zu merge offers", cap);
        w->offer = offer;
        w->cap_offers = cap;
    }
    size_t i = w->n_offers++;
    for (; i > 0 && before(&o, &w->offer[(i - 1) / 2]); i = (i - 1) / 2) w->offer[i] = w->offer[(i - 1) / 2];
    w->offer[i] = o;
    return 0;
}

static struct bpe_offer offer_pop(struct bpe_work *w)
{
    struct bpe_offer top = w->offer[0], last = w->offer[--w->n_offers];
    size_t           i = 0;

    for (size_t child; (child = 2 * i + 1) < w->n_offers; i = child) {
        if (child + 1 < w->n_offers && before(&w->offer[child + 1], &w->offer[child])) child++;
        if (!before(&w->offer[child], &last)) break;
        w->offer[i] = w->offer[child];
    }
    w->offer[i] = last;
    return top;
}

/* Pushes the merge of the symbols at `at` and its right neighbour, if there is one. */
static int offer_pair(const struct bpe *b, struct bpe_work *w, int32_t at, struct err *e)
{
    if (at < 0 || w->symbol[at].next < 0) return 0;
    int32_t r = b->slot[slot_of(b, w->symbol[at].id, w->symbol[w->symbol[at].next].id)];
    if (r < 0) return 0;
    return offer_push(w, (struct bpe_offer){r, at, b->vocab->merge[r].result}, e);
}

static int merge_all(const struct bpe *b, struct bpe_work *w, struct err *e)
{
    int rc = 0;

    while (w->n_offers && !rc) {
        struct bpe_offer   o = offer_pop(w);
        struct bpe_symbol *left = &w->symbol[o.at];
        if (left->id < 0 || left->next < 0) continue;
        struct bpe_symbol *right = &w->symbol[left->next];
        int32_t            r = b->slot[slot_of(b, left->id, right->id)];
        if (r < 0 || b->vocab->merge[r].result != o.result) continue;
        left->id = o.result;
        left->next = right->next;
        right->id = -1;
        if (left->next >= 0) w->symbol[left->next].prev = o.at;
        rc = offer_pair(b, w, left->prev, e);
        if (!rc) rc = offer_pair(b, w, o.at, e);
    }
    return rc;
}

int bpe_piece(const struct bpe *b, struct bpe_work *w, const char *at, size_t len, struct err *e)
{
    int rc;

    assert(len <= INT32_MAX / 4);
    w->n_ids = 0;
    w->n_offers = 0;
    if (len == 0) return 0;
    if ((rc = grow(w, len, e))) return rc;
    if (b->vocab->ignore_merges) {
        int32_t id = vocab_find(b->vocab, (struct str){at, len});
        if (id >= 0) {
            w->id[w->n_ids++] = id;
            return 0;
        }
    }
    for (int32_t i = 0; i < (int32_t)len; i++)
        w->symbol[i] = (struct bpe_symbol){b->vocab->byte_id[(uint8_t)at[i]], i - 1, i + 1 < (int32_t)len ? i + 1 : -1};
    for (int32_t i = 0; i + 1 < (int32_t)len && !rc; i++) rc = offer_pair(b, w, i, e);
    if (!rc) rc = merge_all(b, w, e);
    for (int32_t i = 0; i >= 0 && !rc; i = w->symbol[i].next) w->id[w->n_ids++] = w->symbol[i].id;
    return rc;
}

void bpe_work_release(struct bpe_work *w)
{
    free(w->id);
    free(w->symbol);
    free(w->offer);
    *w = (struct bpe_work){0};
}
