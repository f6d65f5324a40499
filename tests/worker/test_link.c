/* test_link.c - what a mad engine may send: garbage, wrong sizes, unsealed bytes; none of it is believed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <dirent.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#include "worker/link.h"

static int  pair[2];
static char payload[LINK_PAYLOAD_MAX];

static int setup(void **state)
{
    (void)state;
    return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair);
}

static int teardown(void **state)
{
    (void)state;
    if (pair[0] >= 0) close(pair[0]);
    close(pair[1]);
    return 0;
}

static int n_open(void)
{
    DIR *d = opendir("/proc/self/fd");
    int  n = 0;

    while (readdir(d)) n++;
    closedir(d);
    return n;
}

static void there(void **state)
{
    struct link_head h = {.kind = LINK_TASK, .task = 7, .epoch = 8}, got;
    static char      text[LINK_PAYLOAD_MAX];
    struct err       e = {0};
    int              fd;

    (void)state;
    memset(text, 'x', sizeof text);
    assert_int_equal(link_recv(pair[1], &got, payload, &fd, true, &e), 0);
    assert_int_equal(link_send(pair[0], &h, (struct str){text, sizeof text}, -1, true, &e), 0);
    assert_int_equal(link_recv(pair[1], &got, payload, &fd, true, &e), 1);
    assert_int_equal(got.task, 7);
    assert_int_equal(got.payload_bytes, sizeof text);
    assert_memory_equal(payload, text, sizeof text);
    assert_int_equal(fd, -1);
    assert_int_equal(link_send(pair[0], &h, (struct str){text, sizeof text + 1}, -1, true, &e), ERR_LIMIT);
    close(pair[0]);
    pair[0] = -1;
    assert_int_equal(link_recv(pair[1], &got, payload, &fd, true, &e), ERR_IO);
    assert_int_equal(link_send(pair[1], &h, (struct str){0}, -1, true, &e), ERR_IO);
}

static void nobody_reads(void **state)
{
    struct link_head h = {.kind = LINK_STEP};
    struct err       e = {0};
    int              rc = 0;

    (void)state;
    for (int i = 0; i < 100000 && !rc; i++) rc = link_send(pair[0], &h, (struct str){0}, -1, true, &e);
    assert_int_equal(rc, ERR_BUSY);
}

static void garbage(void **state)
{
    struct link_head good = {.kind = LINK_STEP, .stage = STAGE_DENOISE, .step = 1, .steps = 2}, h, got;
    struct err       e = {0};
    uint8_t          bytes[600];
    int              fd, before = n_open();
    uint32_t         x = 1;

    (void)state;
    assert_int_equal(link_send(pair[0], &good, (struct str){0}, -1, true, &e), 0);
    assert_int_equal(link_recv(pair[1], &h, payload, &fd, true, &e), 1); /* with the magic that send puts in */
    for (int i = 0; i < 2000; i++) {
        size_t n = 1 + i % sizeof bytes;

        for (size_t k = 0; k < n; k++) bytes[k] = (uint8_t)((x = x * 1664525u + 1013904223u) >> 24);
        if (i % 2 && n > 8) memcpy(bytes, &h, 4);
        assert_true(send(pair[0], bytes, n, 0) == (ssize_t)n);
        assert_int_equal(link_recv(pair[1], &got, payload, &fd, true, &e), ERR_PROTO);
        assert_int_equal(fd, -1);
    }
#define BAD(change)                                                                                                                       \
    do {                                                                                                                                  \
        struct link_head b = h;                                                                                                           \
        change;                                                                                                                           \
        assert_true(send(pair[0], &b, sizeof b, 0) == (ssize_t)sizeof b);                                                                 \
        assert_int_equal(link_recv(pair[1], &got, payload, &fd, true, &e), ERR_PROTO);                                                    \
    } while (0)
    BAD(b.kind = 0);
    BAD(b.kind = 4);
    BAD(b.kind = 99);
    BAD(b.stage = 0);
    BAD(b.stage = 7);
    BAD(b.step = 3);
    BAD(b.steps = STEPS_MAX + 1);
    BAD(b.payload_bytes = 1);
    BAD(b.kind = LINK_OPENED);
