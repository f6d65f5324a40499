/* joined.h - weights that one input is multiplied with, and whose outputs lie side by side: q, k, v; gate and up.
 *
 *   struct joined w;                                            [sum of rows, c]
 *   joined_load(&l, &w, c, "layers.0.attention", (struct joined_part[]){{"to_q", dim}, {"to_k", dim}, {"to_v", dim}}, 3);
 *   joined_linear(d, &y, &x, &w);                               x [n, c] -> y [n, sum of rows]
 *
 * Where the device copies its weights, neighbours of one type lie one below another and are one product; elsewhere (a CPU borrows them from the
 * mapped file), and where a file mixes types, each part is a product of its own. The values are the same. */
#ifndef ENGINE_JOINED_H
#define ENGINE_JOINED_H

#include "engine/weights.h"
#include "kernels/ops.h"

#define JOINED_MAX 3

struct joined_part {
    const char *name; /* "<prefix>.<name>.weight" */
    int64_t     rows;
};

struct joined {
    int           n;
    struct tensor part[JOINED_MAX];
};

void joined_load(struct loader *l, struct joined *out, int64_t c, const char *prefix, const struct joined_part *part, int n);
void joined_linear(struct dev *d, struct tensor *y, const struct tensor *x, const struct joined *w);
/* And then op_swiglu() of y's halves, into the left one; both in one where the device can. */
void joined_linear_swiglu(struct dev *d, struct tensor *y, const struct tensor *x, const struct joined *w);

#endif
