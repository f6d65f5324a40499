/* writer.c - see writer.h. One thread: a picture of 1024 x 1024 takes a tenth of a second to write, and more than that to make.
 * Invariants: W1 pictures are written in the order they came.  W2 done() is called once for each that was put. */
#include "worker/writer.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct writer {
    pthread_t       thread;
    writer_done_f  *done;
    void           *ctx;
    pthread_mutex_t mtx;               /* all below */
    pthread_cond_t  more, less;
    struct picture *queue[WRITER_MAX]; /* queue[0] is being written */
    int             n;
    bool            ending, telling;   /* telling: in done() */
};

static _Thread_local volatile uint64_t writing_task, writing_epoch;

uint64_t writer_task(uint64_t *epoch)
{
    *epoch = writing_epoch;
    return writing_task;
}

static int write_one(struct picture *p, struct err *e)
{
    int rc;

    writing_epoch = p->epoch;
    writing_task = p->task;
    rc = p->canceled ? err_set(e, ERR_CANCELED, "canceled before it was written") : picture_write(p, e);
    writing_task = 0;
    return rc;
}

static void *run(void *arg)
{
    struct writer *w = arg;

    pthread_mutex_lock(&w->mtx);
    for (;;) {
        struct err e = {0};
        int        rc;

        while (w->n == 0 && !w->ending) pthread_cond_wait(&w->more, &w->mtx);
        if (w->n == 0) break;
        struct picture *p = w->queue[0];
        pthread_mutex_unlock(&w->mtx);
        rc = write_one(p, &e);
        pthread_mutex_lock(&w->mtx);
        memmove(w->queue, w->queue + 1, (size_t)--w->n * sizeof *w->queue); /* from here on nobody else knows p */
        w->telling = true;
        pthread_cond_broadcast(&w->less);
        pthread_mutex_unlock(&w->mtx);
        w->done(w->ctx, p, rc, &e);
        pthread_mutex_lock(&w->mtx);
        w->telling = false;
        pthread_cond_broadcast(&w->less);
    }
    pthread_mutex_unlock(&w->mtx);
    return NULL;
}

int writer_open(struct writer **out, writer_done_f *done, void *ctx, struct err *e)
{
    struct writer *w = calloc(1, sizeof *w);

    if (!w) return err_set(e, ERR_NOMEM, "no memory for the writer of pictures");
    w->done = done;
    w->ctx = ctx;
    pthread_mutex_init(&w->mtx, NULL);
    pthread_cond_init(&w->more, NULL);
    pthread_cond_init(&w->less, NULL);
    if (pthread_create(&w->thread, NULL, run, w)) {
        free(w);
        return err_set(e, ERR_NOMEM, "no thread for the writer of pictures");
    }
    *out = w;
    return 0;
}

void writer_free(struct writer *w)
{
    if (!w) return;
    pthread_mutex_lock(&w->mtx);
    w->ending = true;
    pthread_cond_signal(&w->more);
    pthread_mutex_unlock(&w->mtx);
    pthread_join(w->thread, NULL);
    pthread_cond_destroy(&w->more);
    pthread_cond_destroy(&w->less);
    pthread_mutex_destroy(&w->mtx);
    free(w);
}

void writer_flush(struct writer *w)
{
    pthread_mutex_lock(&w->mtx);
    while (w->n > 0 || w->telling) pthread_cond_wait(&w->less, &w->mtx);
    pthread_mutex_unlock(&w->mtx);
}

void writer_put(struct writer *w, struct picture *p)
{
    pthread_mutex_lock(&w->mtx);
    while (w->n == WRITER_MAX) pthread_cond_wait(&w->less, &w->mtx);
    w->queue[w->n++] = p;
    pthread_cond_signal(&w->more);
    pthread_mutex_unlock(&w->mtx);
}

void writer_cancel(struct writer *w, uint64_t task, uint64_t epoch)
{
    pthread_mutex_lock(&w->mtx);
    for (int i = 0; i < w->n; i++)
        if (w->queue[i]->task == task && w->queue[i]->epoch == epoch) w->queue[i]->canceled = true;
    pthread_mutex_unlock(&w->mtx);
}
