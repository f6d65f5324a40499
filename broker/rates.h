/* rates.h - how long an image takes: measured, per kind of worker and model, by size of the work.
 *
 *   rates_learn(&r, worker_kind, model, lot->cost, took_ms);   ms = rates_ms(&r, worker_kind, model, lot->cost);   0: nobody knows
 *   rates_charge_ms(&r, model, cost)                           what an image of that model costs its client, whoever makes it
 *
 * A kind of worker is its device, described ("NVIDIA H100 ..., bf16"): equal machines share what is learned. Work is counted in lot.cost; because
 * a picture four times as large takes more than four times as long, each doubling of the work has a mean of its own; the nearest known one
 * stands in for another. Means are exponential, 7/8 old.
 * Clients pay in milliseconds of the farm's mean worker, not of the worker they happened to get: who is served by a slow card must not
 * pay for its slowness. Pure; out of memory aborts. */
#ifndef BROKER_RATES_H
#define BROKER_RATES_H

#include <stddef.h>
#include <stdint.h>

#include "base/str.h"

struct rate;
struct rates {
    struct rate *rate; /* uthash */
    size_t       n;
};

/* Of one image, in ms. kind is cut to 63 bytes. */
void     rates_learn(struct rates *r, struct str kind, struct str model, uint32_t cost, uint32_t took_ms);
double   rates_ms(const struct rates *r, struct str kind, struct str model, uint32_t cost); /* expected; 0: not known */
/* What is charged for it: the farm's mean, or a guess when nothing was measured; at least 1. */
uint32_t rates_charge_ms(const struct rates *r, struct str model, uint32_t cost);
/* What it turned out to be worth, after rates_learn(): the farm's mean times how much longer it took than such a worker usually takes. */
uint32_t rates_worth_ms(const struct rates *r, struct str model, uint32_t cost, double usual_ms, uint32_t took_ms);
void     rates_release(struct rates *r);

#endif
