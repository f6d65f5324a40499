/* inspect.c - zfarm-model inspect: what a checkpoint folder, one of its parts, or a single file holds, and what is missing.
 * A part's config, or else the shapes of its tensors, say which tensors there must be (plan.h); the files are checked as strictly as the engine checks them.
 * Not here: judging the values of weights. */
#include <argp.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "engine/config.h"
#include "engine/profile.h"
#include "engine/safetensors.h"
#include "engine/tokenizer.h"
#include "engine/weights.h"
#include "tools/part.h"
#include "tools/tools.h"

#define LISTED_MAX 20 /* missing tensors named before "and N more" */

struct inspect_args {
    const char *path;
    bool        brief;
};

static const struct argp_option OPTIONS[] = {
    {"brief", 'b', NULL, 0, "totals and what is missing, without the table of tensors", 0},
    {0},
};

static error_t on_option(int key, char *arg, struct argp_state *state)
{
    struct inspect_args *a = state->input;

    switch (key) {
    case 'b':
        a->brief = true;
        return 0;
    case ARGP_KEY_ARG:
        if (a->path) argp_error(state, "one DIR or FILE at a time");
        a->path = arg;
        return 0;
    case ARGP_KEY_NO_ARGS:
        argp_error(state, "DIR or FILE is missing");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const char *shape_text(int rank, const int64_t *dim, char *text, size_t cap)
{
    size_t at = 0;

    at += (size_t)snprintf(text, cap, "[");
    for (int i = 0; i < rank && at < cap; i++) at += (size_t)snprintf(text + at, cap - at, "%s%" PRId64, i ? "," : "", dim[i]);
    if (at < cap) snprintf(text + at, cap - at, "]");
    return text;
}

static void put_entry(const struct safetensors_entry *t)
{
    char shape[200];
    printf("  %-60s %-7s %-22s %14" PRIu64 "\n", t->name, t->type_word, shape_text(t->rank, t->dim, shape, sizeof shape), t->bytes);
}

static void put_total(size_t n, int64_t values, int64_t bytes)
{
    char count[32], size[32];
    printf("  %zu tensors, %" PRId64 " parameters (%s), %" PRId64 " bytes (%s)\n", n, values, tool_count_text(values, count, sizeof count),
           bytes, tool_bytes_text(bytes, size, sizeof size));
}

/* Names what the config asks for and the files lack. Returns how many of them the engine needs. */
static int put_missing(struct weights *w, const struct plan *p)
{
    int n_needed = 0, n_other = 0;

    for (size_t i = 0; i < p->n; i++) {
        const struct plan_tensor *t = &p->at[i];
        struct err                e = {0};
        char                      shape[200];
        struct tensor             out;
        int                       rc = weights_get(w, t->name, t->rank, t->dim, &out, &e);
        if (!rc) continue;
        if (!t->needed) {
            n_other++;
            continue;
        }
        if (++n_needed > LISTED_MAX) continue;
        if (rc == ERR_NOTFOUND)
            printf("  MISSING %s %s\n", t->name, shape_text(t->rank, t->dim, shape, sizeof shape));
        else
            printf("  WRONG   %s\n", e.text);
    }
    if (n_needed > LISTED_MAX) printf("  ... and %d more\n", n_needed - LISTED_MAX);
    if (n_needed)
        printf("  NOT COMPLETE: %d tensors that the config needs are missing or wrong\n", n_needed);
    else
        printf("  complete: every tensor that generating needs is there%s\n", n_other ? "; some that it does not need are left out" : "");
    return n_needed;
}

/* path: a folder or a file. wanted: what it must be, or PART_UNKNOWN. */
static int inspect_part(enum part wanted, const char *path, bool brief)
{
    struct weights   *w = NULL;
    struct plan       p = {0};
    struct model_conf c;
    struct err        e = {0};
    const char       *file = NULL, *last = NULL;
    enum part         part;
    bool              inferred = false;
    int               rc;

    if ((rc = weights_open(&w, path, "model.", &e))) goto done;
    printf("%s\n", path);
    part = part_of(w);
    if (wanted != PART_UNKNOWN && part != wanted)
        rc = err_set(&e, ERR_FORMAT, "%s holds no %s", path, part_folder[wanted]);
    else if (!(rc = part_conf(part, path, w, &c, &inferred, &e)))
        rc = part_plan(part, &c, &p, &e);
    if (rc) goto done;
    if (part != PART_UNKNOWN && wanted == PART_UNKNOWN)
        printf("  a %s%s\n", part_folder[part], inferred ? "; no config beside it, so the numbers are those that the shapes show" : "");
    part_print(part, &c);
    for (size_t i = 0; i < weights_count(w); i++) {
        const struct safetensors_entry *t = weights_entry(w, i, &file);
        if (file != last) printf("  %s\n", file);
        last = file;
        if (!brief) put_entry(t);
    }
    put_total(weights_count(w), weights_values(w), weights_bytes(w));
    if (p.n) rc = put_missing(w, &p) ? ERR_FORMAT : 0;
done:
    if (e.code) rc = tool_failed(&e);
    weights_free(w);
    plan_release(&p);
    return rc ? 1 : 0;
}

static int inspect_tokenizer(const char *dir)
{
    struct tokenizer *t = NULL;
    struct err        e = {0};

    printf("%s\n", dir);
    if (tokenizer_open(&t, dir, &e)) return tool_failed(&e);
    printf("  ids 0..%zu\n", tokenizer_vocab(t) - 1);
    tokenizer_free(t);
    return 0;
}

static int inspect_model(const char *dir, bool brief)
{
    struct model_conf     c;
    struct engine_profile profile = {0};
    struct err            e = {0};
    char                  path[600];
    int                   rc = 0;

    printf("%s\n", dir);
    if (config_open(&c, dir, NULL, &e)) {
        rc = tool_failed(&e);
    } else {
        profile_of(&c, &profile);
        printf("  profile %s: %d passes, guidance %g by default; shift %g%s\n", profile.name, profile.n_steps, (double)profile.guidance,
               c.schedule.shift, c.schedule.use_dynamic_shifting ? ", dynamic" : "");
    }
    for (int i = 0; i < PART_UNKNOWN; i++) {
        if (file_join(path, sizeof path, dir, part_folder[i], &e)) return tool_failed(&e);
        rc |= inspect_part((enum part)i, path, brief);
    }
    if (file_join(path, sizeof path, dir, "tokenizer", &e)) return tool_failed(&e);
    return rc | inspect_tokenizer(path);
}

static int inspect(const struct inspect_args *a)
{
    struct err e = {0};
    char       path[600];

    if (file_join(path, sizeof path, a->path, "model_index.json", &e)) return tool_failed(&e);
    if (file_is_folder(a->path) && file_exists(path)) return inspect_model(a->path, a->brief);
    return inspect_part(PART_UNKNOWN, a->path, a->brief);
}

int tool_inspect(int argc, char **argv)
{
    const struct argp argp = {
        OPTIONS,
        on_option,
        "DIR|FILE",
        "Shows what a checkpoint holds: tensors with dtype, shape and bytes, totals, and what is missing for generating.\v"
        "DIR is a whole model in the diffusers layout (model_index.json) or one of its parts; FILE is a .safetensors, an index of "
        "shards or a .gguf. Tensors are shown under the names that the engine knows them by. Exit code 1 when something is missing or "
        "wrong.",
        NULL,
        NULL,
        NULL};
    struct inspect_args a = {0};

    argp_parse(&argp, argc, argv, 0, NULL, &a);
    int rc = inspect(&a);
    return tool_done() || rc;
}
