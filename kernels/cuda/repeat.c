/* repeat.c - a run of ops as a CUDA graph: recorded when its key comes the second time, played from then on.
 *
 * The first run is a plain one: it looks for algorithms, makes plans and grows work space, none of which a recording allows. A record holds
 * addresses and numbers of the calls, so an equal key means an equal run. Whatever moves work space forgets all records (cuda.c).
 * What cannot be recorded is run plainly, now and later.
 * Not here: what is in a key (dev.h says what must be). */
#include <cuda_runtime_api.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/ops.h"

#define RECORDS   48 /* about as many lengths of prompts and sizes of pictures as one worker meets; some 100 KiB each */
#define KEY_BYTES (DEV_KEY_BYTES + 32)

struct record {
    char            key[KEY_BYTES];
    size_t          key_bytes; /* 0: free */
    cudaGraphExec_t graph;     /* NULL: seen once, or refused */
    bool            refused;
    uint64_t        used;      /* when, for the oldest to make room */
};

struct repeats {
    struct record record[RECORDS];
    uint64_t      now;
};

void cuda_forget(struct dev *d)
{
    struct repeats *r = cuda_of(d)->repeats;

    for (int i = 0; r && i < RECORDS; i++) {
        if (r->record[i].graph) cudaGraphExecDestroy(r->record[i].graph);
        memset(&r->record[i], 0, sizeof r->record[i]);
    }
}

void cuda_repeats_close(struct dev *d)
{
    cuda_forget(d);
    free(cuda_of(d)->repeats);
    cuda_of(d)->repeats = NULL;
}

/* The key's record; *is_new: it was not there, and took the place of the oldest. */
static struct record *find(struct repeats *r, const void *key, size_t bytes, bool *is_new)
{
    struct record *oldest = &r->record[0];

    *is_new = false;
    for (int i = 0; i < RECORDS; i++) {
        struct record *o = &r->record[i];

        if (o->key_bytes == bytes && memcmp(o->key, key, bytes) == 0) {
            o->used = ++r->now;
            return o;
        }
        if (o->used < oldest->used) oldest = o;
    }
    if (oldest->graph) cudaGraphExecDestroy(oldest->graph); /* CUDA keeps it until it was played */
    memset(oldest, 0, sizeof *oldest);
    memcpy(oldest->key, key, bytes);
    oldest->key_bytes = bytes;
    oldest->used = ++r->now;
    *is_new = true;
    return oldest;
}

/* work's launches as a graph, NULL when there is something among them that cannot be recorded: nothing was done then. */
static cudaGraphExec_t record(struct dev *d, dev_work_f *work, void *ctx)
{
    struct cuda    *c = cuda_of(d);
    cudaGraph_t     graph = NULL;
    cudaGraphExec_t made = NULL;
    size_t          mark = dev_mark(d);

    if (cudaStreamBeginCapture(c->stream, cudaStreamCaptureModeThreadLocal) == cudaSuccess) {
        c->recording = true;
        work(ctx);
        c->recording = false;
        if (cudaStreamEndCapture(c->stream, &graph) != cudaSuccess) graph = NULL;
        if (d->err.code || !graph || cudaGraphInstantiate(&made, graph, 0) != cudaSuccess) made = NULL;
        if (graph) cudaGraphDestroy(graph);
        if (!made) memset(&d->err, 0, sizeof d->err); /* of the recording alone: none was there before */
    }
    if (!made) cudaGetLastError();
    dev_reset(d, mark);
    return made;
}

void cuda_repeat(struct dev *d, const void *key, size_t key_bytes, dev_work_f *work, void *ctx)
{
    struct cuda   *c = cuda_of(d);
    struct record *o;
    cudaError_t    rc;
    bool           is_new;

    cuda_enter(d);
    if (!c->repeats) c->repeats = calloc(1, sizeof *c->repeats);
    if (!c->repeats || c->only[CUDA_ONLY_CALLS] || c->recording || key_bytes > KEY_BYTES) {
        work(ctx);
        return;
    }
    o = find(c->repeats, key, key_bytes, &is_new);
    if (!is_new && !o->graph && !o->refused) {
        o->graph = record(d, work, ctx);
        o->refused = !o->graph;
    }
    if (!o->graph) {
        work(ctx);
        return;
    }
    if ((rc = cudaGraphLaunch(o->graph, c->stream)) != cudaSuccess) dev_fail(d, ERR_DEVICE, "%s: a recorded pass: %s", d->name, cudaGetErrorString(rc));
    cuda_expand_fence(d); /* the side stream was inside the graph */
    c->n_plays++;
}
