/* stats.h - what happened since the start: counters, a line at the end. /metrics will read them when the gateway comes. */
#ifndef BROKER_STATS_H
#define BROKER_STATS_H

#include <stddef.h>
#include <stdint.h>

struct stats {
    uint64_t jobs_accepted, submits_duplicate, submits_refused;
    uint64_t tasks_leased, tasks_done, tasks_failed, tasks_canceled, tasks_requeued;
    uint64_t tasks_released, tasks_expired, tasks_hedged, tasks_recalled, batches, workers_quarantined, quotas_hit;
    uint64_t results_late, results_duplicate, results_dropped, results_damaged;
    uint64_t workers_lost, leases_kept, protocol_errors, sends_refused, stalls_forgiven, blobs_swept, blobs_bad;
    uint64_t keys_let_in, keys_refused, handshakes_failed; /* of connections; denied: of messages */
    uint64_t denied;
};

/* logfmt of all that is not 0; cut when it does not fit. */
void stats_text(const struct stats *s, char *text, size_t cap);

#endif
