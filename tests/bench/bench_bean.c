/* bench_bean.c - Debian's beanstalkd as the reference for tests/load/run.sh: N jobs put by C connections, reserved and deleted by C others.
 *
 *   bench_bean PORT N_JOBS CONNECTIONS BYTES      a beanstalkd listens on 127.0.0.1:PORT
 *
 * One process, one command under way per connection (beanstalkd answers in order, and a real client waits, too), as tests/load has one
 * process for all its actors. Prints jobs/s from the first put to the last delete. */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"

#define CONNECTIONS_MAX 1000
#define BYTES_MAX       60000

struct bean {
    int    fd;
    bool   producer;
    char   in[BYTES_MAX + 200]; /* answers, from 0 to n_in */
    size_t n_in;
};

static char put[BYTES_MAX + 100];
static long n_put, n_deleted, n_jobs;
static int  put_len, n_bytes;

static void say(const struct bean *b, const char *at, size_t len)
{
    while (len) {
        ssize_t n = send(b->fd, at, len, 0);

        if (n <= 0) exit(1);
        at += n;
        len -= (size_t)n;
    }
}

static void next(const struct bean *b)
{
    if (!b->producer) say(b, "reserve\r\n", 9);
    else if (n_put++ < n_jobs) say(b, put, (size_t)put_len);
}

/* Bytes of the first whole answer, 0: it is not all here. */
static size_t answer(const struct bean *b, char line[100])
{
    const char *end = memmem(b->in, b->n_in, "\r\n", 2);
    size_t      len = end ? (size_t)(end - b->in) + 2 : 0;

    if (!end || len > 100) return 0;
    memcpy(line, b->in, len - 2);
    line[len - 2] = 0;
    if (strncmp(line, "RESERVED ", 9) == 0) len += (size_t)n_bytes + 2;
    return len <= b->n_in ? len : 0;
}

static void hear(struct bean *b)
{
    char    line[100], out[100];
    size_t  len;
    ssize_t n = recv(b->fd, b->in + b->n_in, sizeof b->in - b->n_in, 0);

    if (n <= 0) exit(1);
    b->n_in += (size_t)n;
    while ((len = answer(b, line))) {
        memmove(b->in, b->in + len, b->n_in -= len);
        if (strncmp(line, "RESERVED ", 9) == 0) {
            say(b, out, (size_t)snprintf(out, sizeof out, "delete %lu\r\n", strtoul(line + 9, NULL, 10)));
            continue;
        }
        n_deleted += strcmp(line, "DELETED") == 0;
        next(b);
    }
}

int main(int argc, char **argv)
{
    static struct bean bean[2 * CONNECTIONS_MAX];
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int                n = argc == 5 ? (int)strtol(argv[3], NULL, 10) : 0, epoll = epoll_create1(0), one = 1;
    int64_t            began_us;
    double             s;

    if (n < 1 || n > CONNECTIONS_MAX || (n_bytes = (int)strtol(argv[4], NULL, 10)) < 1 || n_bytes > BYTES_MAX) return 2;
    n_jobs = strtol(argv[2], NULL, 10);
    at.sin_port = htons((uint16_t)strtol(argv[1], NULL, 10));
    put_len = snprintf(put, sizeof put, "put 0 0 60 %d\r\n", n_bytes);
    memset(put + put_len, 'x', (size_t)n_bytes);
    memcpy(put + put_len + n_bytes, "\r\n", 2);
    put_len += n_bytes + 2;
    for (int i = 0; i < 2 * n; i++) {
        struct epoll_event ev = {.events = EPOLLIN, .data.ptr = &bean[i]};

        bean[i].producer = i < n;
        bean[i].fd = socket(AF_INET, SOCK_STREAM, 0);
        if (bean[i].fd < 0 || connect(bean[i].fd, (struct sockaddr *)&at, sizeof at)) return perror("beanstalkd"), 1;
        setsockopt(bean[i].fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        if (epoll_ctl(epoll, EPOLL_CTL_ADD, bean[i].fd, &ev)) return 1;
    }
    began_us = now_us();
    for (int i = 0; i < 2 * n; i++) next(&bean[i]);
    while (n_deleted < n_jobs) {
        struct epoll_event ev[256];
        int                got = epoll_wait(epoll, ev, 256, -1);

        for (int i = 0; i < got; i++) hear(ev[i].data.ptr);
    }
    s = (double)(now_us() - began_us) / 1e6;
    printf("  %ld jobs of %d bytes put, reserved and deleted by %d + %d connections in %.2f s = %.0f jobs/s\n", n_jobs, n_bytes, n, n, s, (double)n_jobs / s);
    return 0;
}
