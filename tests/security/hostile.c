/* hostile.c - a peer that speaks just enough ZMTP to be a nuisance, for the security scenarios. No library between it and the socket.
 *
 *   hostile oversize HOST PORT          handshake (NULL), then a frame of 1 MiB + 1; a frame of 8 GiB by its header; both as a command before the handshake
 *   hostile half HOST PORT N SECONDS    N connections that say nothing, held
 *   hostile slow HOST PORT N SECONDS    N connections that say their greeting a byte a second
 *   hostile more HOST PORT MIB          handshake, then frames with MORE that never end, MIB of them
 *
 * Exit 0: what was meant to happen to it did happen (it was dropped; or, for more, all was sent or it was dropped); prints what it saw. */
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <time.h>

#include "tests/security/zmtp.h"

#define PATIENCE_MS 20000

static struct sockaddr_in at;

/* Reads until the other side closes. false: it did not, for PATIENCE_MS. */
static bool dropped(int fd)
{
    char          page[4096];
    struct pollfd p = {.fd = fd, .events = POLLIN};

    for (;;) {
        if (poll(&p, 1, PATIENCE_MS) <= 0) return false;
        if (recv(fd, page, sizeof page, 0) <= 0) return true;
    }
}

static const uint8_t greeting[64] = {0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f, 3, 1, 'N', 'U', 'L', 'L'};

/* NULL mechanism, DEALER. */
static bool shake(int fd)
{
    static const uint8_t ready[] = "\x04\x1c\x05READY\x0bSocket-Type\x00\x00\x00\x06" "DEALER";
    char                 page[512];
    size_t               n = 0;

    if (!zmtp_put(fd, greeting, sizeof greeting) || !zmtp_put(fd, ready, sizeof ready - 1)) return false;
    while (n < 64 + 2) { /* its greeting and the beginning of its READY */
        ssize_t got = recv(fd, page, sizeof page, 0);

        if (got <= 0) return false;
        n += (size_t)got;
    }
    return true;
}

static int oversize(void)
{
    static const struct {
        const char *name;
        uint64_t    size;
        uint8_t     flags;
        bool        shaken;
    } row[] = {{"a frame of 1 MiB + 1", (1u << 20) + 1, 0, true},
               {"a frame of 8 GiB", 8ull << 30, 0, true},
               {"a frame of 2^64-1", UINT64_MAX, 0, true},
               {"a command of 8 GiB before the handshake", 8ull << 30, 4, false}};
    int failed = 0;

    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        uint8_t h[ZMTP_LONG_BYTES];
        int     fd = zmtp_dial(&at);
        bool    in = fd >= 0 && (!row[i].shaken || shake(fd)), gone;

        if (in && !row[i].shaken) in = zmtp_put(fd, greeting, sizeof greeting);
        gone = !in || !zmtp_put(fd, h, zmtp_long_header(h, row[i].flags, row[i].size)) || dropped(fd);
        printf("%s: %s\n", row[i].name, gone ? in ? "dropped" : "not let in" : "kept");
        failed += !gone;
        if (fd >= 0) close(fd);
    }
    return failed != 0;
}

static int hold(int n, int seconds, bool slow)
{
    int   *fd = calloc((size_t)n, sizeof *fd), n_open = 0;
    time_t end = time(NULL) + seconds;

    if (!fd) return 2;
    for (int i = 0; i < n; i++) n_open += (fd[i] = zmtp_dial(&at)) >= 0;
    printf("%d of %d open\n", n_open, n);
    fflush(stdout);
    for (size_t k = 0; time(NULL) < end; k++) {
        if (slow && k < sizeof greeting - 1)
            for (int i = 0; i < n; i++)
                if (fd[i] >= 0) (void)zmtp_put(fd[i], greeting + k, 1);
        sleep(1);
    }
    free(fd);
    return n_open == n ? 0 : 1;
}

static bool put_more(void *fd)
{
    static uint8_t page[ZMTP_LONG_BYTES + ZMTP_MORE_BYTES];

    zmtp_long_header(page, 1, ZMTP_MORE_BYTES);
    return zmtp_put(*(int *)fd, page, sizeof page);
}

static int more(uint64_t mib)
{
    int fd = zmtp_dial(&at);

    if (fd < 0 || !shake(fd)) return 2;
    zmtp_endless(mib, put_more, &fd);
    return 0;
}

int main(int argc, char **argv)
{
    struct rlimit files;
    long          n[2];

    if (argc < 4 || !zmtp_address(&at, argv[2], argv[3])) return 2;
    n[0] = argc > 4 ? strtol(argv[4], NULL, 10) : 0;
    n[1] = argc > 5 ? strtol(argv[5], NULL, 10) : 0;
    signal(SIGPIPE, SIG_IGN);
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    if (!strcmp(argv[1], "oversize")) return oversize();
    if (!strcmp(argv[1], "half") && n[0] > 0) return hold((int)n[0], (int)n[1], false);
    if (!strcmp(argv[1], "slow") && n[0] > 0) return hold((int)n[0], (int)n[1], true);
    if (!strcmp(argv[1], "more") && n[0] > 0) return more((uint64_t)n[0]);
    return 2;
}
