/* cmd_batch.c - a file of prompts becomes a folder of images, however often it is interrupted.
 * Believes: the manifest in the folder is what was promised; the same command with --resume ends where one uninterrupted run would.
 * With a broker the job goes on there, under the manifest's key; an own farm forgets, so only the missing images are submitted anew. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/hash.h"
#include "client/commands.h"
#include "client/report.h"

struct work {
    struct args    *a;
    struct batch    b;
    struct manifest m;
    struct gather   g;
    bool            resumed;
    uint32_t       *todo; /* batch indexes to submit; NULL: all, row by row */
    uint32_t        n_todo, n_there;
    char            sheet[GATHER_PATH_BYTES];
};

/* The seed of a resumed batch is the one it began with. */
static int find_manifest(struct work *w, struct err *e)
{
    int rc;

    w->m.fd = -1;
    if (w->a->resume) {
        rc = manifest_resume(&w->m, w->a->out, e);
        if (rc && rc != ERR_NOTFOUND) return rc;
        w->resumed = rc == 0;
    }
    if (!w->a->row.seed_said) w->a->row.spec.seed = w->resumed ? w->m.seed : random_u64() & 0xffffffffu;
    return 0;
}

static int check_same(struct work *w, struct err *e)
{
    uint8_t spec[32];
    int     rc = batch_hash(&w->b, spec, e);

    if (rc) return rc;
    if (w->resumed && (memcmp(spec, w->m.spec, sizeof spec) != 0 || w->b.n_images != w->m.n_images)) {
        return err_set(e, ERR_CONFLICT,
                       "%.80s or the options are not the ones that the batch in %.100s began with: restore them, or use another folder",
                       w->b.source, w->a->out);
    }
    if (w->resumed && w->m.broker[0] && !w->a->broker && !w->a->own_farm) {
        return err_set(e, ERR_ARG, "this batch began at %.150s: --broker goes on there, --broker none makes the rest here", w->m.broker);
    }
    if (w->resumed) return 0;
    memcpy(w->m.spec, spec, sizeof spec);
    random_bytes(w->m.key, KEY_BYTES);
    w->m.seed = w->a->row.spec.seed;
    w->m.n_images = w->b.n_images;
    snprintf(w->m.source, sizeof w->m.source, "%s", w->b.source);
    snprintf(w->m.broker, sizeof w->m.broker, "%.250s", w->a->broker ? w->a->broker : "");
    return 0;
}

static int path_of(const struct work *w, uint32_t index, char path[GATHER_PATH_BYTES], struct err *e)
{
    char     name[FIELD_NAME_MAX_BYTES];
    uint64_t seed;

    batch_image(&w->b, index, &seed, name);
    return gather_path(&w->g, name, path, e);
}

/* A new batch finds no file in its way; one that is resumed learns which images are there. */
static int look_around(struct work *w, struct err *e)
{
    char        path[GATHER_PATH_BYTES];
    struct stat st;
    int         rc = 0;

    if (w->resumed && !w->a->broker) {
        w->todo = calloc(w->b.n_images, sizeof *w->todo);
        if (!w->todo) return err_set(e, ERR_NOMEM, "no memory for %" PRIu32 " images", w->b.n_images);
    }
    for (uint32_t i = 0; i < w->b.n_images && rc == 0; i++) {
        rc = path_of(w, i, path, e);
        if (rc) break;
        if (w->resumed) {
            const struct manifest_done *d = &w->m.done[i];

            if (d->size_bytes && gather_same(path, d->size_bytes, d->sha256))
                w->n_there++;
            else if (w->todo)
                w->todo[w->n_todo++] = i;
        } else if (lstat(path, &st) == 0) {
            rc = err_set(e, ERR_CONFLICT, "%.250s exists: a batch never overwrites; use another folder or seed", path);
        }
    }
    return rc;
}

/* An own farm has one model: rows that name another would wait forever. */
static int check_models(const struct work *w, struct err *e)
{
    for (size_t k = 0; k < w->b.n_rows && !w->a->broker; k++)
        if (w->b.row[k].spec.model.len) {
            return err_set(e, ERR_ARG, "%s:%" PRIu32 ": a model by name needs a farm: --broker ENDPOINT", w->b.source, w->b.row[k].line);
        }
    return 0;
}

static int submit(struct work *w, struct session *s, uint64_t *job, struct err *e)
{
    size_t       n = w->todo ? w->n_todo : w->b.n_rows;
    struct item *item = calloc(n, sizeof *item);
    char(*label)[LABEL_MAX_BYTES + 1] = calloc(n, sizeof *label);
    uint8_t key[KEY_BYTES];
    int     rc = item && label ? 0 : err_set(e, ERR_NOMEM, "no memory for %zu rows", n);

    memcpy(key, w->m.key, sizeof key);
    if (w->todo) random_bytes(key, sizeof key);
    for (size_t k = 0; k < n && rc == 0; k++) {
        uint64_t          seed = 0;
        const struct row *r = w->todo ? batch_image(&w->b, w->todo[k], &seed, NULL) : &w->b.row[k];

        item[k] = (struct item){.spec = r->spec, .n_images = w->todo ? 1 : r->n};
        if (w->todo) item[k].spec.seed = seed;
        rc = row_label(r, label[k], e);
        item[k].label = str_of(label[k]);
    }
    if (rc == 0) rc = client_submit(s->client, key, w->b.source, item, n, job, e);
    free(item);
    free(label);
    return rc;
}

