/* follow.h - one job, followed until each of its images is final; with a gather, every finished image becomes a file on the way.
 *
 *   struct follow f = {.client = c, .job = job, .bar = &bar, .gather = &g, .name = batch_name, .name_ctx = &b};
 *   rc = follow_run(&f, &e);      f.n_done, f.n_failed, f.n_canceled, f.file[index]
 *   follow_release(&f);
 *
 * Works at any time and any number of times: events are read from the beginning, images that are there are skipped.
 * A failed image is counted and said, and the rest goes on; a disk that cannot take an image ends it (the job goes on at the broker).
 * Not here: submitting (cmd_*.c), the bytes of a fetch (client.c). */
#ifndef CLIENT_FOLLOW_H
#define CLIENT_FOLLOW_H

#include "client/client.h"
#include "client/gather.h"
#include "client/manifest.h"
#include "client/progress.h"

/* The file of a task: a name in the gather's folder, or a path with '/'. */
typedef int follow_name_f(void *ctx, const struct task_info *t, char name[GATHER_PATH_BYTES], struct err *e);

struct follow {
    struct client   *client;
    uint64_t         job;
    struct bar      *bar;
    uint32_t         n_there; /* of the bar: there before, and not part of the job */
    struct gather   *gather;  /* NULL: only watch */
    follow_name_f   *name;    /* NULL: from label, index and seed */
    void            *name_ctx;
    const uint32_t  *index_of; /* a task's index -> its index in the batch; NULL: the same */
    struct manifest *manifest; /* may be NULL */
    const char      *latents;  /* where the latents of the only image go; or NULL */
    bool             keep;     /* do not let the broker forget what was gathered */
    uint32_t         wait_ms;  /* of one long poll; 0: a second */
    /* results */
    uint32_t n_tasks, n_done, n_failed, n_canceled, n_skipped;
    char   **file;  /* n_tasks paths, NULL where there is none; with index_of still by task */
    uint8_t *state; /* n_tasks: enum task_state, 0: not heard of */
};

int  follow_run(struct follow *f, struct err *e);
void follow_release(struct follow *f);

#endif
