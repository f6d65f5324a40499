/* zmtp.h - what peers without manners share: a socket, all of a buffer, a frame's header as ZMTP 3 writes it, and frames with MORE that never end.
 * Not here: handshakes (hostile.c: NULL; keyed.c: CURVE). */
#ifndef TESTS_SECURITY_ZMTP_H
#define TESTS_SECURITY_ZMTP_H

#include <arpa/inet.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define ZMTP_LONG_BYTES 9         /* flags and eight bytes of length */
#define ZMTP_MORE_BYTES (64 << 10) /* of each frame of zmtp_endless() */

/* "127.0.0.1", "7777"; false: no address. */
static inline bool zmtp_address(struct sockaddr_in *at, const char *host, const char *port)
{
    *at = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)strtol(port, NULL, 10))};
    return inet_pton(AF_INET, host, &at->sin_addr) == 1;
}

static inline int zmtp_dial(const struct sockaddr_in *at)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd >= 0 && connect(fd, (const struct sockaddr *)at, sizeof *at) == 0) return fd;
    if (fd >= 0) close(fd);
    return -1;
}

static inline bool zmtp_put(int fd, const void *bytes, size_t len)
{
    const char *p = bytes;

    while (len) {
        ssize_t n = send(fd, p, len, MSG_NOSIGNAL);

        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        p += n;
        len -= (size_t)n;
    }
    return true;
}

static inline size_t zmtp_long_header(uint8_t h[ZMTP_LONG_BYTES], uint8_t flags, uint64_t size)
{
    h[0] = (uint8_t)(flags | 2);
    for (int i = 0; i < 8; i++) h[1 + i] = (uint8_t)(size >> (56 - 8 * i));
    return ZMTP_LONG_BYTES;
}

/* mib of frames by put_one, each ZMTP_MORE_BYTES of a message that does not end; says how far it came. */
static inline void zmtp_endless(uint64_t mib, bool (*put_one)(void *), void *arg)
{
    const uint64_t in_mib = (1 << 20) / ZMTP_MORE_BYTES;

    for (uint64_t i = 0; i < mib * in_mib; i++)
        if (!put_one(arg)) {
            printf("dropped after %llu MiB\n", (unsigned long long)(i / in_mib));
            return;
        }
    printf("sent %llu MiB\n", (unsigned long long)mib);
    fflush(stdout);
    sleep(2); /* the message stays open: what it holds is counted meanwhile */
}

#endif
