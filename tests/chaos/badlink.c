/* badlink.c - badlink A B CONTROL: two network interfaces, A and B, and a bad cable between them, for partitions.sh.
 *
 * What goes into A comes out of B and the other way round. CONTROL is a file with one line, read again all the time:
 *   LOSS_AB LOSS_BA DELAY_MS JITTER_MS KBIT        percent lost from A to B, from B to A, delay of each packet, give or take jitter, rate (0: any)
 * The interfaces are layer 3 (TUN), to be moved into network namespaces by who started this program; both go when it ends.
 * In user space, so that it needs no module of the kernel's traffic control. */
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#define PACKET_BYTES 2048
#define QUEUED_MAX   4096 /* a longer queue is a full router: what comes is lost */

struct packet {
    int64_t        due_us;
    size_t         len;
    struct packet *next;
    char           bytes[PACKET_BYTES];
};

struct way {
    int            from, to;
    struct packet *first; /* by due_us */
    int            n;
    double         loss;
    int64_t        free_us; /* when the packet before has passed, at the rate */
};

static double delay_ms, jitter_ms, kbit;

static int64_t now_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static double chance(void)
{
    return (double)random() / 2147483648.0;
}

static int interface_open(const char *name)
{
    struct ifreq r = {.ifr_flags = IFF_TUN | IFF_NO_PI};
    int          fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);

    snprintf(r.ifr_name, sizeof r.ifr_name, "%s", name);
    if (fd < 0 || ioctl(fd, TUNSETIFF, &r)) {
        fprintf(stderr, "badlink: interface %s: %s\n", name, strerror(errno));
        exit(1);
    }
    return fd;
}

static void control_read(const char *path, struct way *ab, struct way *ba)
{
    double v[5];
    FILE  *f = fopen(path, "r");
    int    n = f ? fscanf(f, "%lf %lf %lf %lf %lf", &v[0], &v[1], &v[2], &v[3], &v[4]) : 0;

    if (f) fclose(f);
    if (n != 5) {
        fprintf(stderr, "badlink: %s does not hold five numbers\n", path);
        exit(1);
    }
    ab->loss = v[0] / 100;
    ba->loss = v[1] / 100;
    delay_ms = v[2];
    jitter_ms = v[3];
    kbit = v[4];
}

static void take_in(struct way *w, int64_t now)
{
    for (;;) {
        struct packet *p = malloc(sizeof *p), **at = &w->first;
        ssize_t        len = p ? read(w->from, p->bytes, sizeof p->bytes) : -1;

        if (len <= 0 || chance() < w->loss || w->n == QUEUED_MAX) {
            free(p);
            if (len <= 0) return; /* nothing more, or the interface is down */
            continue;
        }
        p->len = (size_t)len;
        p->due_us = now + (int64_t)(1000 * (delay_ms + jitter_ms * (2 * chance() - 1)));
        if (kbit > 0) {
            w->free_us = (w->free_us > now ? w->free_us : now) + (int64_t)((double)len * 8000 / kbit);
            p->due_us += w->free_us - now;
        }
        while (*at && (*at)->due_us <= p->due_us) at = &(*at)->next;
        p->next = *at;
        *at = p;
        w->n++;
    }
}

static void let_out(struct way *w, int64_t now)
{
    while (w->first && w->first->due_us <= now) {
        struct packet *p = w->first;

        if (write(w->to, p->bytes, p->len) < 0 && errno != EIO && errno != EAGAIN && errno != ENOBUFS) perror("badlink: write"); /* EIO: the interface is down */
        w->first = p->next;
        w->n--;
        free(p);
    }
}

int main(int argc, char **argv)
{
    struct way ab = {0}, ba = {0};

    if (argc != 4) {
        fprintf(stderr, "usage: badlink A B CONTROL\n");
        return 2;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    srandom((unsigned)now_us());
    ab.from = ba.to = interface_open(argv[1]);
    ab.to = ba.from = interface_open(argv[2]);
    for (int64_t read_us = 0;;) {
        struct pollfd p[2] = {{.fd = ab.from, .events = POLLIN}, {.fd = ba.from, .events = POLLIN}};
        int64_t       now = now_us(), next = now + 20000;

        if (now - read_us > 20000) {
            control_read(argv[3], &ab, &ba);
            read_us = now;
        }
        if (ab.first && ab.first->due_us < next) next = ab.first->due_us;
        if (ba.first && ba.first->due_us < next) next = ba.first->due_us;
        poll(p, 2, next > now ? (int)((next - now + 999) / 1000) : 0);
        if ((p[0].revents | p[1].revents) & (POLLERR | POLLHUP)) usleep(10000); /* down: no news, and no spinning */
        now = now_us();
        take_in(&ab, now);
        take_in(&ba, now);
        let_out(&ab, now);
        let_out(&ba, now);
    }
}
