/* foreman.c - see foreman.h. One thread that waits for signals; supervisors lead process groups of their own, so that a ^C reaches them
 * once, through here.
 * Invariants: F1 a supervisor hears SIGTERM when this process dies.  F2 none is started after a signal to end.
 * Not here: what a supervisor does with a signal (worker.c). */
#include "worker/foreman.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "engine/engine.h"

#define BACKOFF_MS     1000
#define BACKOFF_MAX_MS 60000

struct hand { /* one supervisor */
    const char *device;
    pid_t       pid;        /* 0: none */
    int64_t     restart_ms; /* when to start it again; 0: not */
    int64_t     began_ms, backoff_ms;
};

struct foreman {
    const struct worker_conf *conf;
    char                    **argv; /* of a supervisor: ours, then --one-device and, when one was given, --name */
    char                      name[NAME_MAX_BYTES + 16];
    int                       device_at, n, n_failed;
    bool                      ending;
    struct hand               hand[FOREMAN_DEVICES_MAX];
};

/* ---- which devices ---- */

static bool is_gpu(const char *word)
{
    return strncmp(word, "cuda:", 5) == 0 && word[5] && strlen(word) <= 8 && strspn(word + 5, "0123456789") == strlen(word + 5);
}

static int put(struct foreman_set *set, const char *word, struct err *e)
{
    for (int i = 0; i < set->n; i++)
        if (is_gpu(word) && !strcmp(set->word[i], word)) return err_set(e, ERR_ARG, "%s is named twice: one engine per GPU", word);
    if (set->n == FOREMAN_DEVICES_MAX) return err_set(e, ERR_ARG, "more than %d devices", FOREMAN_DEVICES_MAX);
    snprintf(set->word[set->n++], sizeof set->word[0], "%.*s", FOREMAN_WORD_MAX, word);
    return 0;
}

static int put_all(struct foreman_set *set, int n, struct err *e)
{
    char word[FOREMAN_WORD_MAX + 1];
    int  rc = 0;

    if (n > FOREMAN_DEVICES_MAX) n = FOREMAN_DEVICES_MAX;
    for (int i = 0; !rc && i < (n > 0 ? n : 1); i++) {
        snprintf(word, sizeof word, "cuda:%d", i);
        rc = put(set, word, e);
    }
    return rc;
}

int foreman_devices(struct foreman_set *set, const char *text, int (*n_gpus)(void), struct err *e)
{
    int rc = 0;

    set->n = 0;
    for (const char *at = text; !rc; at++) {
        size_t len = strcspn(at, ",");
        char   word[FOREMAN_WORD_MAX + 1];

        snprintf(word, sizeof word, "%.*s", len < sizeof word ? (int)len : 0, at);
        if (!strcmp(word, "cuda:all")) rc = put_all(set, n_gpus(), e);
        else if (!strcmp(word, "cpu") || !strcmp(word, "auto") || is_gpu(word)) rc = put(set, word, e);
        else rc = err_set(e, ERR_ARG, "there is no device \"%.*s\": auto, cpu, cuda:N, cuda:all, or a list such as cuda:0,cuda:1", len < 40 ? (int)len : 40, at);
        at += len;
        if (!*at) break;
    }
    return rc;
}

int foreman_gpus(void)
{
    int   status = 0;
    pid_t pid = fork();

    if (pid == 0) _exit(engine_gpus());
    if (pid < 0) return 0;
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR) return 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 0;
}

/* ---- supervisors ---- */

/* In the new process; never returns. */
static void become(const struct foreman *f, pid_t parent)
{
    sigset_t none;

    setpgid(0, 0);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent) _exit(1);
    execv("/proc/self/exe", f->argv);
    _exit(127);
}

static void start(struct foreman *f, struct hand *h, int64_t now)
{
    pid_t parent = getpid();

    f->argv[f->device_at] = (char *)(uintptr_t)h->device;
    if (f->conf->name_given) snprintf(f->name, sizeof f->name, "%s/%d", f->conf->name, (int)(h - f->hand));
    h->began_ms = now;
    h->restart_ms = 0;
    h->pid = fork();
    if (h->pid == 0) become(f, parent);
    if (h->pid < 0) {
        log_error("supervisor_start", "device=%s why=\"%s\"", h->device, strerror(errno));
        h->pid = 0;
        h->restart_ms = now + h->backoff_ms;
        return;
    }
    setpgid(h->pid, h->pid);
    log_info("supervisor_start", "device=%s pid=%ld", h->device, (long)h->pid);
}

