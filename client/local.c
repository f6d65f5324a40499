/* local.c - broker and workers as children of this process, and a guard that outlives us by a moment.
 * Believes: a command that started processes ends them, however it ends itself.
 * Invariants: L1 each child leads its own process group, so that its own children end with it and Ctrl-C on the terminal reaches only us.
 * L2 each child is asked to end when we die (PR_SET_PDEATHSIG), and the guard sees to it: it reads our pipe, whose end is our end.
 * Not here: the engine's own child (worker/), which shares its worker's group. */
#include "client/local.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"

#define END_MS       3000 /* between SIGTERM and SIGKILL */
#define SOON_MS      300
#define POLL_MS      50
#define SAY_EVERY_MS 800
#define LOG_TAIL     8192
#define SOCKET_MAX   100 /* of a path in sockaddr_un, with room */
#define ARGS_MAX     40

static void quiet_stdio(const char *log)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC), out = null;

    if (log) out = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (null >= 0) dup2(null, STDIN_FILENO);
    if (out >= 0) {
        dup2(out, STDOUT_FILENO);
        dup2(out, STDERR_FILENO);
    }
}

static void signals_default(void)
{
    sigset_t none;

    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    signal(SIGHUP, SIG_DFL);
    signal(SIGPIPE, SIG_DFL);
}

