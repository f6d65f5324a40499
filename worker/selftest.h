/* selftest.h - does this device, with those that encode and decode for it, give the same picture twice, and finite numbers? Asked before the first task, and after every restart.
 *
 *   if ((rc = selftest_run(&ranks, sha256, &e))) ... the engine is not to be used
 *
 * Only where a step is short: on a GPU. A picture of 256 x 256 and one pass, of whatever the model paints. Not here: what is right (goldens are
 * the tests' business): a checkpoint that nobody has seen before has no stored picture to compare with. */
#ifndef WORKER_SELFTEST_H
#define WORKER_SELFTEST_H

#include <stdint.h>

#include "base/err.h"
#include "engine/engine.h"

struct selftest_ranks {
    struct engine *text, *image, *vae; /* may be one; else linked */
};

/* sha256 [32] of the pixels; zeros when there was nothing to test (a CPU). ERR_DEVICE: two runs differ. Else what the engine says. */
int selftest_run(const struct selftest_ranks *r, uint8_t sha256[32], struct err *e);

#endif
