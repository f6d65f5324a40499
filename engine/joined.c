/* joined.c - see joined.h. */
#include "engine/joined.h"

#include <assert.h>
#include <stdio.h>

void joined_load(struct loader *l, struct joined *out, int64_t c, const char *prefix, const struct joined_part *part, int n)
{
    struct tensor host[JOINED_MAX];
    char          name[160];

    assert(n > 0 && n <= JOINED_MAX);
    out->n = 0;
    for (int i = 0; i < n && !l->rc; i++) {
        int len = snprintf(name, sizeof name, "%s.%s.weight", prefix, part[i].name);
        assert(len > 0 && (size_t)len < sizeof name);
        l->rc = weights_get(l->w, name, 2, (int64_t[]){part[i].rows, c}, &host[i], l->e);
    }
    for (int i = 0, next; i < n && !l->rc; i = next) {
        for (next = i + 1; next < n && l->d->joins_weights; next++)
            if (host[next].type != host[i].type || host[next].scale != host[i].scale) break;
        l->rc = dev_weight_rows(l->d, &host[i], next - i, &out->part[out->n++], l->e);
        for (int k = i; k < next && !l->rc; k++) weights_taken(l->w, l->d, &host[k]);
    }
}

void joined_linear(struct dev *d, struct tensor *y, const struct tensor *x, const struct joined *w)
{
    int64_t at = 0;
    for (int i = 0; i < w->n; i++) {
        struct tensor cols = tensor_cols_of(y, at, w->part[i].dim[0]);
        op_linear(d, &cols, x, &w->part[i], NULL);
        at += w->part[i].dim[0];
    }
    assert(at == tensor_cols(y));
}

void joined_linear_swiglu(struct dev *d, struct tensor *y, const struct tensor *x, const struct joined *w)
{
    const int64_t c = tensor_cols(y) / 2;
    struct tensor g = tensor_cols_of(y, 0, c), up = tensor_cols_of(y, c, c);

    if (w->n == 1) {
        op_linear_swiglu(d, y, x, &w->part[0]);
        return;
    }
    joined_linear(d, y, x, w);
    op_swiglu(d, &g, &up);
}