#undef BAD
    assert_int_equal(n_open(), before);
}

static void too_long(void **state)
{
    static char      bytes[LINK_PAYLOAD_MAX + sizeof(struct link_head) + 1];
    struct link_head got;
    struct err       e = {0};
    int              fd;

    (void)state;
    assert_true(send(pair[0], bytes, sizeof bytes, 0) > 0);
    assert_int_equal(link_recv(pair[1], &got, payload, &fd, true, &e), ERR_PROTO);
}

static void results(void **state)
{
    struct str       part[2] = {{"image", 5}, {"latents", 7}};
    struct link_head h = {.kind = LINK_RESULT, .n_parts = 2, .part_bytes = {5, 7}}, got;
    struct err       e = {0};
    const uint8_t   *at;
    size_t           len;
    int              before = n_open(), fd = link_bytes_seal(part, 2, &e), open_fd, got_fd;

    (void)state;
    assert_true(fd >= 0);
    assert_int_equal(link_send(pair[0], &h, (struct str){0}, fd, true, &e), 0);
    assert_int_equal(link_recv(pair[1], &got, payload, &got_fd, true, &e), 1);
    assert_true(got_fd >= 0);
    assert_int_equal(link_bytes_map(got_fd, &got, &at, &len, &e), 0);
    assert_int_equal(len, 12);
    assert_memory_equal(at, "imagelatents", 12);
    assert_true(ftruncate(fd, 0) < 0 && write(fd, "x", 1) < 0); /* sealed */
    munmap((void *)(uintptr_t)at, len);
#define BAD(change)                                                                                                                       \
    do {                                                                                                                                  \
        struct link_head b = h;                                                                                                           \
        change;                                                                                                                           \
        assert_int_equal(link_bytes_map(got_fd, &b, &at, &len, &e), ERR_PROTO);                                                           \
    } while (0)
    BAD(b.n_parts = 0);
    BAD(b.n_parts = 3);
    BAD(b.part_bytes[0] = 6);
    BAD(b.part_bytes[1] = 0);
    BAD(b.part_bytes[1] = UINT64_MAX - 4);
    BAD(b.part_bytes[0] = PART_MAX_BYTES + 1ull);
#undef BAD
    assert_int_equal(link_bytes_map(-1, &h, &at, &len, &e), ERR_PROTO);
    open_fd = memfd_create("open", MFD_CLOEXEC);
    assert_int_equal(ftruncate(open_fd, 12), 0);
    assert_int_equal(link_bytes_map(open_fd, &h, &at, &len, &e), ERR_PROTO);
    assert_non_null(strstr(e.text, "not sealed"));
    close(open_fd);
    close(got_fd);
    close(fd);
    assert_int_equal(n_open(), before);
}

/* A descriptor that comes with garbage, or one too many, is closed. */
static void stray_descriptors(void **state)
{
    int              before = n_open(), fds[2] = {0, 1}, fd;
    char             control[CMSG_SPACE(sizeof fds)] = {0};
    struct iovec     iov = {(void *)(uintptr_t)"junk", 4};
    struct msghdr    m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr  *c = CMSG_FIRSTHDR(&m);
    struct link_head got;
    struct err       e = {0};

    (void)state;
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof fds);
    memcpy(CMSG_DATA(c), fds, sizeof fds);
    assert_int_equal(sendmsg(pair[0], &m, 0), 4);
    assert_int_equal(link_recv(pair[1], &got, payload, &fd, true, &e), ERR_PROTO);
    assert_int_equal(n_open(), before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
        T(there), T(nobody_reads), T(garbage), T(too_long), T(results), T(stray_descriptors)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