/* The guard: learns pids from the pipe; when it ends, ends them, and removes the folder. Never returns. */
static void guard(int pipe_fd, const char *dir)
{
    pid_t  pid[LOCAL_WORKERS_MAX + 1], p;
    size_t n = 0;

    setsid();
    signal(SIGINT, SIG_IGN);
    signal(SIGTERM, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    quiet_stdio(NULL);
    while (n <= LOCAL_WORKERS_MAX) {
        ssize_t got = read(pipe_fd, &p, sizeof p);

        if (got < 0 && errno == EINTR) continue;
        if (got != (ssize_t)sizeof p) break;
        if (p == 0) _exit(0); /* a tidy end: nothing is left to do */
        pid[n++] = p;
    }
    if (n > LOCAL_WORKERS_MAX) {
        while (read(pipe_fd, &p, sizeof p) == (ssize_t)sizeof p)
            if (p == 0) _exit(0);
    }
    for (int64_t left = END_MS; left > 0; left -= POLL_MS) {
        size_t alive = 0;

        for (size_t k = 0; k < n; k++) {
            if (kill(-pid[k], 0) != 0) continue;
            alive++;
            kill(-pid[k], SIGTERM);
        }
        if (!alive) break;
        sleep_ms(POLL_MS);
    }
    for (size_t k = 0; k < n; k++) kill(-pid[k], SIGKILL);
    if (dir[0]) file_remove_tree(dir, NULL);
    _exit(0);
}

static int guard_start(struct local *l, struct err *e)
{
    int fd[2];

    if (pipe2(fd, O_CLOEXEC) != 0) return err_errno(e, ERR_IO, "making a pipe failed");
    l->guard = fork();
    if (l->guard < 0) {
        close(fd[0]);
        close(fd[1]);
        return err_errno(e, ERR_IO, "starting a process failed");
    }
    if (l->guard == 0) {
        close(fd[1]);
        guard(fd[0], l->dir);
    }
    close(fd[0]);
    l->guard_fd = fd[1];
    return 0;
}

/* The program beside this one; or its name alone, for PATH. */
static void program_path(const char *name, char path[PATH_MAX])
{
    char    self[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    char   *slash;

    if (n > 0) {
        self[n] = '\0';
        slash = strrchr(self, '/');
        if (slash) *slash = '\0';
        if (slash && file_join(path, PATH_MAX, self, name, NULL) == 0 && access(path, X_OK) == 0) return;
    }
    snprintf(path, PATH_MAX, "%s", name);
}

/* keep_fd: a descriptor that the program inherits, or -1. */
static int spawn(struct local *l, const char *program, char *const argv[], const char *log_name, int keep_fd, pid_t *out, struct err *e)
{
    char  path[PATH_MAX], log[PATH_MAX] = "";
    pid_t parent = getpid(), pid;
    int   why[2], code = 0;

    program_path(program, path);
    if (!l->show_logs) (void)file_join(log, sizeof log, l->dir, log_name, NULL);
    if (pipe2(why, O_CLOEXEC) != 0) return err_errno(e, ERR_IO, "making a pipe failed");
    pid = fork();
    if (pid == 0) {
        setpgid(0, 0);
        signals_default();
        prctl(PR_SET_PDEATHSIG, SIGTERM);
        unsetenv("ZFARM_KEY"); /* of another farm */
        unsetenv("ZFARM_KEYS");
        if (getppid() != parent) _exit(1); /* we died in between */
        if (log[0]) {
            quiet_stdio(log);
        } else {
            int null = open("/dev/null", O_RDONLY | O_CLOEXEC);

            if (null >= 0) dup2(null, STDIN_FILENO);
            dup2(STDERR_FILENO, STDOUT_FILENO);
        }
        if (keep_fd >= 0) fcntl(keep_fd, F_SETFD, 0);
        execvp(path, argv);
        code = errno;
        if (write(why[1], &code, sizeof code) != (ssize_t)sizeof code) _exit(126);
        _exit(127);
    }
    close(why[1]);
    if (pid < 0) {
        close(why[0]);
        return err_errno(e, ERR_IO, "starting %s failed", program);
    }
    setpgid(pid, pid);
    if (read(why[0], &code, sizeof code) == (ssize_t)sizeof code) {
        close(why[0]);
        waitpid(pid, NULL, 0);
        return err_set(e, ERR_NOTFOUND, "%s cannot be started (%s): it is looked for beside zfarm and in PATH", program, strerror(code));
    }
    close(why[0]);
    *out = pid;
    if (write(l->guard_fd, &pid, sizeof pid) != (ssize_t)sizeof pid) return err_errno(e, ERR_IO, "speaking to the guard process failed");
    return 0;
}

/* What a child said last: its sentence ("zfarm-worker: ..."), else its last line. */
static void last_words(const struct local *l, const char *log_name, char words[300])
{
    char       path[PATH_MAX];
    struct buf b;
    struct str rest, best = {0};
    bool       spoken = false;

    buf_init(&b, (size_t)16 << 20);
    snprintf(words, 300, "it left no words");
    if (!l->show_logs && file_join(path, sizeof path, l->dir, log_name, NULL) == 0 && file_read(path, &b, NULL) == 0) {
        rest = buf_str(&b);
        if (rest.len > LOG_TAIL) rest = str_sub(rest, rest.len - LOG_TAIL, LOG_TAIL);
        while (rest.len) {
            const char *nl = memchr(rest.at, '\n', rest.len);
            struct str  line = str_sub(rest, 0, nl ? (size_t)(nl - rest.at) : rest.len);
            bool        speaks = str_starts(line, "zfarm-worker: ") || str_starts(line, "zfarm-broker: ");

            rest = str_sub(rest, line.len + 1, rest.len);
            line = str_trim(line);
            if (line.len && (speaks || !spoken)) best = speaks ? str_sub(line, 14, line.len) : line;
            spoken = spoken || speaks;
        }
        if (best.len) snprintf(words, 300, "%.*s", (int)(best.len < 299 ? best.len : 299), best.at);
    } else if (l->show_logs) {
        snprintf(words, 300, "its words are above");
    }
    buf_release(&b);
}

/* 0, or the broker's last words when it ended. */
static int broker_check(struct local *l, struct err *e)
{
    char words[300];

    if (l->broker <= 0 || waitpid(l->broker, NULL, WNOHANG) != l->broker) return 0;
    l->broker = 0;
    last_words(l, "broker.log", words);
    return err_set(e, ERR_DEVICE, "the broker ended: %s", words);
}

static int cpus(void)
{
    cpu_set_t set;

    return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
}

/* Waits until our broker listens: another one may be behind the endpoint, and our workers are not for it. */
static int broker_ready(struct local *l, int fd, volatile sig_atomic_t *stop, struct err *e)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    char          line[400];
    int           rc = 0;

    while (poll(&p, 1, SAY_EVERY_MS) <= 0)
        if (stop && *stop) return err_set(e, ERR_CANCELED, "interrupted");
    if (read(fd, line, sizeof line) > 0) return 0;
    for (int64_t left = END_MS; rc == 0 && left > 0; left -= POLL_MS) { /* it ended; its exit follows */
        rc = broker_check(l, e);
        if (rc == 0) sleep_ms(POLL_MS);
    }
    return rc ? rc : err_set(e, ERR_DEVICE, "the broker did not begin to listen");
}

static int start_broker(struct local *l, const struct local_opts *o, struct err *e)
{
    char data[PATH_MAX], fd[16], *argv[12] = {"zfarm-broker", "--listen", l->endpoint, "--data", data, "--ready-fd", fd};
    int  rc = 0, ready[2];

    if (o->keys) {
        argv[7] = "--listen";
        argv[8] = (char *)(uintptr_t)o->listen;
        argv[9] = "--keys";
        argv[10] = (char *)(uintptr_t)o->keys;
    }
    if (o->data)
        snprintf(data, sizeof data, "%s", o->data);
    else
        rc = file_join(data, sizeof data, l->dir, "data", e);
    if (rc) return rc;
    if (pipe2(ready, O_CLOEXEC) != 0) return err_errno(e, ERR_IO, "making a pipe failed");
    snprintf(fd, sizeof fd, "%d", ready[1]);
    rc = spawn(l, "zfarm-broker", argv, "broker.log", ready[1], &l->broker, e);
    close(ready[1]);
    if (rc == 0) rc = broker_ready(l, ready[0], o->stop, e);
    close(ready[0]);
    return rc;
}

static int start_worker(struct local *l, const struct local_opts *o, int k, struct err *e)
{
    const struct { const char *option, *value; } part[] = {{"--dit", o->dit}, {"--text-encoder", o->text_encoder}, {"--vae", o->vae},
                                                           {"--tokenizer", o->tokenizer}, {"--profile", o->profile}};
    char  threads[16], log[32], model[PATH_MAX], *argv[ARGS_MAX];
    int   n = 0, rc, share = o->n_threads;
    pid_t pid = 0;

    if (share == 0 && o->n_workers > 1) share = cpus() / o->n_workers > 1 ? cpus() / o->n_workers : 1;
    snprintf(model, sizeof model, "%s%s", strchr(o->model, '/') ? "" : "./", o->model); /* NAME=DIR is another thing */
    snprintf(threads, sizeof threads, "%d", share);
    snprintf(log, sizeof log, "worker-%d.log", k + 1);
    argv[n++] = "zfarm-worker";
    argv[n++] = "--broker";
    argv[n++] = l->endpoint;
    if (*o->model) {
        argv[n++] = "--model";
        argv[n++] = model;
    }
    for (size_t i = 0; i < sizeof part / sizeof *part; i++)
        if (part[i].value) {
            argv[n++] = (char *)(uintptr_t)part[i].option;
            argv[n++] = (char *)(uintptr_t)part[i].value;
        }
    if (o->device) {
        argv[n++] = "--device";
        argv[n++] = (char *)(uintptr_t)o->device;
    }
    for (int i = 0; i < o->n_places; i++) {
        argv[n++] = "--place";
        argv[n++] = (char *)(uintptr_t)o->place[i];
    }
    if (o->precision) {
        argv[n++] = "--precision";
        argv[n++] = (char *)(uintptr_t)o->precision;
    }
    if (o->vram_budget) {
        argv[n++] = "--vram-budget";
        argv[n++] = (char *)(uintptr_t)o->vram_budget;
    }
    if (share) {
        argv[n++] = "--threads";
        argv[n++] = threads;
    }
    argv[n] = NULL;
    rc = spawn(l, "zfarm-worker", argv, log, -1, &pid, e);
    if (rc == 0) l->worker[k] = pid;
    return rc;
}

int local_open(struct local *l, const struct local_opts *o, struct err *e)
{
    int rc;

    memset(l, 0, sizeof *l);
    l->guard_fd = -1;
    l->n_workers = o->n_workers;
    l->show_logs = o->show_logs;
    rc = file_temp_folder("zfarm", l->dir, sizeof l->dir, e);
    if (rc) return rc;
    if (o->listen && !o->keys)
        snprintf(l->endpoint, sizeof l->endpoint, "%s", o->listen);
    else
        snprintf(l->endpoint, sizeof l->endpoint, "ipc://%s/sock", l->dir);
    if ((!o->listen || o->keys) && strlen(l->endpoint) > SOCKET_MAX) {
        rc =
            err_set(e, ERR_LIMIT, "the temporary folder's path is too long for a socket: set TMPDIR to a shorter one (now %.150s)", l->dir);
    }
    if (rc == 0) rc = guard_start(l, e);
    if (rc == 0) rc = start_broker(l, o, e);
    for (int k = 0; k < l->n_workers && rc == 0; k++) rc = start_worker(l, o, k, e);
    if (rc) local_close(l, 0, NULL);
    return rc;
}

int local_check(struct local *l, struct err *e)
{
    char log[32];
    int  status, alive = 0; /* a farm with one worker left is a farm */
    int  rc = broker_check(l, e);

    if (rc) return rc;
    for (int k = 0; k < l->n_workers; k++) {
        if (l->worker[k] > 0 && waitpid(l->worker[k], &status, WNOHANG) == l->worker[k]) {
            l->worker[k] = -1;
            snprintf(log, sizeof log, "worker-%d.log", k + 1);
            last_words(l, log, l->words);
        }
        alive += l->worker[k] > 0;
    }
    return alive ? 0 : err_set(e, ERR_DEVICE, "%s", l->words);
}

int local_ready(struct local *l, struct client *c, local_say_f *say, void *ctx, volatile sig_atomic_t *stop, struct err *e)
{
    int64_t begun = now_ms(), said = begun;

    for (;;) {
        struct msg m;
        int        rc = local_check(l, e);

        if (rc == 0) rc = client_workers(c, &m, e);
        if (rc) return rc;
        for (size_t k = 0; k < m.workers_ok.n_workers; k++) {
            const struct worker_info *w = &m.workers_ok.worker[k];

            if (w->capacity && (str_is(w->state, "ready") || str_is(w->state, "busy"))) return 0;
        }
        if (now_ms() - said > SAY_EVERY_MS) {
            said = now_ms();
            say(ctx, said - begun);
        }
        if (stop && *stop) return err_set(e, ERR_CANCELED, "interrupted");
        sleep_ms(POLL_MS);
    }
}

/* Waits up to ms for a child; true when it is gone. */
static bool gone(pid_t pid, int64_t ms, volatile sig_atomic_t *stop)
{
    int64_t until = now_ms() + ms;

    while (waitpid(pid, NULL, WNOHANG) == 0) { /* a child waited for before is gone, too (ECHILD) */
        if (now_ms() >= until || (stop && *stop > 1)) return false;
        sleep_ms(10);
    }
    return true;
}

/* ms 0: at once. A second SIGTERM means "do not finish what you are making". */
static void end(pid_t pid, int64_t ms, volatile sig_atomic_t *stop)
{
    if (pid <= 0) return;
    if (!gone(pid, ms ? ms : SOON_MS, stop)) kill(pid, SIGTERM);
    if (!gone(pid, END_MS, NULL)) {
        kill(-pid, SIGKILL);
        (void)gone(pid, END_MS, NULL);
    }
    kill(-pid, SIGKILL); /* whatever it left in its group */
}

void local_close(struct local *l, int64_t drain_ms, volatile sig_atomic_t *stop)
{
    pid_t tidy = 0;

    for (int k = 0; k < l->n_workers; k++)
        if (l->worker[k] > 0) kill(l->worker[k], SIGTERM);
    for (int k = 0; k < l->n_workers; k++) end(l->worker[k], drain_ms, stop);
    if (l->broker > 0) kill(l->broker, SIGTERM);
    end(l->broker, END_MS, stop);
    if (l->dir[0]) file_remove_tree(l->dir, NULL);
    if (l->guard_fd >= 0) {
        if (write(l->guard_fd, &tidy, sizeof tidy) != (ssize_t)sizeof tidy) tidy = 1; /* it then finds nothing to do */
        close(l->guard_fd);
        waitpid(l->guard, NULL, 0);
    }
    memset(l, 0, sizeof *l);
    l->guard_fd = -1;
}
