/* near.c - closeness and chance for tests. Sums run in double; what is printed names the worst element.
 * Not here: reading goldens (golden.h). */
#include "tests/near.h"

#include <math.h>
#include <stdio.h>

struct distance {
    double sum_sq, truth_sq, worst;
    size_t worst_at, n_wild; /* n_wild: not finite on one side only, or different infinities */
};

static void add(struct distance *d, size_t i, double a, double truth)
{
    double diff = fabs(a - truth);

    if (!isfinite(a) || !isfinite(truth)) {
        if (a == truth || (isnan(a) && isnan(truth))) return;
        if (d->n_wild++ == 0) d->worst_at = i;
        return;
    }
    d->sum_sq += diff * diff;
    d->truth_sq += truth * truth;
    if (diff > d->worst && d->n_wild == 0) {
        d->worst = diff;
        d->worst_at = i;
    }
}

static double relative(const struct distance *d)
{
    if (d->n_wild) return INFINITY;
    if (d->truth_sq > 0) return sqrt(d->sum_sq / d->truth_sq);
    return d->sum_sq > 0 ? INFINITY : 0;
}

static bool judge(const char *name, const char *what, double got, double limit, const struct distance *d, double a, double truth, size_t n)
{
    if (n > 0 && got <= limit) return true;
    fprintf(stderr, "%s: %s %.4g, limit %.4g, %zu elements; worst [%zu]: %.9g, truth %.9g; %zu not finite\n", name, what, got, limit, n,
            d->worst_at, a, truth, d->n_wild);
    return false;
}

bool near_rms(const char *name, const float *a, const double *truth, size_t n, double limit, double *rel_rms)
{
    struct distance d = {0};
    size_t          w;

    for (size_t i = 0; i < n; i++) add(&d, i, a[i], truth[i]);
    w = d.worst_at;
    if (rel_rms) *rel_rms = relative(&d);
    return judge(name, "relative RMS", relative(&d), limit, &d, n ? a[w] : 0, n ? truth[w] : 0, n);
}

bool near_rms_f32(const char *name, const float *a, const float *truth, size_t n, double limit, double *rel_rms)
{
    struct distance d = {0};
    size_t          w;

    for (size_t i = 0; i < n; i++) add(&d, i, a[i], truth[i]);
    w = d.worst_at;
    if (rel_rms) *rel_rms = relative(&d);
    return judge(name, "relative RMS", relative(&d), limit, &d, n ? a[w] : 0, n ? truth[w] : 0, n);
}

bool near_abs(const char *name, const float *a, const double *truth, size_t n, double limit, double *max_abs)
{
    struct distance d = {0};
    double          got;
    size_t          w;

    for (size_t i = 0; i < n; i++) add(&d, i, a[i], truth[i]);
    w = d.worst_at;
    got = d.n_wild ? INFINITY : d.worst;
    if (max_abs) *max_abs = got;
    return judge(name, "max difference", got, limit, &d, n ? a[w] : 0, n ? truth[w] : 0, n);
}

bool near_abs_f32(const char *name, const float *a, const float *truth, size_t n, double limit, double *max_abs)
{
    struct distance d = {0};
    double          got;
    size_t          w;

    for (size_t i = 0; i < n; i++) add(&d, i, a[i], truth[i]);
    w = d.worst_at;
    got = d.n_wild ? INFINITY : d.worst;
    if (max_abs) *max_abs = got;
    return judge(name, "max difference", got, limit, &d, n ? a[w] : 0, n ? truth[w] : 0, n);
}

bool near_u8(const char *name, const uint8_t *a, const uint8_t *truth, size_t n, int limit, size_t *n_off)
{
    struct distance d = {0};
    size_t          off = 0, w;

    for (size_t i = 0; i < n; i++) {
        off += a[i] != truth[i];
        add(&d, i, a[i], truth[i]);
    }
    w = d.worst_at;
    if (n_off) *n_off = off;
    return judge(name, "bytes off by", d.worst, limit, &d, n ? a[w] : 0, n ? truth[w] : 0, n);
}

uint64_t dice_u64(struct dice *r)
{
    uint64_t z = r->state += 0x9E3779B97F4A7C15u;

    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

int64_t dice_range(struct dice *r, int64_t low, int64_t high)
{
    return low + (int64_t)(dice_u64(r) % (uint64_t)(high - low + 1));
}

double dice_unit(struct dice *r)
{
    return (double)(dice_u64(r) >> 11) * 0x1p-53;
}

double dice_normal(struct dice *r)
{
    double radius = sqrt(-2 * log(1 - dice_unit(r)));

    return radius * cos(6.283185307179586 * dice_unit(r));
}

void near_fill_normal(struct dice *r, float *x, size_t n, float deviation)
{
    for (size_t i = 0; i < n; i++) x[i] = (float)(dice_normal(r) * deviation);
}

void near_fill_range(struct dice *r, float *x, size_t n, float low, float high)
{
    for (size_t i = 0; i < n; i++) x[i] = (float)(low + dice_unit(r) * (high - low));
}
