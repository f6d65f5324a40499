/* link.c - datagrams between supervisor and engine child.
 * Believes: the child may have lost its mind; so kind, sizes, seals and counts are checked before anything is used.
 * Invariants: K1 a datagram is taken whole or refused.  K2 every descriptor that came along is either given out or closed. */
#include "worker/link.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define LINK_MAGIC 0x4b4e4c5au /* "ZLNK" */
#define SEALS      (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL)

union control { /* room for one descriptor, aligned */
    struct cmsghdr align;
    char           at[CMSG_SPACE(sizeof(int))];
};

int link_send(int fd, struct link_head *h, struct str payload, int bytes_fd, bool no_wait, struct err *e)
{
    union control control = {0};
    struct iovec  iov[2] = {{h, sizeof *h}, {(void *)(uintptr_t)payload.at, payload.len}};
    struct msghdr m = {.msg_iov = iov, .msg_iovlen = payload.len ? 2 : 1};
    ssize_t       n;

    if (payload.len > LINK_PAYLOAD_MAX)
        return err_set(e, ERR_LIMIT, "%zu bytes for the engine; at most %u fit", payload.len, LINK_PAYLOAD_MAX);
    h->magic = LINK_MAGIC;
    h->payload_bytes = (uint32_t)payload.len;
    if (bytes_fd >= 0) {
        struct cmsghdr *c;

        m.msg_control = control.at;
        m.msg_controllen = sizeof control.at;
        c = CMSG_FIRSTHDR(&m);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(c), &bytes_fd, sizeof bytes_fd);
    }
    do n = sendmsg(fd, &m, MSG_NOSIGNAL | (no_wait ? MSG_DONTWAIT : 0));
    while (n < 0 && errno == EINTR);
    if (n >= 0) return 0;
    if (errno == EAGAIN) return err_set(e, ERR_BUSY, "the engine does not read");
    return err_errno(e, ERR_IO, "the link to the other process");
}

void link_last_words(int fd, uint64_t task, uint64_t epoch)
{
    struct link_head h = {.magic = LINK_MAGIC, .kind = LINK_CRASHED, .task = task, .epoch = epoch};

    if (send(fd, &h, sizeof h, MSG_NOSIGNAL | MSG_DONTWAIT) < 0) return; /* a full link: the supervisor guesses */
}

static void take_descriptors(struct msghdr *m, int *out)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
        size_t n = c->cmsg_len >= CMSG_LEN(0) ? (c->cmsg_len - CMSG_LEN(0)) / sizeof(int) : 0;

        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
        for (size_t i = 0; i < n; i++) {
            int fd;

            memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
            if (*out < 0) *out = fd;
            else close(fd);
        }
    }
}

static int check_head(const struct link_head *h, size_t n, bool cut, struct err *e)
{
    if (cut || n < sizeof *h || h->magic != LINK_MAGIC) return err_set(e, ERR_PROTO, "the other process sent %zu bytes that are no message", n);
    if (h->payload_bytes != n - sizeof *h)
        return err_set(e, ERR_PROTO, "the engine announced %u bytes and sent %zu", h->payload_bytes, n - sizeof *h);
    if (!((h->kind >= LINK_TASK && h->kind <= LINK_QUIT) || (h->kind >= LINK_LOADING && h->kind <= LINK_RANKS)))
        return err_set(e, ERR_PROTO, "the engine sent a message of kind %u", h->kind);
    if (h->kind == LINK_STEP && (h->stage < STAGE_WAITING || h->stage > STAGE_UPLOAD || h->steps > STEPS_MAX || h->step > h->steps))
        return err_set(e, ERR_PROTO, "the engine reports stage %u, step %u of %u", h->stage, h->step, h->steps);
    if (h->kind == LINK_OPENED && h->payload_bytes != sizeof(struct link_model))
        return err_set(e, ERR_PROTO, "the engine describes its model in %u bytes", h->payload_bytes);
    if (h->kind == LINK_RANKS && h->payload_bytes != sizeof(struct link_ranks))
        return err_set(e, ERR_PROTO, "the engine describes its ranks in %u bytes", h->payload_bytes);
    if (h->kind == LINK_STEP && h->rank >= PLACE_RANKS_MAX) return err_set(e, ERR_PROTO, "the engine reports a rank %u", h->rank);
    return 0;
}

