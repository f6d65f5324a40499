/* link.h - what supervisor and engine child say to each other, over one SOCK_SEQPACKET pair.
 *
 *   link_send(fd, &head, payload, bytes_fd, &e);      one datagram: a fixed head, then at most LINK_PAYLOAD_MAX bytes
 *   link_recv(fd, &head, payload, &bytes_fd, &e);     bytes_fd: a sealed memfd that came along, or -1
 *
 * supervisor -> child: TASK (payload: an item as wire_item_pack() makes it), CANCEL, QUIT.
 * child -> supervisor: LOADING (done, a word), OPENED (struct link_model), OPEN_FAILED, STEP, PIXELS (no device has to do with this task any
 * more: it is only being written), RESULT (with a memfd), FAILED (code, a sentence), CRASHED (last words: the task that the dying thread had),
 * RANKS (struct link_ranks, about once a second).
 *
 * Tasks in the child: at most place_tasks() of them on devices, beside those being written; the next TASK may come after PIXELS, RESULT or
 * FAILED of one. STEP says where one is: {stage, step, rank} when a rank takes it in hand and after each step; {STAGE_WAITING} when a rank has
 * done its part and the next one has not begun yet (in an inbox, on its way): nobody is blamed for the time spent there.
 * A child of one device has one task on it, in hand from the start, and never needs to say WAITING.
 * Both ends are the same program on the same machine, so the head is a plain struct; nothing in it is believed all the same.
 * Not here: who restarts whom (child.h), what a task computes (engine_child.h). */
#ifndef WORKER_LINK_H
#define WORKER_LINK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"
#include "proto/msg.h"
#include "worker/place.h"

#define LINK_PAYLOAD_MAX (96u * 1024) /* two prompts of 32 KiB and the rest of a spec */
#define LINK_RESULT_MAX  (PARTS_MAX * (uint64_t)PART_MAX_BYTES)

enum link_kind {
    LINK_TASK = 1, LINK_CANCEL, LINK_QUIT,
    LINK_LOADING = 16, LINK_OPENED, LINK_OPEN_FAILED, LINK_STEP, LINK_PIXELS, LINK_RESULT, LINK_FAILED, LINK_CRASHED, LINK_RANKS
};

struct link_head {
    uint32_t magic;
    uint32_t kind;          /* enum link_kind */
    uint64_t task, epoch;
    uint32_t stage;         /* STEP: enum stage */
    uint32_t step, steps;   /* STEP; RESULT: steps done */
    int32_t  code;          /* FAILED, OPEN_FAILED: ERR_* */
    int32_t  width_px, height_px;
    uint32_t took_ms, text_ms, denoise_ms, decode_ms;
    uint32_t n_parts;
    uint32_t permille;      /* LOADING */
    uint64_t part_bytes[PARTS_MAX]; /* they follow one another in the memfd; kind 0 = image, 1 = latents */
    uint8_t  part_sha256[PARTS_MAX][32];
    uint32_t payload_bytes;
    uint32_t rank;          /* STEP: which of the model's ranks has it */
};

struct link_rank {
    char     device[PLACE_DEVICE_BYTES];
    uint32_t parts; /* RANK_*, or-ed */
};

struct link_model { /* payload of OPENED */
    char     profile[32], device[16], about[256];
    int32_t  steps, own_px;
    float    guidance;
    uint8_t  digest[32];
    uint32_t n_ranks; /* 0 or 1: one device has it all */
    struct link_rank rank[PLACE_RANKS_MAX];
};

struct link_load { /* of a rank */
    uint64_t used_bytes, total_bytes; /* of its device's memory, now; 0: not known */
    uint32_t busy_permille;           /* of the time since the last RANKS */
    uint32_t zero;
};

struct link_ranks { /* payload of RANKS */
    uint32_t n_ranks, zero; /* as many as OPENED said, in its order */
    struct link_load rank[PLACE_RANKS_MAX];
};

/* Waits when the other end is behind, unless no_wait: then ERR_BUSY. ERR_IO: the other end is gone. bytes_fd -1: none; stays the caller's. */
int link_send(int fd, struct link_head *h, struct str payload, int bytes_fd, bool no_wait, struct err *e);
/* CRASHED{task, epoch}, from a signal handler: nothing but one system call. */
void link_last_words(int fd, uint64_t task, uint64_t epoch);
/* 1: a message; 0: nothing there (only with no_wait); ERR_IO: the other end is gone; ERR_PROTO: not a message of ours.
 * payload has room for LINK_PAYLOAD_MAX bytes. *bytes_fd is yours. */
int link_recv(int fd, struct link_head *h, char *payload, int *bytes_fd, bool no_wait, struct err *e);
/* A memfd of these bytes that can no longer change its size or content: whoever maps it cannot be surprised. -1 and e on failure. */
int link_bytes_seal(const struct str *part, size_t n, struct err *e);
/* Maps what a RESULT brought, after checking seals and size against the head. Unmap with munmap(at, len). */
int link_bytes_map(int bytes_fd, const struct link_head *h, const uint8_t **at, size_t *len, struct err *e);

#endif
