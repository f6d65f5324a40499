/* crowd.h - connections that came by TCP and have not shown yet who they are: not more than CROWD_MAX of them for longer than a moment.
 *
 *   struct crowd c = {.keyed = true};   crowd_came(&c, fd, now_ms);   crowd_left(&c, fd);
 *
 * ZeroMQ gives each its memory (some KiB, and up to a whole frame) before it knows a key, takes as many as come, and drops them only after
 * ZMQ_HANDSHAKE_IVL: ten thousand silent ones are tens of MiB. Here the longest waiting is cut when there are too many: whoever means well
 * has shaken hands long before. But a farm that comes back after a restart of its broker comes all at once, and the newest would cut the others off before they
 * could answer, again and again: so nobody is cut in its first YOUNG_MS, while there are no more than CROWD_HARD_MAX.
 * Believes: whether the handshake is over can be told from how many bytes the socket has carried. A descriptor may be another connection's by
 * the time it is cut, for ZeroMQ's word comes late: then that one has to connect again, which peers do by themselves.
 * Not here: what ZeroMQ tells (curve.c). */
#ifndef PROTO_CROWD_H
#define PROTO_CROWD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CROWD_MAX      256
#define CROWD_HARD_MAX 2048
#define CROWD_YOUNG_MS 1000

struct crowd {
    bool     keyed;
    int      fd[CROWD_HARD_MAX]; /* a ring, in order of arrival; -1: it left */
    int64_t  came_ms[CROWD_HARD_MAX];
    size_t   at, n;
    uint64_t n_cut;
};

void crowd_came(struct crowd *c, int fd, int64_t now_ms);
void crowd_left(struct crowd *c, int fd);
/* Has this connection carried what a handshake takes? true also when it cannot be asked. */
bool crowd_shaken(int fd, bool keyed);

#endif
