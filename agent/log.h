/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Log lines on stderr, "towpathd: LEVEL: text". The level is the process's. */
#ifndef AGENT_LOG_H
#define AGENT_LOG_H

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

/* "error" to "debug"; -EINVAL. */
int log_level_set(const char *name);
__attribute__((format(printf, 2, 3))) void log_line(enum log_level level, const char *format, ...);

#define log_error(...) log_line(LOG_ERROR, __VA_ARGS__)
#define log_warn(...) log_line(LOG_WARN, __VA_ARGS__)
#define log_info(...) log_line(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_line(LOG_DEBUG, __VA_ARGS__)

#endif
