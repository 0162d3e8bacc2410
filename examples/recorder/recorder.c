// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * recorder PIN FILE [N]: writes what comes in the ring that is pinned at PIN to FILE as pcapng, until N
 * packets or a signal. Formats: draft-ietf-opsawg-pcapng.
 */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "record.h"

#define POLL_MS 100
#define LINKTYPE_ETHERNET 1

static volatile sig_atomic_t stopped;

static void on_signal(int number)
{
	stopped = 1;
}

static void put(FILE *out, const void *data, size_t len)
{
	static const char zero[4];

	fwrite(data, 1, len, out);
	fwrite(zero, 1, (4 - len % 4) % 4, out);
}

/* A block: its type, its length, what is in it, its length again. */
static void put_block(FILE *out, uint32_t type, const void *head, size_t head_len, const void *data,
		      size_t len)
{
	uint32_t total = (uint32_t)(12 + head_len + (len + 3) / 4 * 4);

	put(out, &type, 4);
	put(out, &total, 4);
	put(out, head, head_len);
	put(out, data, len);
	put(out, &total, 4);
}

static void put_begin(FILE *out)
{
	static const struct {
		uint32_t order;
		uint16_t major, minor;
		int64_t length;
	} section = { 0x1a2b3c4d, 1, 0, -1 };
	static const struct {
		uint16_t link, reserved;
		uint32_t snap;
		uint16_t code, len;
		uint8_t value[4]; /* if_tsresol: 10^-9 s */
		uint16_t end[2];
	} interface = { LINKTYPE_ETHERNET, 0, RECORD_BYTES, 9, 1, { 9 }, { 0 } };

	put_block(out, 0x0a0d0d0a, &section, sizeof(section), NULL, 0);
	put_block(out, 1, &interface, sizeof(interface), NULL, 0);
}

struct recorder {
	FILE *out;
	uint64_t epoch; /* ns since 1970 when CLOCK_MONOTONIC was 0 */
	unsigned long left;
};

static int take(void *arg, void *data, size_t len)
{
	struct recorder *r = arg;
	const struct record *record = data;
	uint64_t time = r->epoch + record->time;
	const uint32_t head[] = { 0, (uint32_t)(time >> 32), (uint32_t)time, record->kept,
				  record->length };

	if (len < sizeof(*record) || !r->left)
		return 0;
	put_block(r->out, 6, head, sizeof(head), record->data, record->kept);
	return --r->left ? 0 : -ECANCELED;
}

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

int main(int argc, char **argv)
{
	struct recorder r = { .left = argc > 3 ? strtoul(argv[3], NULL, 10) : -1ul };
	struct ring_buffer *ring;
	int fd;

	if (argc < 3 || argc > 4) {
		fprintf(stderr, "usage: recorder PIN FILE [N]\n");
		return 2;
	}
	fd = bpf_obj_get(argv[1]);
	ring = fd < 0 ? NULL : ring_buffer__new(fd, take, &r, NULL);
	if (!ring) {
		fprintf(stderr, "recorder: cannot read %s: %s\n", argv[1], strerror(errno));
		return 1;
	}
	r.out = fopen(argv[2], "we");
	if (!r.out) {
		fprintf(stderr, "recorder: cannot write %s: %s\n", argv[2], strerror(errno));
		return 1;
	}
	r.epoch = clock_ns(CLOCK_REALTIME) - clock_ns(CLOCK_MONOTONIC);
	signal(SIGINT, on_signal);
	signal(SIGTERM, on_signal);
	put_begin(r.out);
	fflush(r.out);
	while (!stopped && r.left && ring_buffer__poll(ring, POLL_MS) >= -EINTR)
		fflush(r.out);
	ring_buffer__free(ring);
	if (fclose(r.out)) {
		fprintf(stderr, "recorder: cannot write %s: %s\n", argv[2], strerror(errno));
		return 1;
	}
	return 0;
}
