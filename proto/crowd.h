/* crowd.h - connections that came by TCP and have not shown yet who they are: never more than CROWD_MAX of them.
 *
 *   struct crowd c = {.keyed = true};   crowd_came(&c, fd);   crowd_left(&c, fd);
 *
 * ZeroMQ gives each its memory (some KiB, and up to a whole frame) before it knows a key, takes as many as come, and drops them only after
 * ZMQ_HANDSHAKE_IVL: ten thousand silent ones are tens of MiB. Here the longest waiting is cut when there are too many: whoever means well
 * has shaken hands long before.
 * Believes: whether the handshake is over can be told from how many bytes the socket has carried. A descriptor may be another connection's by
 * the time it is cut, for ZeroMQ's word comes late: then that one has to connect again, which peers do by themselves.
 * Not here: what ZeroMQ tells (curve.c). */
#ifndef PROTO_CROWD_H
#define PROTO_CROWD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CROWD_MAX 256

struct crowd {
    bool     keyed;
    int      fd[CROWD_MAX]; /* a ring, in order of arrival; -1: it left */
    size_t   at, n;
    uint64_t n_cut;
};

void crowd_came(struct crowd *c, int fd);
void crowd_left(struct crowd *c, int fd);
/* Has this connection carried what a handshake takes? true also when it cannot be asked. */
bool crowd_shaken(int fd, bool keyed);

#endif