int link_recv(int fd, struct link_head *h, char *payload, int *bytes_fd, bool no_wait, struct err *e)
{
    union control control = {0};
    struct iovec  iov[2] = {{h, sizeof *h}, {payload, LINK_PAYLOAD_MAX}};
    struct msghdr m = {.msg_iov = iov, .msg_iovlen = 2, .msg_control = control.at, .msg_controllen = sizeof control.at};
    ssize_t       n;
    int           rc;

    *bytes_fd = -1;
    memset(h, 0, sizeof *h);
    do n = recvmsg(fd, &m, MSG_CMSG_CLOEXEC | (no_wait ? MSG_DONTWAIT : 0));
    while (n < 0 && errno == EINTR);
    if (n < 0 && errno == EAGAIN) return 0;
    if (n < 0) return err_errno(e, ERR_IO, "the link to the other process");
    take_descriptors(&m, bytes_fd);
    if (n == 0) return err_set(e, ERR_IO, "the other process closed the link");
    rc = check_head(h, (size_t)n, (m.msg_flags & MSG_TRUNC) != 0, e);
    if (!rc) return 1;
    if (*bytes_fd >= 0) close(*bytes_fd);
    *bytes_fd = -1;
    return rc;
}

int link_bytes_seal(const struct str *part, size_t n, struct err *e)
{
    int fd = memfd_create("zfarm-result", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    if (fd < 0) {
        err_errno(e, ERR_IO, "memory for a result");
        return -1;
    }
    for (size_t i = 0; i < n; i++)
        for (size_t at = 0; at < part[i].len;) {
            ssize_t k = write(fd, part[i].at + at, part[i].len - at);

            if (k < 0 && errno == EINTR) continue;
            if (k <= 0) {
                err_errno(e, ERR_IO, "memory for a result of %zu bytes", part[i].len);
                close(fd);
                return -1;
            }
            at += (size_t)k;
        }
    if (fcntl(fd, F_ADD_SEALS, SEALS)) {
        err_errno(e, ERR_IO, "sealing a result");
        close(fd);
        return -1;
    }
    return fd;
}

int link_bytes_map(int bytes_fd, const struct link_head *h, const uint8_t **at, size_t *len, struct err *e)
{
    uint64_t    total = 0;
    struct stat st;
    void       *p;

    if (h->n_parts < 1 || h->n_parts > PARTS_MAX) return err_set(e, ERR_PROTO, "the engine sent a result of %u parts", h->n_parts);
    for (uint32_t i = 0; i < h->n_parts; i++) {
        if (h->part_bytes[i] < 1 || h->part_bytes[i] > PART_MAX_BYTES)
            return err_set(e, ERR_PROTO, "the engine sent a part of %llu bytes; at most %u are taken", (unsigned long long)h->part_bytes[i],
                           PART_MAX_BYTES);
        total += h->part_bytes[i];
    }
    if (bytes_fd < 0) return err_set(e, ERR_PROTO, "the engine sent a result without its bytes");
    if ((fcntl(bytes_fd, F_GET_SEALS) & SEALS) != SEALS) return err_set(e, ERR_PROTO, "the engine sent a result that is not sealed");
    if (fstat(bytes_fd, &st) || st.st_size < 0 || (uint64_t)st.st_size != total)
        return err_set(e, ERR_PROTO, "the engine announced %llu bytes of result and sent %lld", (unsigned long long)total, (long long)st.st_size);
    p = mmap(NULL, (size_t)total, PROT_READ, MAP_SHARED, bytes_fd, 0);
    if (p == MAP_FAILED) return err_errno(e, ERR_NOMEM, "mapping a result of %llu bytes", (unsigned long long)total);
    *at = p;
    *len = (size_t)total;
    return 0;
}
