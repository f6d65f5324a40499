/* layout.h - what a placement holds on each device, and which placement to propose: from measured sizes, before anything is loaded.
 *
 *   layout_choose(card, n, budget_bytes, &l, &e);                  --place auto; card[i]: engine_sizes() of GPU i
 *   layout_row(&sizes, parts, budget_bytes, &row, &e);             what one device would hold; ERR_NOMEM: it does not fit, and what would
 *
 * The rules of auto. Pictures are made by transformers, so what counts is how many cards run one:
 *   1. Each card that holds the whole model could be a worker by itself: it counts 1, or 3/4 when its text encoder would not stay on it (then
 *      every new prompt waits for it).
 *   2. A group: the text encoder stays on one card, the transformer on every other card that holds it, at most PLACE_IMAGE_MAX, those with the
 *      most free memory. Each of them counts 1. The autoencoder goes to the text encoder's card when it fits there, else each image card
 *      has it. Of several text cards: the one with which most count, then one that takes the autoencoder, too, then the one with least free.
 *   3. The larger count wins. When they are equal, the group, unless its text card could have held the whole model with all resident.
 *   4. Neither: the text encoder on the CPU, for a machine's prompts are few, the rest on every card that holds it.
 *   5. No GPU: the CPU has it all.
 * Pure. Not here: asking the cards (survey.h). */
#ifndef WORKER_LAYOUT_H
#define WORKER_LAYOUT_H

#include "engine/engine.h"
#include "worker/place.h"

#define LAYOUT_CARDS_MAX 16

struct layout {
    struct place place;          /* a group; n_image 0: none */
    int          n_each;         /* without a group: these cards have the whole model, each by itself; 0: the CPU has it */
    int          each[LAYOUT_CARDS_MAX];
    char         why[200];
};

/* 0 <= n_cards <= LAYOUT_CARDS_MAX. budget_bytes of each card, as engine_sizes_plan() takes it. ERR_NOMEM: no way, with the largest card's sentence. */
int layout_choose(const struct engine_sizes *card, int n_cards, size_t budget_bytes, struct layout *out, struct err *e);

struct layout_row {
    char               device[PLACE_DEVICE_BYTES];
    uint32_t           parts; /* RANK_* */
    struct engine_plan plan;
    size_t             free_bytes, total_bytes;
};

/* parts: RANK_*, or-ed. */
int         layout_row(const struct engine_sizes *s, uint32_t parts, size_t budget_bytes, struct layout_row *out, struct err *e);
/* One line for people: "cuda:0  text+vae  8.71 of 23.10 GiB free: weights 7.60, work space 0.70 for 1024 x 1024, kernels 0.41". Returns text. */
const char *layout_about(const struct layout_row *r, const struct engine_sizes *s, char *text, size_t cap);

#endif
