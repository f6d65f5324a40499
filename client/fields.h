/* fields.h - the words with which people describe images, on the command line and in batch files alike, and the check of every value.
 *
 *   struct row r; row_init(&r);
 *   field_set(&r, str_of("width"), str_of("1024"), &e);   ...   row_check(&r, &e);
 *
 * Fields: prompt negative_prompt width height steps num_inference_steps guidance (or guidance_scale) cfg_normalization cfg_truncation
 * seed rng n model name. Values are text, whatever file they came from. `steps` counts forward passes; `num_inference_steps` N is the
 * diffusers 0.36-0.39 count: max(1, N - 1) passes; one of the two at most. Nothing is clamped.
 * Strings are borrowed: the row points at what it was given. Not here: files (batch.c), options (args.c). */
#ifndef CLIENT_FIELDS_H
#define CLIENT_FIELDS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"
#include "proto/msg.h"

enum steps_said { STEPS_UNSAID, STEPS_PASSES, STEPS_INFERENCE };

struct row { /* what one line of a batch asks: n images that differ only in the seed */
    struct spec     spec;
    uint32_t        n;    /* images, 1..JOB_TASKS_MAX */
    struct str      name; /* the file's stem; may be empty; {seed} and {index} are filled in */
    bool            seed_said;
    enum steps_said steps_said;
    uint32_t        line;  /* where it came from; 0: the command line */
    uint32_t        first; /* index of its first image in the job */
};

#define FIELD_NAME_MAX_BYTES 240 /* a file name with its NUL */

void row_init(struct row *r);
/* Errors name field and value. ERR_NOTFOUND: no such field (the sentence suggests one). */
int field_set(struct row *r, struct str field, struct str value, struct err *e);
int field_known(struct str field, struct err *e); /* 0, or ERR_NOTFOUND with a suggestion */
/* Whole: spec_check(), and that seed + n - 1 does not pass 2^64 - 1. */
int row_check(const struct row *r, struct err *e);
/* The label a row's images travel with: its name, with {seed} added when it makes several images; or "{index}-{seed}". */
int row_label(const struct row *r, char label[LABEL_MAX_BYTES + 1], struct err *e);
/* label with {seed} and {index} (5 digits) filled in, and ".png". An empty label is "{index}-{seed}".
 * ERR_ARG when the result is not a name that we may create (file_name_ok): names never climb out of the folder. */
int field_file_name(struct str label, uint32_t index, uint64_t seed, char name[FIELD_NAME_MAX_BYTES], struct err *e);

#endif
