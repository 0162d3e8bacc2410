/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * What bpf_printk() writes. The kernel has it in a trace buffer; a reader of its trace_pipe takes
 * away what it reads, so this one makes a buffer of its own (a tracefs instance), and others lose
 * nothing. tracefs is reached by a mount that has no place, so nothing is mounted for anybody.
 */
#ifndef CLI_TRACE_PIPE_H
#define CLI_TRACE_PIPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct trace_line {
	uint64_t time; /* ns since the epoch; of continued lines that of the first */
	unsigned int cpu;
	int pid;
	char comm[20]; /* in whose context the program ran */
	const char *text;
	uint64_t lost; /* not 0: so many were lost before, and there is no text */
};

struct trace_pipe;

/* A buffer of its own, which sees what is printed from now on. 0 or -errno. */
int trace_pipe_open(struct trace_pipe **out);
/* Takes the buffer away. NULL is fine. */
void trace_pipe_close(struct trace_pipe *t);
int trace_pipe_fd(const struct trace_pipe *t); /* to poll for POLLIN */
/* All lines that are there. fn returning other than 0 ends it, and is the result. 0 or -errno. */
int trace_pipe_read(struct trace_pipe *t, int (*fn)(void *arg, const struct trace_line *line),
		    void *arg);

/* What the kernel's common buffer still has; nothing is taken out of it. */
int trace_past_read(int (*fn)(void *arg, const struct trace_line *line), void *arg);

/*
 * One line of a trace, without its newline, which is changed. false: it is none, but continues the
 * text before. `offset`: ns from the trace's clock to the epoch.
 */
bool trace_line_parse(char *line, int64_t offset, struct trace_line *out);

#endif
