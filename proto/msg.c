/* msg.c - the words for kinds, states and stages: one spelling for logs, JSON and people. */
#include "proto/msg.h"

const char *task_state_name(enum task_state s)
{
    switch (s) {
    case TASK_QUEUED: return "queued";
    case TASK_RUNNING: return "running";
    case TASK_DONE: return "done";
    case TASK_FAILED: return "failed";
    case TASK_CANCELED: return "canceled";
    case TASK_EXPIRED: return "expired";
    }
    return "unknown";
}

bool task_state_final(enum task_state s)
{
    return s == TASK_DONE || s == TASK_FAILED || s == TASK_CANCELED || s == TASK_EXPIRED;
}

const char *job_class_name(enum job_class c)
{
    switch (c) {
    case CLASS_INTERACTIVE: return "interactive";
    case CLASS_NORMAL: return "normal";
    case CLASS_BULK: return "bulk";
    }
    return "unknown";
}

const char *stage_name(enum stage s)
{
    switch (s) {
    case STAGE_WAITING: return "waiting";
    case STAGE_LOADING: return "loading";
    case STAGE_TEXT: return "text";
    case STAGE_DENOISE: return "denoise";
    case STAGE_DECODE: return "decode";
    case STAGE_UPLOAD: return "upload";
    }
    return "unknown";
}

const char *msg_kind_name(enum msg_kind k)
{
    switch (k) {
    case MSG_HELLO: return "HELLO";
    case MSG_WELCOME: return "WELCOME";
    case MSG_ERROR: return "ERROR";
    case MSG_GOAWAY: return "GOAWAY";
    case MSG_BYE: return "BYE";
    case MSG_SUBMIT: return "SUBMIT";
    case MSG_SUBMIT_OK: return "SUBMIT_OK";
    case MSG_CANCEL: return "CANCEL";
    case MSG_CANCEL_OK: return "CANCEL_OK";
    case MSG_JOBS: return "JOBS";
    case MSG_JOBS_OK: return "JOBS_OK";
    case MSG_SHOW: return "SHOW";
    case MSG_SHOW_OK: return "SHOW_OK";
    case MSG_EVENTS: return "EVENTS";
    case MSG_EVENTS_OK: return "EVENTS_OK";
    case MSG_FETCH: return "FETCH";
    case MSG_FETCH_OK: return "FETCH_OK";
    case MSG_COLLECTED: return "COLLECTED";
    case MSG_COLLECTED_OK: return "COLLECTED_OK";
    case MSG_WORKERS: return "WORKERS";
    case MSG_WORKERS_OK: return "WORKERS_OK";
    case MSG_CONTROL: return "CONTROL";
    case MSG_CONTROL_OK: return "CONTROL_OK";
    case MSG_READY: return "READY";
    case MSG_LEASE: return "LEASE";
    case MSG_BEAT: return "BEAT";
    case MSG_BEAT_OK: return "BEAT_OK";
    case MSG_OFFER: return "OFFER";
    case MSG_OFFER_OK: return "OFFER_OK";
    case MSG_RESULT_OK: return "RESULT_OK";
    case MSG_FAILED: return "FAILED";
    case MSG_FAILED_OK: return "FAILED_OK";
    case MSG_RELEASE: return "RELEASE";
    case MSG_LEASES: return "LEASES";
    case MSG_OFFERS: return "OFFERS";
    case MSG_OFFERS_OK: return "OFFERS_OK";
    case MSG_CHUNK: return "CHUNK";
    case MSG_CREDIT: return "CREDIT";
    }
    return "unknown";
}

const char *rank_parts_name(uint32_t parts)
{
    static const char *const names[] = {"nothing", "text", "image", "text+image", "vae", "text+vae", "image+vae", "text+image+vae"};

    return names[parts & (RANK_TEXT | RANK_IMAGE | RANK_VAE)];
}
