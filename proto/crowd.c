/* crowd.c - a ring of descriptors; the oldest is judged when another one comes. */
#include "proto/crowd.h"

#include <linux/tcp.h>
#include <netinet/in.h>
#include <stddef.h>
#include <sys/socket.h>

/* With keys the listener has sent its greeting (64 bytes), WELCOME (170) and READY (more than 40) when all is well. Without, both sides say READY
 * unasked, so the peer's greeting (64) and READY (28 and more) are counted. */
#define SENT_WITH_KEYS_BYTES 264
#define CAME_BYTES           80

bool crowd_shaken(int fd, bool keyed)
{
    struct tcp_info info = {0};
    socklen_t       len = sizeof info;

    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) || len < offsetof(struct tcp_info, tcpi_bytes_received) + sizeof info.tcpi_bytes_received)
        return true; /* no TCP socket any more, or an older kernel */
    return keyed ? info.tcpi_bytes_acked >= SENT_WITH_KEYS_BYTES : info.tcpi_bytes_received >= CAME_BYTES;
}

void crowd_came(struct crowd *c, int fd, int64_t now_ms)
{
    size_t last;

    while (c->n == CROWD_HARD_MAX || (c->n >= CROWD_MAX && now_ms - c->came_ms[c->at] > CROWD_YOUNG_MS)) {
        int oldest = c->fd[c->at];

        if (oldest >= 0 && !crowd_shaken(oldest, c->keyed)) {
            shutdown(oldest, SHUT_RDWR); /* ZeroMQ sees its end, and closes it */
            c->n_cut++;
        }
        c->at = (c->at + 1) % CROWD_HARD_MAX;
        c->n--;
    }
    last = (c->at + c->n++) % CROWD_HARD_MAX;
    c->fd[last] = fd;
    c->came_ms[last] = now_ms;
}

void crowd_left(struct crowd *c, int fd)
{
    for (size_t i = 0; i < c->n; i++) {
        size_t k = (c->at + c->n - 1 - i) % CROWD_HARD_MAX; /* the newest of that number */

        if (c->fd[k] != fd) continue;
        c->fd[k] = -1;
        return;
    }
}
