/* stats.c - counters into one line. */
#include "broker/stats.h"

#include <inttypes.h>
#include <stdio.h>

void stats_text(const struct stats *s, char *text, size_t cap)
{
    const struct {
        const char *name;
        uint64_t    n;
    } row[] = {
        {"jobs_accepted", s->jobs_accepted},     {"submits_duplicate", s->submits_duplicate}, {"submits_refused", s->submits_refused},
        {"tasks_leased", s->tasks_leased},       {"tasks_done", s->tasks_done},               {"tasks_failed", s->tasks_failed},
        {"tasks_canceled", s->tasks_canceled},   {"tasks_requeued", s->tasks_requeued},       {"results_late", s->results_late},
        {"results_duplicate", s->results_duplicate}, {"results_dropped", s->results_dropped}, {"results_damaged", s->results_damaged},
        {"workers_lost", s->workers_lost},       {"leases_kept", s->leases_kept},             {"protocol_errors", s->protocol_errors},
        {"sends_refused", s->sends_refused},     {"stalls_forgiven", s->stalls_forgiven},     {"blobs_swept", s->blobs_swept},
        {"blobs_bad", s->blobs_bad},             {"keys_let_in", s->keys_let_in},             {"keys_refused", s->keys_refused},
        {"handshakes_failed", s->handshakes_failed}, {"denied", s->denied},
        {"tasks_released", s->tasks_released},       {"tasks_expired", s->tasks_expired},
        {"tasks_hedged", s->tasks_hedged},       {"tasks_recalled", s->tasks_recalled},       {"batches", s->batches},
        {"workers_quarantined", s->workers_quarantined}, {"quotas_hit", s->quotas_hit},
    };
    size_t used = 0;

    text[0] = 0;
    for (size_t i = 0; i < sizeof row / sizeof *row && used < cap; i++)
        if (row[i].n) used += (size_t)snprintf(text + used, cap - used, "%s%s=%" PRIu64, used ? " " : "", row[i].name, row[i].n);
}
