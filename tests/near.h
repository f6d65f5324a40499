/* near.h - how close are two tensors, and numbers by chance that are the same every day.
 *
 *   struct dice r = {.state = 7};
 *   near_fill_normal(&r, x, n, 1.0f);
 *   assert_true(near_rms("linear", y, truth, n, 1e-5, NULL));     prints the worst element when it is too far
 *
 * A NaN or an infinity that the other side has not makes any comparison false. Comparing n = 0 elements is false: it proves nothing. */
#ifndef TESTS_NEAR_H
#define TESTS_NEAR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* sqrt(sum (a - truth)^2 / sum truth^2) <= limit; a truth of only zeros asks for zeros. rel_rms (may be NULL) receives it. */
bool near_rms(const char *name, const float *a, const double *truth, size_t n, double limit, double *rel_rms);
bool near_rms_f32(const char *name, const float *a, const float *truth, size_t n, double limit, double *rel_rms);
/* max |a - truth| <= limit; max_abs may be NULL. */
bool near_abs(const char *name, const float *a, const double *truth, size_t n, double limit, double *max_abs);
bool near_abs_f32(const char *name, const float *a, const float *truth, size_t n, double limit, double *max_abs);
/* No byte off by more than limit; n_off (may be NULL) receives how many differ at all. */
bool near_u8(const char *name, const uint8_t *a, const uint8_t *truth, size_t n, int limit, size_t *n_off);

struct dice { /* splitmix64 */
    uint64_t state;
};

uint64_t dice_u64(struct dice *r);
int64_t  dice_range(struct dice *r, int64_t low, int64_t high); /* low..high, both possible */
double   dice_unit(struct dice *r);                             /* [0, 1) */
double   dice_normal(struct dice *r);                           /* mean 0, deviation 1 (Box-Muller, double) */
void     near_fill_normal(struct dice *r, float *x, size_t n, float deviation);
void     near_fill_range(struct dice *r, float *x, size_t n, float low, float high);

#endif
