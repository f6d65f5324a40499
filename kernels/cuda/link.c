/* link.c - NCCL, found at run time: a communicator of this process's GPUs, one sender and one receiver at a time. The only room that says nccl.
 * Its header is not needed to build: the few functions used, and the configuration's members, have been the same since 2.18 and stand here.
 *
 * Believes: all ranks live in this process and every transfer is issued by one thread as one group, sender's half and receiver's. So all ranks see
 * transfers in one order, and no two can wait for each other; a half that is never posted does not exist.
 * Non-blocking (config.blocking = 0): every call may answer "in progress"; then the communicators are asked until they have settled, or until the
 * deadline, or until somebody aborts. Every call on a communicator is under mtx, which is never held while waiting.
 * Invariants: N1 after comm_abort() no handle is used again.  N2 an error other than "in progress" is never retried: the caller ends the link.
 * Not here: streams, events, memory (ports.c); who sends what (kernels/link.c). */
#include "kernels/cuda/comm.h"

#include <assert.h>
#include <dlfcn.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cuda_runtime_api.h>

#include "base/clock.h"
#include "kernels/link.h"

#define OLDEST     21900 /* 2.19 */
#define NAP_US     30
#define MOST_CTAS  4     /* of the GPU's some hundred: megabytes need no more, and the rest goes on computing */
#define UINT8_TYPE 1
#define ID_BYTES   128

enum { DONE = 0, IN_PROGRESS = 7 }; /* of ncclResult_t; the others are errors */

struct id { char bytes[ID_BYTES]; }; /* ncclUniqueId: passed by value */

struct config { /* ncclConfig_t of 2.18 and later, as far as it goes: a newer library fills in the rest */
    size_t      size;
    unsigned    magic, version;
    int         blocking, cga_cluster_size, min_ctas, max_ctas;
    const char *net_name;
    int         split_share;
};

#define CONFIG {sizeof(struct config), 0xcafebeef, OLDEST, 0, INT_MIN, 1, MOST_CTAS, NULL, INT_MIN}

typedef struct ncclComm *handle;

#define TABLE(x)                                                                                        \
    x(GetVersion, int, (int *version))                                                                  \
    x(GetUniqueId, int, (struct id *id))                                                                \
    x(CommInitRankConfig, int, (handle *out, int n, struct id id, int rank, struct config *config))     \
    x(CommGetAsyncError, int, (handle c, int *state))                                                   \
    x(CommAbort, int, (handle c))                                                                       \
    x(GroupStart, int, (void))                                                                          \
    x(GroupEnd, int, (void))                                                                            \
    x(Send, int, (const void *at, size_t n, int type, int peer, handle c, struct CUstream_st *stream))  \
    x(Recv, int, (void *at, size_t n, int type, int peer, handle c, struct CUstream_st *stream))        \
    x(GetErrorString, const char *, (int rc))                                                           \
    x(GetLastError, const char *, (handle c))

struct api {
    void *lib;
#define MEMBER(name, type, args) type(*name) args;
    TABLE(MEMBER)
#undef MEMBER
};

struct comm {
    struct api      api;
    int             n, ordinal[LINK_RANKS_MAX];
    pthread_mutex_t mtx; /* all below */
    handle          rank[LINK_RANKS_MAX];
    bool            aborted;
};

/* ---- the library ---- */

static void *open_library(void)
{
    static const char *const names[] = {"libnccl.so.2", "libnccl.so", "/usr/local/cuda/lib64/libnccl.so.2"};
    void                    *lib = NULL;

    for (size_t i = 0; !lib && i < sizeof names / sizeof *names; i++) lib = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
    return lib;
}