static int name_of(void *ctx, const struct task_info *t, char name[GATHER_PATH_BYTES], struct err *e)
{
    const struct work *w = ctx;
    char               file[FIELD_NAME_MAX_BYTES];
    uint32_t           index = w->todo ? w->todo[t->index] : t->index;
    uint64_t           seed;

    if (index >= w->b.n_images) return err_set(e, ERR_PROTO, "the broker speaks of image %" PRIu32 " of %" PRIu32, index, w->b.n_images);
    batch_image(&w->b, index, &seed, file);
    if (seed != t->seed)
        return err_set(e, ERR_PROTO, "the broker made image %" PRIu32 " with seed %" PRIu64 " instead of %" PRIu64, index, t->seed, seed);
    snprintf(name, GATHER_PATH_BYTES, "%s", file);
    return 0;
}

static int run(struct work *w, struct session *s, struct err *e)
{
    struct follow f = {
        .client = s->client, .bar = &s->bar, .gather = &w->g, .name = name_of, .name_ctx = w, .index_of = w->todo, .manifest = &w->m};
    int rc = 0;

    if (!w->resumed) rc = manifest_begin(&w->m, w->a->out, e);
    if (rc == 0) rc = submit(w, s, &f.job, e);
    if (rc) return rc;
    if (w->a->detach) {
        char text[300];

        snprintf(text, sizeof text,
                 "job %" PRIu64 ": %" PRIu32 " images submitted; fetch them with the same command and --resume instead of --detach", f.job,
                 w->b.n_images);
        bar_say(&s->bar, "submitted", text, now_ms());
        return 0;
    }
    f.n_there = w->todo ? w->n_there : 0;
    f.wait_ms = s->bar.mode == BAR_TTY ? 250 : 0;
    rc = follow_run(&f, e);
    if (rc == ERR_CANCELED) ending_interrupted(s, f.job, ", or this command with --resume", e);
    if (rc == ERR_CANCELED && s->embedded) err_set(e, rc, "interrupted; what is finished is kept: the same command with --resume goes on");
    if (rc == ERR_IO) { /* a full disk, most often */
        struct err why = *e;

        err_set(e, rc, "%.330s; then the same command with --resume goes on", why.text);
    }
    if (rc == 0) rc = ending_verdict(&f, w->b.n_images, s, e);
    follow_release(&f);
    return rc;
}

static int make_sheet(const struct work *w, struct err *e)
{
    uint32_t  n = w->b.n_images;
    uint32_t *index = calloc(n, sizeof *index);
    char    **file = calloc(n, sizeof *file);
    int       rc = index && file ? 0 : err_set(e, ERR_NOMEM, "no memory for a contact sheet");

    for (uint32_t i = 0; i < n && rc == 0; i++) {
        char path[GATHER_PATH_BYTES];

        index[i] = i;
        rc = path_of(w, i, path, e);
        if (rc == 0 && file_exists(path)) file[i] = strdup(path);
    }
    if (rc == 0) rc = report_sheet(w->sheet, file, index, n, e);
    for (uint32_t i = 0; file && i < n; i++) free(file[i]);
    free(file);
    free(index);
    return rc;
}

static int prepare(struct work *w, char model[1024], struct err *e)
{
    struct args    *a = w->a;
    enum batch_kind kind;
    int             rc = batch_kind_of(a->file, &kind, e);

    if (rc == 0) rc = session_model(a, &a->row, model, e);
    if (rc == 0) rc = row_check(&a->row, e);
    if (rc == 0) rc = find_manifest(w, e);
    if (rc == 0) rc = batch_read(&w->b, a->file, &a->row, ending_reserved(a), e);
    if (rc == 0) rc = check_same(w, e);
    if (rc == 0) rc = check_models(w, e);
    if (rc == 0) rc = gather_open(&w->g, a->out, false, e);
    if (rc == 0 && a->sheet_said) rc = ending_sheet_path(a, a->out, w->sheet, e);
    if (rc == 0 && !w->resumed) {
        char path[GATHER_PATH_BYTES];

        rc = file_join(path, sizeof path, a->out, MANIFEST_NAME, e);
        if (rc == 0 && file_exists(path)) {
            rc =
                err_set(e, ERR_CONFLICT, "%.200s holds a batch already: --resume goes on with it, another folder begins a new one", a->out);
        }
    }
    return rc ? rc : look_around(w, e);
}

int cmd_batch(struct args *a)
{
    struct session s;
    struct work    w = {.a = a};
    struct err     e = {0};
    char           model[1024];
    int            rc;

    session_begin(&s, a);
    rc = prepare(&w, model, &e);
    if (rc == 0 && w.resumed && w.n_there == w.b.n_images) {
        bar_begin(&s.bar, 0, w.b.n_images, w.n_there, now_ms());
        bar_end(&s.bar, now_ms());
    } else if (rc == 0) {
        rc = session_open(&s, model, &e);
        if (rc == 0) rc = run(&w, &s, &e);
    }
    if (a->sheet_said && !a->detach && (rc == 0 || rc == ERR_STATE) && w.g.dir[0] && w.m.done) { /* a sheet shows what failed, too */
        struct err why = {0};

        if (make_sheet(&w, &why) && rc == 0) {
            rc = why.code;
            e = why;
        }
    }
    if (rc == 0 && !a->detach) ending_where(&s, a->out, w.sheet);
    rc = session_close(&s, rc, &e);
    gather_release(&w.g);
    manifest_release(&w.m);
    batch_release(&w.b);
    free(w.todo);
    return rc;
}
