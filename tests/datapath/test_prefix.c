/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The 16-8-8 table in real maps against a list of prefixes, through random changes. Needs root. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "datapath.h"

#define PAGES 512u
#define PREFIXES 400u
#define STEPS 30000

struct model {
	struct entry {
		uint32_t addr;
		uint8_t len;
		uint32_t word;
	} v[PREFIXES];
	size_t n;
};

struct lab {
	struct datapath *dp;
	const struct tw_ipcache_top *top;
	const struct tw_ipcache_page *pages;
};

static const void *map_of(struct datapath *dp, const char *name, size_t bytes)
{
	void *at = mmap(NULL, bytes, PROT_READ, MAP_SHARED, datapath_map_fd(dp, name), 0);

	assert_true(at != MAP_FAILED);
	return at;
}

static int lab_setup(void **state)
{
	struct lab *lab = calloc(1, sizeof(*lab));
	struct datapath_options opts = { .max_flows = 1024, .max_pages = PAGES };
	char why[512] = "";

	datapath_settings_default(&opts.settings);
	if (datapath_open(&lab->dp, &opts, why, sizeof(why)))
		fail_msg("%s", why);
	lab->top = map_of(lab->dp, "tw_ipcache_top", sizeof(*lab->top));
	lab->pages = map_of(lab->dp, "tw_ipcache_pages", PAGES * sizeof(*lab->pages));
	*state = lab;
	return 0;
}

static int lab_teardown(void **state)
{
	struct lab *lab = *state;

	munmap((void *)lab->top, sizeof(*lab->top));
	munmap((void *)lab->pages, PAGES * sizeof(*lab->pages));
	datapath_close(lab->dp);
	free(lab);
	return 0;
}

static union tw_addr mapped(uint32_t addr)
{
	union tw_addr out = {};

	out.word[2] = __builtin_bswap32(0xffff);
	out.word[3] = __builtin_bswap32(addr);
	return out;
}

/* As the programs look an address up (bpf/lib/identity.h). */
static uint32_t table_word(const struct lab *lab, uint32_t addr)
{
	uint32_t word = lab->top->word[addr >> 16];

	if ((word & TW_WORD_KIND) == TW_WORD_PAGE)
		word = lab->pages[word & TW_WORD_PAYLOAD].word[addr >> 8 & 0xff];
	if ((word & TW_WORD_KIND) == TW_WORD_PAGE)
		word = lab->pages[word & TW_WORD_PAYLOAD].word[addr & 0xff];
	return word;
}

static uint32_t mask(uint8_t len)
{
	return len ? ~0u << (32 - len) : 0;
}

static uint32_t model_word(const struct model *m, uint32_t addr)
{
	const struct entry *best = NULL;

	for (size_t i = 0; i < m->n; i++)
		if (!((addr ^ m->v[i].addr) & mask(m->v[i].len)) &&
		    (!best || m->v[i].len > best->len))
			best = &m->v[i];
	return best ? best->word : 0;
}

/* Few distinct bytes, so that prefixes nest, meet and share pages. */
static uint32_t addr_any(unsigned int *seed)
{
	static const uint8_t bytes[] = { 0, 1, 2, 127, 128, 254, 255 };
	uint32_t addr = 0;

	for (int i = 0; i < 4; i++)
		addr = addr << 8 | bytes[(unsigned int)rand_r(seed) % (i < 2 ? 2 : sizeof(bytes))];
	return addr;
}

static void step(struct lab *lab, struct model *m, unsigned int *seed)
{
	static const uint8_t lens[] = { 0, 7, 8, 15, 16, 17, 20, 23, 24, 25, 29, 31, 32, 32, 32 };
	uint8_t len = lens[(unsigned int)rand_r(seed) % sizeof(lens)];
	struct entry e = { addr_any(seed) & mask(len), len, 256 + (uint32_t)rand_r(seed) % 9000 };
	union tw_addr addr = mapped(e.addr);
	size_t at = 0;

	while (at < m->n && (m->v[at].addr != e.addr || m->v[at].len != len))
		at++;
	if (rand_r(seed) % 2 || m->n == PREFIXES) {
		assert_int_equal(datapath_prefix_del(lab->dp, &addr, len + 96), 0);
		if (at < m->n)
			m->v[at] = m->v[--m->n];
		return;
	}
	assert_int_equal(datapath_prefix_set(lab->dp, &addr, len + 96, e.word), 0);
	m->v[at] = e;
	m->n += at == m->n;
}

static void random_changes_agree_with_a_list(void **state)
{
	struct lab *lab = *state;
	struct model m = {};
	unsigned int seed = 7;

	for (int i = 0; i < STEPS; i++) {
		step(lab, &m, &seed);
		for (int k = 0; k < 8; k++) {
			uint32_t addr = addr_any(&seed);

			if (table_word(lab, addr) != model_word(&m, addr))
				fail_msg("step %d: %08x is %x, should be %x", i, addr,
					 table_word(lab, addr), model_word(&m, addr));
		}
	}
	assert_true(m.n > 20);
}

static double seconds_to_set(struct lab *lab, uint32_t base, uint32_t n)
{
	struct timespec from, to;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &from);
	for (uint32_t i = 0; i < n; i++) {
		union tw_addr addr = mapped(base + i);

		assert_int_equal(datapath_prefix_set(lab->dp, &addr, 128, 256 + i), 0);
	}
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &to);
	return (double)(to.tv_sec - from.tv_sec) + (double)(to.tv_nsec - from.tv_nsec) / 1e9;
}

/* 16 times the addresses below one top word take about 16 times as long, not 256 times. */
static void many_addresses_take_time_in_proportion(void **state)
{
	struct lab *lab = *state;
	double few = seconds_to_set(lab, 0x0a000000, 4096);
	double many = seconds_to_set(lab, 0x0b000000, 65536);

	if (many > few * 16 * 4)
		fail_msg("4096 addresses took %.4f s, 65536 took %.4f s", few, many);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(random_changes_agree_with_a_list, lab_setup,
						lab_teardown),
		cmocka_unit_test_setup_teardown(many_addresses_take_time_in_proportion, lab_setup,
						lab_teardown),
	};

	return cmocka_run_group_tests_name("prefix", tests, NULL, NULL);
}