static bool load_table(struct api *a)
{
    void *at;
#define LOAD(name, type, args)         \
    at = dlsym(a->lib, "nccl" #name);  \
    if (!at) return false;             \
    memcpy(&a->name, &at, sizeof at);
    TABLE(LOAD)
#undef LOAD
    return true;
}

static int load(struct api *a, char about[64], struct err *e)
{
    int version = 0;

    setenv("NCCL_NVLS_ENABLE", "0", 0); /* multicast is for collectives: here it would only take memory of the GPUs */
    if (!(a->lib = open_library()) || !load_table(a)) {
        snprintf(about, 64, "host copies (no NCCL on this machine)");
        return err_set(e, ERR_NOTFOUND, "%s", about);
    }
    if (a->GetVersion(&version) != DONE || version < OLDEST) {
        snprintf(about, 64, "host copies (NCCL %d is older than 2.19)", version);
        return err_set(e, ERR_NOTFOUND, "%s", about);
    }
    snprintf(about, 64, "NCCL %d.%d.%d", version / 10000, version % 10000 / 100, version % 100);
    return 0;
}

/* ---- state ---- */

/* The lock is held. */
static int refused(struct comm *c, int rank, int rc, const char *what, struct err *e)
{
    const char *more = c->rank[rank] ? c->api.GetLastError(c->rank[rank]) : NULL;

    return err_set(e, ERR_DEVICE, "cuda:%d: %s between GPUs: %s%s%.150s", c->ordinal[rank], what, c->api.GetErrorString(rc), more && *more ? ": " : "",
                   more ? more : "");
}

/* 1: all ranks have settled; 0: not yet. */
static int look(struct comm *c, const char *what, struct err *e)
{
    int settled = 1, state, rc;

    pthread_mutex_lock(&c->mtx);
    for (int i = 0; i < c->n && settled >= 0; i++) {
        if (c->aborted) {
            settled = err_set(e, ERR_DEVICE, "%s between GPUs was broken off", what);
            break;
        }
        rc = c->api.CommGetAsyncError(c->rank[i], &state);
        if (rc == DONE) rc = state;
        if (rc == IN_PROGRESS) settled = 0;
        else if (rc != DONE) settled = refused(c, i, rc, what, e);
    }
    pthread_mutex_unlock(&c->mtx);
    return settled;
}

static int settle(struct comm *c, const char *what, int64_t until_ms, struct err *e)
{
    for (;;) {
        int rc = look(c, what, e);

        if (rc) return rc == 1 ? 0 : rc;
        if (now_ms() >= until_ms) return err_set(e, ERR_DEVICE, "%s between GPUs did not come about in time", what);
        usleep(NAP_US);
    }
}

int comm_check(struct comm *c, struct err *e)
{
    int rc = look(c, "a transfer", e);

    return rc < 0 ? rc : 0;
}

/* ---- open and end ---- */

/* All ranks by one thread, in one group. */
static int init_ranks(struct comm *c, struct err *e)
{
    struct config config = CONFIG;
    struct id     id;
    int           rc = c->api.GetUniqueId(&id), end, at = 0;

    if (rc != DONE) return refused(c, 0, rc, "meeting", e);
    pthread_mutex_lock(&c->mtx);
    if ((rc = c->api.GroupStart()) == DONE) {
        for (int i = 0; i < c->n && (rc == DONE || rc == IN_PROGRESS); i++) {
            at = i;
            if (cudaSetDevice(c->ordinal[i]) != cudaSuccess) cudaGetLastError(); /* the next call says it */
            rc = c->api.CommInitRankConfig(&c->rank[i], c->n, id, i, &config);
        }
        end = c->api.GroupEnd();
        if (rc == DONE || rc == IN_PROGRESS) rc = end;
    }
    if (rc == IN_PROGRESS) rc = DONE;
    if (rc != DONE) rc = refused(c, at, rc, "meeting", e);
    for (int i = 0; i < c->n && !rc; i++)
        if (!c->rank[i]) rc = err_set(e, ERR_DEVICE, "cuda:%d: meeting between GPUs: no communicator", c->ordinal[i]);
    pthread_mutex_unlock(&c->mtx);
    return rc;
}

int comm_open(struct comm **out, const int *ordinal, int n, int64_t until_ms, char about[64], struct err *e)
{
    struct comm *c = calloc(1, sizeof *c);
    int          rc;

    assert(n >= 2 && n <= LINK_RANKS_MAX);
    if (!c) return err_set(e, ERR_NOMEM, "no memory for a link between GPUs");
    c->n = n;
    memcpy(c->ordinal, ordinal, (size_t)n * sizeof *ordinal);
    pthread_mutex_init(&c->mtx, NULL);
    rc = load(&c->api, about, e);
    if (!rc && ((rc = init_ranks(c, e)) || (rc = settle(c, "meeting", until_ms, e)))) comm_abort(c);
    if (rc) {
        pthread_mutex_destroy(&c->mtx);
        free(c); /* the library stays: its threads may still be in it */
        return rc;
    }
    *out = c;
    return 0;
}

void comm_abort(struct comm *c)
{
    pthread_mutex_lock(&c->mtx);
    if (!c->aborted) {
        c->aborted = true;
        c->api.GroupStart();
        for (int i = 0; i < c->n; i++)
            if (c->rank[i]) c->api.CommAbort(c->rank[i]);
        c->api.GroupEnd(); /* whatever it answers: this process uses them no more */
    }
    pthread_mutex_unlock(&c->mtx);
}

void comm_close(struct comm *c)
{
    if (!c) return;
    comm_abort(c); /* frees a healthy one as well, and waits for nobody */
    pthread_mutex_destroy(&c->mtx);
    free(c);
}

/* ---- a transfer ---- */

/* The lock is held. Both halves in one group. */
static int post(struct comm *c, int a, const void *from, struct CUstream_st *a_stream, int b, void *to, struct CUstream_st *b_stream, size_t bytes, int *at)
{
    int rc = c->api.GroupStart(), end;

    *at = a;
    if (rc != DONE) return rc;
    cudaSetDevice(c->ordinal[a]);
    rc = c->api.Send(from, bytes, UINT8_TYPE, b, c->rank[a], a_stream);
    if (rc == DONE || rc == IN_PROGRESS) {
        *at = b;
        cudaSetDevice(c->ordinal[b]);
        rc = c->api.Recv(to, bytes, UINT8_TYPE, a, c->rank[b], b_stream);
    }
    end = c->api.GroupEnd();
    return rc == DONE || rc == IN_PROGRESS ? end : rc;
}

int comm_send(struct comm *c, int a, const void *from, struct CUstream_st *a_stream, int b, void *to, struct CUstream_st *b_stream, size_t bytes,
              int64_t until_ms, struct err *e)
{
    int rc, at = a;

    assert(a != b && bytes > 0);
    pthread_mutex_lock(&c->mtx);
    if (c->aborted) {
        rc = err_set(e, ERR_DEVICE, "a transfer between GPUs was broken off");
    } else {
        rc = post(c, a, from, a_stream, b, to, b_stream, bytes, &at);
        rc = rc == DONE || rc == IN_PROGRESS ? 0 : refused(c, at, rc, "a transfer", e);
    }
    pthread_mutex_unlock(&c->mtx);
    return rc ? rc : settle(c, "a transfer", until_ms, e);
}