static void ended(struct foreman *f, struct hand *h, int status, int64_t now)
{
    h->pid = 0;
    if (WIFEXITED(status)) {
        f->n_failed += WEXITSTATUS(status) != 0;
        log_info("supervisor_end", "device=%s status=%d", h->device, WEXITSTATUS(status));
        return;
    }
    if (f->ending) return;
    if (now - h->began_ms > BACKOFF_MAX_MS) h->backoff_ms = BACKOFF_MS;
    h->restart_ms = now + h->backoff_ms;
    log_warn("supervisor_end", "device=%s signal=%d again_in_ms=%lld", h->device, WTERMSIG(status), (long long)h->backoff_ms);
    h->backoff_ms = h->backoff_ms * 2 < BACKOFF_MAX_MS ? h->backoff_ms * 2 : BACKOFF_MAX_MS;
}

static void reap(struct foreman *f, int64_t now)
{
    pid_t pid;
    int   status;

    while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
        for (int i = 0; i < f->n; i++)
            if (f->hand[i].pid == pid) ended(f, &f->hand[i], status, now);
}

static void pass_on(struct foreman *f, int signo)
{
    f->ending = true;
    for (int i = 0; i < f->n; i++) {
        f->hand[i].restart_ms = 0;
        if (f->hand[i].pid > 0) kill(f->hand[i].pid, signo);
    }
}

static int loop(struct foreman *f, const sigset_t *heard)
{
    for (;;) {
        int64_t         now = now_ms();
        int             n_left = 0, signo;
        struct timespec wait = {.tv_nsec = 100000000};

        reap(f, now);
        for (int i = 0; i < f->n; i++) {
            struct hand *h = &f->hand[i];

            if (h->pid == 0 && h->restart_ms && now >= h->restart_ms) start(f, h, now);
            n_left += h->pid > 0 || h->restart_ms > 0;
        }
        if (n_left == 0) return f->n_failed;
        signo = sigtimedwait(heard, NULL, &wait);
        if (signo == SIGTERM || signo == SIGINT || signo == SIGHUP) pass_on(f, SIGTERM);
    }
}

int foreman_run(const struct worker_conf *conf, const struct foreman_set *set, int argc, char **argv, struct err *e)
{
    struct foreman *f = calloc(1, sizeof *f);
    sigset_t        heard;
    int             n_failed, rc = 0;

    if (!f || !(f->argv = calloc((size_t)argc + 5, sizeof *f->argv))) {
        free(f);
        return err_set(e, ERR_NOMEM, "no memory for %d workers", set->n);
    }
    if (conf->name_given && strlen(conf->name) + 3 > NAME_MAX_BYTES) {
        rc = err_set(e, ERR_ARG, "the worker's name has %zu bytes; with more than one device at most %d, since /N follows it", strlen(conf->name), NAME_MAX_BYTES - 3);
        goto done;
    }
    memcpy(f->argv, argv, (size_t)argc * sizeof *argv);
    f->argv[argc] = (char *)(uintptr_t)"--one-device";
    f->device_at = argc + 1;
    if (conf->name_given) {
        f->argv[argc + 2] = (char *)(uintptr_t)"--name";
        f->argv[argc + 3] = f->name;
    }
    f->conf = conf;
    f->n = set->n;
    sigemptyset(&heard);
    for (size_t i = 0; i < 4; i++) sigaddset(&heard, (const int[]){SIGTERM, SIGINT, SIGHUP, SIGCHLD}[i]);
    sigprocmask(SIG_BLOCK, &heard, NULL);
    for (int i = 0; i < f->n; i++) {
        f->hand[i] = (struct hand){.device = set->word[i], .backoff_ms = BACKOFF_MS};
        start(f, &f->hand[i], now_ms());
    }
    n_failed = loop(f, &heard);
    if (n_failed) rc = err_set(e, ERR_STATE, "%d of %d workers failed: each has said why", n_failed, f->n);
done:
    free(f->argv);
    free(f);
    return rc;
}
