/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * What tests of the flow log stand on: three endpoints and two policies in the real compiler,
 * events between them, and a reader that gives the log's lines as JSON.
 */
#ifndef TESTS_FLOW_LAB_H
#define TESTS_FLOW_LAB_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <jansson.h>
#include <time.h>

#include "flow/flow.h"

#define SECOND 1000000000ull
#define RING 64			      /* records that the log keeps */
#define PORT_OF(slot) (100u + (slot)) /* interface of an endpoint */

/*
 * shop/web (app=web, tier=front) may send to ports 5432, 9999, 443 and 53/udp only (policy web-out);
 * shop/db (app=db) takes port 5432 from app=web only (rule 1 of only-web); bank/spy has no
 * labels and no policy.
 */
enum { WEB = 1, DB = 2, SPY = 3 };

struct fixture {
	struct policy *policy;
	struct object_list objects;
	struct flow_log *log;
	uint32_t identity[4];
	bool strange_names;
};

#define FLOW_TEST(name) cmocka_unit_test_setup_teardown(name, flow_setup, flow_teardown)
int flow_setup(void **state);
int flow_teardown(void **state);

uint64_t now_ns(clockid_t id);
/* Puts a change in force; the log is not told. */
void change(struct fixture *f, const struct policy_change *c);
/* An IPv4 SYN between two endpoints; what is special about it is set afterwards. */
struct tw_event event(const struct fixture *f, uint16_t from, uint16_t to, uint16_t dport,
		      enum tw_event_type type, enum tw_reason reason);
void take(struct fixture *f, struct tw_event ev);
/* All that a new reader gives, as a JSON array, taken in pieces of `step` bytes. */
json_t *read_lines(struct fixture *f, struct flow_filter *filter, uint32_t last, size_t step);
json_t *read_last(struct fixture *f);
/* The string or boolean at a path of keys with dots; "" when there is none. */
const char *at(const json_t *j, const char *path);
json_int_t num(const json_t *j, const char *key);

#endif
