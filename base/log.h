/* log.h - one event per line, logfmt, to stderr: time, level, event, keys.
 *
 *   log_info("task_done", "task=%" PRId64 " took_ms=%d", id, ms);
 *
 * The event comes first and is a stable word; keys follow. Prompts appear at debug only. Kernels and pure rooms are silent.
 * Thread-safe: a line is one write(2). Level by log_level_set(); default info. */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stdbool.h>

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR, LOG_NONE };

void log_level_set(enum log_level level);
bool log_level_parse(const char *word, enum log_level *out); /* debug info warn error none */
void log_name_set(const char *process);                      /* "broker", "worker", ...; borrowed */
void log_event(enum log_level level, const char *event, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

#define log_debug(event, ...) log_event(LOG_DEBUG, event, __VA_ARGS__)
#define log_info(event, ...)  log_event(LOG_INFO, event, __VA_ARGS__)
#define log_warn(event, ...)  log_event(LOG_WARN, event, __VA_ARGS__)
#define log_error(event, ...) log_event(LOG_ERROR, event, __VA_ARGS__)

#endif
