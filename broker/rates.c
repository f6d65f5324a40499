/* rates.c - a table of exponential means: (kind of worker, model, log2 of the work) -> ms per unit of work. */
#include "broker/rates.h"

#include <stdlib.h>
#include <string.h>
#include <uthash.h>

#include "proto/limits.h"

#define KIND_MAX_BYTES 64
#define RATES_MAX      4096  /* more kinds, models and sizes than that are not learned */
#define GUESS_MS       8.0   /* per unit (a step over 256 x 256 pixels) before anything was measured: a good GPU, a large model */
#define SIZES          32
#define JUMP_MAX       8.0   /* one measurement counts at most as so many times the mean, or its inverse */

struct key {
    char    kind[KIND_MAX_BYTES], model[MODEL_MAX_BYTES];
    uint8_t size;
};

struct rate {
    struct key     key;
    double         ms_per_cost;
    UT_hash_handle hh;
};

static uint8_t size_of(uint32_t cost)
{
    uint8_t n = 0;

    while (cost >>= 1) n++;
    return n;
}

static void key_of(struct key *k, struct str kind, struct str model, uint8_t size)
{
    memset(k, 0, sizeof *k);
    if (kind.len) memcpy(k->kind, kind.at, kind.len < KIND_MAX_BYTES ? kind.len : KIND_MAX_BYTES - 1);
    if (model.len) memcpy(k->model, model.at, model.len < MODEL_MAX_BYTES ? model.len : MODEL_MAX_BYTES);
    k->size = size;
}

static struct rate *find(const struct rates *r, struct str kind, struct str model, uint8_t size)
{
    struct key   k;
    struct rate *found;

    key_of(&k, kind, model, size);
    HASH_FIND(hh, r->rate, &k, sizeof k, found);
    return found;
}

static double within(double v, double low, double high)
{
    return v < low ? low : v > high ? high : v;
}

static void learn(struct rates *r, struct str kind, struct str model, uint32_t cost, double ms_per_cost)
{
    struct rate *x = find(r, kind, model, size_of(cost));

    if (x) {
        x->ms_per_cost += (within(ms_per_cost, x->ms_per_cost / JUMP_MAX, x->ms_per_cost * JUMP_MAX) - x->ms_per_cost) / 8;
        return;
    }
    if (r->n >= RATES_MAX) return;
    x = calloc(1, sizeof *x);
    if (!x) abort();
    key_of(&x->key, kind, model, size_of(cost));
    x->ms_per_cost = ms_per_cost;
    HASH_ADD(hh, r->rate, key, sizeof x->key, x);
    r->n++;
}

void rates_learn(struct rates *r, struct str kind, struct str model, uint32_t cost, uint32_t took_ms)
{
    double ms_per_cost = (took_ms ? took_ms : 1) / (double)(cost ? cost : 1);

    learn(r, kind, model, cost, ms_per_cost);
    learn(r, (struct str){0}, model, cost, ms_per_cost);
}

double rates_ms(const struct rates *r, struct str kind, struct str model, uint32_t cost)
{
    uint8_t      size = size_of(cost);
    struct rate *x = find(r, kind, model, size);

    for (uint8_t d = 1; !x && d < SIZES; d++) { /* the nearest one, the larger first: it is nearer to what the device can do */
        x = find(r, kind, model, (uint8_t)(size + d));
        if (!x && d <= size) x = find(r, kind, model, (uint8_t)(size - d));
    }
    return x ? x->ms_per_cost * cost : 0;
}

static uint32_t whole_ms(double ms)
{
    return (uint32_t)within(ms + 0.5, 1, (double)UINT32_MAX);
}

uint32_t rates_charge_ms(const struct rates *r, struct str model, uint32_t cost)
{
    double ms = rates_ms(r, (struct str){0}, model, cost);

    return whole_ms(ms > 0 ? ms : GUESS_MS * cost);
}

uint32_t rates_worth_ms(const struct rates *r, struct str model, uint32_t cost, double usual_ms, uint32_t took_ms)
{
    double longer = usual_ms > 0 ? within((took_ms ? took_ms : 1) / usual_ms, 1 / JUMP_MAX, JUMP_MAX) : 1;

    return whole_ms(rates_charge_ms(r, model, cost) * longer);
}

void rates_release(struct rates *r)
{
    struct rate *x, *next;

    HASH_ITER(hh, r->rate, x, next)
    {
        HASH_DEL(r->rate, x);
        free(x);
    }
    r->n = 0;
}
