/* synth_gguf.c - a random part straight into a quantised GGUF file: nothing larger is ever written.
 * Not here: the numbers (synth_weights.c), types and names (quantize.c), the file (pack.c). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "engine/safetensors.h"
#include "tools/quantize.h"
#include "tools/synth.h"

struct source {
    const struct synth_job *job;
    const char             *folder;
    const struct plan      *plan;
};

static void read_source(void *ctx, size_t i, int64_t from, int64_t n, float *out)
{
    const struct source *s = ctx;
    synth_read(s->job, s->folder, &s->plan->at[i], (uint64_t)from, (size_t)n, out);
}

int synth_gguf(struct synth_job *job, const char *folder, const struct plan *p, struct err *e)
{
    struct source       src = {job, folder, p};
    struct gguf_head    head;
    struct pack_tensor *t = calloc(p->n + 1, sizeof *t);
    struct pack         pack = {
                .t = t, .head = &head, .read = read_source, .ctx = &src, .n_threads = job->n_threads, .quiet = job->quiet, .stop = job->stop};
    bool llama = strcmp(folder, synth_folder[SYNTH_TEXT]) == 0;
    char path[700], name[200];
    int  rc = t ? 0 : err_set(e, ERR_NOMEM, "no memory for %zu tensors", p->n);

    gguf_head_init(&head);
    snprintf(name, sizeof name, "%s/model.gguf", folder);
    for (size_t i = 0; i < p->n && !rc; i++) {
        struct safetensors_entry s = {.name = p->at[i].name, .rank = p->at[i].rank, .usable = true};
        memcpy(s.dim, p->at[i].dim, (size_t)s.rank * sizeof *s.dim);
        rc = quantize_put(t, &pack.n, &s, i, llama, e);
    }
    if (rc || (rc = file_join(path, sizeof path, job->dir, name, e))) goto done;
    quantize_types(job->type, t, pack.n);
    gguf_put_str(&head, "general.architecture", str_of(llama ? "qwen3" : "lumina2"));
    gguf_put_str(&head, "general.name", str_of("synthetic"));
    rc = pack_write(&pack, path, e);
done:
    gguf_head_release(&head);
    free(t);
    return rc;
}
