/* syncer.c - a queue, threads that come when it grows, a list of what is done.
 * Believes: Y1 and Y2 of syncer.h; one owner (the loop's thread) puts, reaps and closes. */
#include "broker/syncer.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <utlist.h>

struct chore {
    syncer_work_f *work;
    syncer_done_f *done;
    void          *ctx;
    int            rc;
    struct err     err;
    struct chore  *prev, *next;
};

struct syncer {
    int             event_fd;
    size_t          n; /* the owner's */
    pthread_mutex_t mtx; /* guards all below */
    pthread_cond_t  wake;
    struct chore   *queue, *over;
    size_t          n_idle, n_threads, n_queued;
    pthread_t       thread[SYNC_THREADS];
    bool            stop;
};

static void *sync_main(void *arg)
{
    struct syncer *s = arg;
    struct chore  *c;
    uint64_t       one = 1;

    pthread_mutex_lock(&s->mtx);
    for (;;) {
        s->n_idle++;
        while (!s->queue && !s->stop) pthread_cond_wait(&s->wake, &s->mtx);
        s->n_idle--;
        if (!(c = s->queue)) break;
        DL_DELETE(s->queue, c);
        s->n_queued--;
        pthread_mutex_unlock(&s->mtx);
        c->rc = c->work(c->ctx, &c->err);
        pthread_mutex_lock(&s->mtx);
        if (!s->over)
            while (write(s->event_fd, &one, sizeof one) < 0 && errno == EINTR) {}
        DL_APPEND(s->over, c);
    }
    pthread_mutex_unlock(&s->mtx);
    return NULL;
}

int syncer_open(struct syncer **out, struct err *e)
{
    struct syncer *s = calloc(1, sizeof *s);

    if (!s) return err_set(e, ERR_NOMEM, "no memory for the threads that sync");
    s->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (s->event_fd < 0) {
        free(s);
        return err_errno(e, ERR_IO, "making an eventfd for the threads that sync");
    }
    pthread_mutex_init(&s->mtx, NULL);
    pthread_cond_init(&s->wake, NULL);
    *out = s;
    return 0;
}

void syncer_put(struct syncer *s, syncer_work_f *work, syncer_done_f *done, void *ctx)
{
    struct chore *c = calloc(1, sizeof *c);
    bool          alone;

    if (!c) abort();
    *c = (struct chore){.work = work, .done = done, .ctx = ctx};
    s->n++;
    pthread_mutex_lock(&s->mtx);
    DL_APPEND(s->queue, c);
    s->n_queued++;
    if (s->n_idle < s->n_queued && s->n_threads < SYNC_THREADS && pthread_create(&s->thread[s->n_threads], NULL, sync_main, s) == 0)
        s->n_threads++;
    pthread_cond_signal(&s->wake);
    alone = s->n_threads == 0; /* no thread is to be had: then it is done here and now */
    if (alone) {
        DL_DELETE(s->queue, c);
        s->n_queued--;
    }
    pthread_mutex_unlock(&s->mtx);
    if (!alone) return;
    c->rc = c->work(c->ctx, &c->err);
    pthread_mutex_lock(&s->mtx);
    DL_APPEND(s->over, c);
    pthread_mutex_unlock(&s->mtx);
    while (write(s->event_fd, &(uint64_t){1}, sizeof(uint64_t)) < 0 && errno == EINTR) {}
}

int syncer_fd(const struct syncer *s)
{
    return s->event_fd;
}

void syncer_reap(struct syncer *s)
{
    struct chore *over, *c, *next;
    uint64_t      count;

    while (read(s->event_fd, &count, sizeof count) < 0 && errno == EINTR) {}
    pthread_mutex_lock(&s->mtx);
    over = s->over;
    s->over = NULL;
    pthread_mutex_unlock(&s->mtx);
    DL_FOREACH_SAFE(over, c, next)
    {
        s->n--;
        c->done(c->ctx, c->rc, &c->err);
        free(c);
    }
}

size_t syncer_n(const struct syncer *s)
{
    return s->n;
}

void syncer_close(struct syncer *s)
{
    if (!s) return;
    pthread_mutex_lock(&s->mtx);
    s->stop = true;
    pthread_cond_broadcast(&s->wake);
    pthread_mutex_unlock(&s->mtx);
    for (size_t i = 0; i < s->n_threads; i++) pthread_join(s->thread[i], NULL);
    syncer_reap(s);
    close(s->event_fd);
    pthread_cond_destroy(&s->wake);
    pthread_mutex_destroy(&s->mtx);
    free(s);
}
