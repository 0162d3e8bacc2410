/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * A port scan as fast as one core makes it: scan_send IFNAME SECONDS CHECK_OFFSET [ROUNDS] < frame
 *
 * The frame (IPv4, as hex) goes out again and again with each destination port in turn; its
 * transport checksum, CHECK_OFFSET bytes into the frame, is kept right. Without ROUNDS it goes
 * on for SECONDS. Prints {"frames": N, "seconds": S}.
 */
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PORT_OFFSET 36 /* Ethernet, IPv4 without options, source port */
#define FRAME_ROOM 128
#define BATCH 64
#define PORTS 65536u

static void die(const char *what)
{
	fprintf(stderr, "scan_send: %s: %s\n", what, strerror(errno));
	exit(1);
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static size_t frame_read(uint8_t *frame)
{
	unsigned int byte;
	size_t n = 0;

	while (n < FRAME_ROOM && scanf("%2x", &byte) == 1)
		frame[n++] = (uint8_t)byte;
	return n;
}

static uint16_t get16(const uint8_t *at)
{
	return (uint16_t)(at[0] << 8 | at[1]);
}

static void put16(uint8_t *at, uint16_t value)
{
	at[0] = (uint8_t)(value >> 8);
	at[1] = (uint8_t)value;
}

/* RFC 1624, equation 3. */
static void port_set(uint8_t *frame, size_t check, uint16_t port)
{
	uint32_t sum = (uint16_t)~get16(frame + check) +
		       (uint32_t)(uint16_t)~get16(frame + PORT_OFFSET) + port;

	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	put16(frame + check, (uint16_t)~sum);
	put16(frame + PORT_OFFSET, port);
}

static int packet_socket(const char *ifname)
{
	struct sockaddr_ll to = { .sll_family = AF_PACKET,
				  .sll_ifindex = (int)if_nametoindex(ifname) };
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);

	if (fd < 0 || bind(fd, (const struct sockaddr *)&to, sizeof(to)))
		die(ifname);
	return fd;
}

int main(int argc, char **argv)
{
	static uint8_t frames[BATCH][FRAME_ROOM];
	struct iovec io[BATCH];
	struct mmsghdr batch[BATCH] = {};
	uint64_t sent = 0, most = UINT64_MAX;
	double begin, seconds;
	size_t len, check;
	int fd;

	if (argc < 4) {
		fputs("usage: scan_send IFNAME SECONDS CHECK_OFFSET [ROUNDS] < frame\n", stderr);
		return 2;
	}
	fd = packet_socket(argv[1]);
	seconds = strtod(argv[2], NULL);
	check = strtoul(argv[3], NULL, 10);
	if (argc > 4)
		most = strtoull(argv[4], NULL, 10) * PORTS;
	len = frame_read(frames[0]);
	if (len < PORT_OFFSET + 2 || check + 2 > len)
		die("no frame on stdin");
	for (int i = 0; i < BATCH; i++) {
		memcpy(frames[i], frames[0], len);
		io[i] = (struct iovec){ frames[i], len };
		batch[i].msg_hdr = (struct msghdr){ .msg_iov = &io[i], .msg_iovlen = 1 };
	}
	for (begin = now(); sent < most && now() - begin < seconds; sent += BATCH) {
		for (uint32_t i = 0; i < BATCH; i++)
			port_set(frames[i], check, (uint16_t)(sent + i));
		if (sendmmsg(fd, batch, BATCH, 0) < 0 && errno != ENOBUFS)
			die("sendmmsg");
	}
	printf("{\"frames\": %llu, \"seconds\": %.3f}\n", (unsigned long long)sent, now() - begin);
	close(fd);
	return 0;
}
